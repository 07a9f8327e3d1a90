"""Sums over the windows of a volume, one slab of planes after another.

Whole volumes do not fit a processor's cache, so that each addition waits for memory; a slab of a
few planes does. A slab lies in memory as one flat line: every row and every plane is followed by
a gap of as many zeros as a window reaches beyond its centre. The neighbour along any axis is then
a constant number of values away, no window wraps around into values of another row, and all
additions are of contiguous values.
"""

import math
from collections.abc import Iterator

import torch

from vxmprep.morph.blocks import block_size


class Slabs:
    """Layout of the slabs of volumes of one shape, and the memory to sum over their windows.

    A slab covers `depth` planes and the `radius` planes on either side that their windows reach.
    Sums over a slab are of its `depth` planes, in the same layout; what they say in the gaps means
    nothing.

    Parameters
    ----------
    like
        Tensor ``(N, X, ...)``, whose shape, type and device the slabs have. Slabs are cut along
        X; windows extend along all axes but the first.
    window
        Odd number of voxels along each axis.
    """

    def __init__(self, like: torch.Tensor, window: int) -> None:
        self.window = window
        self.radius = window // 2
        self.samples, self.length, *self.inner = like.shape
        self.padded = [size + self.radius for size in self.inner]
        self.strides = [math.prod(self.padded[axis:]) for axis in range(len(self.padded) + 1)]
        self.plane = self.strides[0]
        self.margin = self.radius * sum(self.strides[1:])
        reach = self.length + self.radius
        fitting = max(block_size(like.device) // (self.samples * self.plane), 1)
        self.depth = max(math.ceil(reach / math.ceil(reach / fitting)), 2 * self.radius)
        self._like = like
        self._spare = self.slab(), self.slab()

    def __iter__(self) -> Iterator[int]:
        """First plane of each slab; together they reach a radius beyond the last plane."""
        return iter(range(0, self.length + self.radius, self.depth))

    def slab(self) -> torch.Tensor:
        """Zeros for a slab and the planes its windows reach."""
        planes = self.depth + 2 * self.radius
        return self._like.new_zeros(self.samples, planes * self.plane + 2 * self.margin)

    def sums(self) -> torch.Tensor:
        """Memory for the sums over a slab."""
        return self._like.new_empty(self.samples, self.depth * self.plane)

    def load(self, volume: torch.Tensor, first: int, slab: torch.Tensor) -> torch.Tensor:
        """Fill the slab whose windows are centred from plane `first`; zeros outside the volume."""
        planes = self._inside(slab[:, self.margin : slab.shape[1] - self.margin])
        first -= self.radius
        low, high = max(first, 0), min(first + planes.shape[1], self.length)
        planes[:, : low - first].zero_()
        planes[:, low - first : high - first].copy_(volume[:, low:high])
        planes[:, high - first :].zero_()
        return slab

    def store(
        self, sums: torch.Tensor, first: int, volume: torch.Tensor, scale: float = 1
    ) -> None:
        """Write planes from `first`, times `scale`, where they are planes of the volume."""
        low, high = max(first, 0), min(first + self.depth, self.length)
        if high > low:
            planes = self._inside(sums)[:, low - first : high - first]
            torch.mul(planes, scale, out=volume[:, low:high])

    def clear(self, sums: torch.Tensor, first: int) -> None:
        """Set what lies outside the volume to zero: gaps, and planes behind the last."""
        planes = sums.unflatten(1, (-1, *self.padded))
        planes[:, max(self.length - first, 0) :].zero_()
        for axis, size in enumerate(self.inner, start=2):
            planes.narrow(axis, size, self.radius).zero_()

    def part(self, slab: torch.Tensor, plane: int) -> torch.Tensor:
        """`depth` planes of a slab from its plane `plane`; 0 is the first that windows reach."""
        return slab[:, self.margin + plane * self.plane :][:, : self.depth * self.plane]

    def advance(self, slab: torch.Tensor) -> None:
        """Move the last planes, which the next slab's windows reach, to a slab's beginning."""
        kept = slab[:, self.margin :][:, : 2 * self.radius * self.plane]
        kept.copy_(slab[:, self.margin + self.depth * self.plane :][:, : kept.shape[1]])

    def sum(self, slab: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Sum over the window around each voxel of the slab's `depth` planes.

        Nothing is subtracted, as in differences of cumulative sums, which lose digits.
        """
        spare, other = self._spare
        for stride in self.strides[:-1]:
            slab = _running_sum(slab, self.window, stride, other, spare)
            spare, other = other, spare
        return _running_sum(slab, self.window, self.strides[-1], spare, out)

    def _inside(self, flat: torch.Tensor) -> torch.Tensor:
        """View the voxels of planes without the gaps, ``(N, planes, ...)``."""
        planes = flat.unflatten(1, (-1, *self.padded))
        for axis, size in enumerate(self.inner, start=2):
            planes = planes.narrow(axis, 0, size)
        return planes


def _running_sum(
    line: torch.Tensor, window: int, stride: int, spare: torch.Tensor, out: torch.Tensor
) -> torch.Tensor:
    """Add `window` values, `stride` apart, into the beginning of `out`.

    The shifted lines are rows of one view that overlaps itself, which torch adds in registers.
    Where rows and values are both 1 apart its sum is slow: pairs are added first, then 2 apart.
    """
    length = line.shape[1] - (window - 1) * stride
    out = out[:, :length]
    if stride > 1 or window < 3:
        return torch.sum(_shifted(line, window, stride, length), 0, out=out)
    size = line.shape[1] - stride
    pairs = torch.add(line[:, :size], line[:, stride:], out=spare[:, :size])
    torch.sum(_shifted(pairs, window // 2, 2 * stride, length), 0, out=out)
    return out.add_(line[:, -length:])


def _shifted(line: torch.Tensor, count: int, stride: int, length: int) -> torch.Tensor:
    """View ``(count, N, length)`` whose row i begins i times `stride` values later."""
    shape = (count, line.shape[0], length)
    return line.as_strided(shape, (stride, line.stride(0), 1))
