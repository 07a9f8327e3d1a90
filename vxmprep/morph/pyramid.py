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
from vxmprep.morph.smooth import along_axis, gaussian, gaussian_matrix

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
    return restrict(displacement, 0) / 2


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
    count = coarse.shape[axis]
    between = coarse.narrow(axis, 0, count - 1) + coarse.narrow(axis, 1, count - 1)
    between *= 0.5
    fine = coarse.new_empty(
        [size if d == coarse.ndim + axis else n for d, n in enumerate(coarse.shape)]
    )
    lines = fine.movedim(axis, 0)
    lines[0::2] = coarse.movedim(axis, 0)[: (size + 1) // 2]
    lines[1::2] = between.movedim(axis, 0)[: size // 2]
    return fine


def to_state_grid(displacement: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Bring a field that covers the finer grid, at any resolution, to the coarser one."""
    if tuple(displacement.shape[2:]) == state_shape(shape):
        return displacement
    fine = resize(displacement, shape)
    wanted = [2 * size - 1 for size in state_shape(shape)]
    beyond = [want - size for want, size in zip(wanted, shape, strict=True)]
    pad = [amount for after in reversed(beyond) for amount in (0, after)]
    return functional.pad(fine, pad, mode="replicate")[..., ::2, ::2, ::2] / 2


def restrict(volume: torch.Tensor, sigma: float) -> torch.Tensor:
    """Average a volume ``(1, C, X, Y, Z)`` onto the coarser grid, then smooth it there.

    The average is the transpose of linear interpolation, halved along each axis.
    """
    for axis in (-3, -2, -1):
        matrix = _restriction(volume.shape[axis], sigma, volume.dtype, volume.device)
        volume = along_axis(matrix, volume, axis)
    return volume


@functools.lru_cache(maxsize=64)
def _restriction(
    size: int, sigma: float, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Restrict a line of `size` voxels, then smooth it: a matrix (size // 2 + 1, size)."""
    count = size // 2 + 1
    distance = torch.arange(size)[None, :] - 2 * torch.arange(count)[:, None]
    average = (1 - distance.abs() / 2).clamp(min=0).to(dtype) / 2
    average = average.to(device)
    return gaussian_matrix(count, sigma, dtype, device) @ average if sigma > 0 else average
