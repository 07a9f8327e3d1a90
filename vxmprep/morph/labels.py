"""Label maps through a field."""

import itertools

import torch
from torch.nn import functional

from vxmprep.morph.sampling import check_image, displaced

CHUNK = 1 << 20
"""Voxels handled at a time."""


@torch.no_grad()
def warp_labels(labels: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """Resample a label map through a field, each voxel taking the label with the largest weight.

    The result is that of warping every label's indicator image linearly and taking the label whose
    indicator is largest, among equals the smallest label: borders are smoother than those of the
    nearest neighbour. Only the corners of the cell that a position lies in weigh there, so no
    indicator image is made and the number of labels costs nothing.

    Parameters
    ----------
    labels
        Integer or bool tensor ``(N, 1, X, Y, Z)`` or ``(N, 1, X, Y)``, on the grid that
        `displacement` counts its voxels in. Outside it is the background, label 0.
    displacement
        Field ``(N, 3, ...)`` or ``(N, 2, ...)``, voxels.

    Returns
    -------
    torch.Tensor
        Labels ``(N, 1)`` and the spatial shape of `displacement`, of the type of `labels`; 0 where
        the displacement is not a number.

    Raises
    ------
    ValueError
        The labels are not integers, or the shapes do not go together.
    """
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"warp_labels: labels is {labels.dtype}; give integers")
    check_image("warp_labels", labels, displacement)
    if labels.shape[1] != 1:
        raise ValueError(
            f"warp_labels: labels has {labels.shape[1]} channels; give one integer per voxel"
        )
    wide = (
        torch.int64 if labels.dtype in (torch.int64, torch.uint32, torch.uint64) else torch.int32
    )
    result = torch.empty(
        (len(labels), 1, *displacement.shape[2:]), dtype=wide, device=labels.device
    )
    for volume, field, out in zip(labels[:, 0].to(wide), displacement, result, strict=True):
        cells = _Cells(volume)
        positions, flat = displaced(field[None])[0].flatten(1), out.view(-1)
        for begin in range(0, flat.numel(), CHUNK):
            chunk = slice(begin, begin + CHUNK)
            flat[chunk] = cells.at(positions[:, chunk])
    return result.to(labels.dtype)


class _Cells:
    """One label map seen as cells between voxels: where all corners agree there is no contest."""

    def __init__(self, labels: torch.Tensor) -> None:
        self.sizes = labels.shape
        padded = functional.pad(labels, [1] * 2 * labels.ndim)
        self.strides = padded.stride()
        self.flat = padded.view(-1)
        self.corners = list(itertools.product((0, 1), repeat=labels.ndim))
        mixed = torch.zeros_like(padded, dtype=torch.bool)
        inside = mixed[tuple(slice(0, -1) for _ in self.sizes)]
        first = padded[tuple(slice(0, -1) for _ in self.sizes)]
        for corner in self.corners[1:]:
            inside |= padded[tuple(slice(c, c - 1 or None) for c in corner)] != first
        self.mixed = mixed.view(-1)

    def at(self, positions: torch.Tensor) -> torch.Tensor:
        """Labels at positions ``(dims, M)`` in voxels."""
        index, shares = 0, []
        for line, size, stride in zip(positions, self.sizes, self.strides, strict=True):
            line = line.nan_to_num(nan=-1.0).clamp(-1, size)
            low = line.floor().clamp(max=size - 1)
            shares.append(line - low)
            index = index + (low.long() + 1) * stride
        result = self.flat[index]
        contested = self.mixed[index].nonzero()[:, 0]
        fractions = [share[contested] for share in shares]
        result[contested] = self._heaviest(index[contested], fractions)
        return result

    def _heaviest(self, index: torch.Tensor, fractions: list[torch.Tensor]) -> torch.Tensor:
        """Label with the largest sum of weights among the corners of each cell."""
        labels, weights = [], []
        for corner in self.corners:
            offset = sum(c * stride for c, stride in zip(corner, self.strides, strict=True))
            labels.append(self.flat[index + offset])
            weight = torch.ones_like(fractions[0])
            for upper, fraction in zip(corner, fractions, strict=True):
                weight = weight * (fraction if upper else 1 - fraction)
            weights.append(weight)
        best, most = labels[0], torch.zeros_like(weights[0])
        for label in labels:
            total = torch.zeros_like(most)
            for other, weight in zip(labels, weights, strict=True):
                total += weight * (other == label)
            wins = (total > most) | ((total == most) & (label < best))
            best, most = torch.where(wins, label, best), torch.where(wins, total, most)
        return best
