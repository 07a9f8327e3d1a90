"""From one resolution to the next: voxel i of the coarser grid is voxel 2 i of the finer one.

A line of n voxels has n // 2 + 1 on the coarser grid, so that every fine voxel has coarse
neighbours on both sides; where n is even the last coarse voxel lies one fine voxel beyond the
grid.
"""

import functools
from collections.abc import Sequence

import torch
from torch.nn import functional

from vxmprep.morph.field import resize
from vxmprep.morph.smooth import along_axis, gaussian

IMAGE_SIGMA = 1.0


def state_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of the coarser grid."""
    return tuple(size // 2 + 1 for size in shape)


def halve_image(image: torch.Tensor) -> torch.Tensor:
    """Smooth an image ``(1, 1, X, Y, Z)`` and take every second voxel, zero beyond the grid."""
    smooth = gaussian(image, IMAGE_SIGMA)
    padded = functional.pad(smooth, [0, 2] * 3)
    x, y, z = state_shape(image.shape[2:])
    return padded[..., : 2 * x : 2, : 2 * y : 2, : 2 * z : 2].contiguous()


def halve_mask(mask: torch.Tensor) -> torch.Tensor:
    """Mark the coarser voxels that lie mostly in a mask of zeros and ones."""
    return (halve_image(mask) > 0.5).to(mask.dtype)


def halve_field(displacement: torch.Tensor) -> torch.Tensor:
    """Bring a field ``(1, 3, X, Y, Z)`` to the coarser grid, in that grid's voxels."""
    return restrict(displacement) / 2


def to_image_grid(displacement: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Interpolate a field linearly from the coarser grid to the finer one, in the finer voxels.

    Parameters
    ----------
    displacement
        Field ``(1, 3, X // 2 + 1, Y // 2 + 1, Z // 2 + 1)``, voxels of its grid.
    shape
        Spatial shape (X, Y, Z) of the finer grid.

    Returns
    -------
    torch.Tensor
        Field ``(1, 3, X, Y, Z)``, voxels of the finer grid.
    """
    if tuple(displacement.shape[2:]) != state_shape(shape):
        raise ValueError(
            f"to_image_grid: a field of shape {tuple(displacement.shape[2:])} does not belong to "
            f"a grid of shape {tuple(shape)}; it should be {state_shape(shape)}"
        )
    result = displacement * 2
    for axis in (-1, -2, -3):
        result = _interleave(result, axis, shape[axis])
    return result


def _interleave(coarse: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """Voxels of the finer line: the coarser ones and the means of neighbours, in turn."""
    fine = coarse.new_empty(_resized(coarse.shape, axis, size))
    source, lines = coarse.movedim(axis, 0), fine.movedim(axis, 0)
    lines[0::2] = source[: (size + 1) // 2]
    between = lines[1::2]
    torch.add(source[: size // 2], source[1 : size // 2 + 1], out=between).mul_(0.5)
    return fine


def _resized(shape: Sequence[int], axis: int, size: int) -> list[int]:
    """Give a shape with another size along one (negative) axis."""
    shape = list(shape)
    shape[axis] = size
    return shape


def to_state_grid(displacement: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Bring a field that covers the finer grid, at any resolution, to the coarser one."""
    if tuple(displacement.shape[2:]) == state_shape(shape):
        return displacement
    fine = resize(displacement, shape)
    wanted = [2 * size - 1 for size in state_shape(shape)]
    beyond = [want - size for want, size in zip(wanted, shape, strict=True)]
    pad = [amount for after in reversed(beyond) for amount in (0, after)]
    return functional.pad(fine, pad, mode="replicate")[..., ::2, ::2, ::2] / 2


def restrict(volume: torch.Tensor) -> torch.Tensor:
    """Average a volume ``(..., X, Y, Z)`` onto the coarser grid.

    The average is the transpose of linear interpolation, halved along each axis.
    """
    for axis in (-3, -2):
        volume = _average(volume, axis)
    matrix = _restriction(volume.shape[-1], volume.dtype, volume.device)
    return along_axis(matrix, volume, -1)  # slices of a line's every second voxel are slow


def _average(fine: torch.Tensor, axis: int) -> torch.Tensor:
    """Average the lines along one axis: half a voxel and a quarter of each neighbour."""
    size = fine.shape[axis]
    coarse = fine.new_zeros(_resized(fine.shape, axis, size // 2 + 1))
    lines, result = fine.movedim(axis, 0), coarse.movedim(axis, 0)
    torch.mul(lines[0::2], 0.5, out=result[: (size + 1) // 2])
    for first in (0, 1):
        result[first : first + size // 2].add_(lines[1::2], alpha=0.25)
    return coarse


@functools.lru_cache(maxsize=64)
def _restriction(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Average a line of `size` voxels as a matrix (size // 2 + 1, size)."""
    count = size // 2 + 1
    distance = torch.arange(size)[None, :] - 2 * torch.arange(count)[:, None]
    average = (1 - distance.abs() / 2).clamp(min=0).to(dtype) / 2
    return average.to(device)
