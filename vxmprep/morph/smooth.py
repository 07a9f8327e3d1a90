"""Sums over windows and Gaussian smoothing along axes, without dense convolutions."""

import functools
import math

import torch

from vxmprep.morph.blocks import samples_together
from vxmprep.morph.windows import Slabs


def box_sum(volume: torch.Tensor, window: int) -> torch.Tensor:
    """Sum over the cubic window around each voxel; outside the volume is zero.

    Parameters
    ----------
    volume
        Tensor ``(..., X, Y, Z)`` that does not require a gradient.
    window
        Odd number of voxels along each axis.

    Returns
    -------
    torch.Tensor
        Sums, of the shape of `volume`.

    Raises
    ------
    ValueError
        The window has no centre.

    Examples
    --------
    >>> box_sum(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), 3).tolist()
    [[[3.0, 6.0, 9.0, 7.0]]]
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"box_sum: window is {window}; give an odd number of voxels")
    volumes = volume.reshape(-1, *volume.shape[-3:])
    result = torch.empty_like(volumes, memory_format=torch.contiguous_format)
    together = samples_together(volumes)
    for source, target in zip(volumes.split(together), result.split(together), strict=True):
        slabs = Slabs(source, window)
        slab, sums = slabs.slab(), slabs.sums()
        for first in slabs:
            slabs.sum(slabs.load(source, first, slab), sums)
            slabs.store(sums, first, target)
    return result.view(volume.shape)


def largest_around(volume: torch.Tensor) -> torch.Tensor:
    """Take the largest of the 3 x 3 x 3 values around each voxel; nothing lies outside.

    The same as max-pooling, which takes 10 times as long.

    Parameters
    ----------
    volume
        Tensor ``(..., X, Y, Z)``.

    Returns
    -------
    torch.Tensor
        Of the same shape.

    Examples
    --------
    >>> largest_around(torch.tensor([[[4, 1, 2, 0, 0]]])).tolist()
    [[[4, 4, 2, 2, 0]]]
    """
    for axis in (-3, -2, -1):
        size = volume.shape[axis] - 1
        largest = volume.clone()
        for to, by in ((0, 1), (1, 0)):
            part = largest.narrow(axis, to, size)
            torch.maximum(part, volume.narrow(axis, by, size), out=part)
        volume = largest
    return volume


def dilated(mask: torch.Tensor, voxels: int) -> torch.Tensor:
    """Mark all within a cube around each marked voxel; max-pooling takes 10 times as long.

    Parameters
    ----------
    mask
        ``(..., X, Y, Z)`` bool.
    voxels
        Half the cube's side, without the voxel itself.

    Returns
    -------
    torch.Tensor
        Bool, of the same shape.

    Examples
    --------
    >>> dilated(torch.tensor([[[0, 0, 1, 0, 0]]]) > 0, 1).int().tolist()
    [[[0, 1, 1, 1, 0]]]
    """
    return box_sum(mask.float(), 2 * voxels + 1) > 0.5


def gaussian(volume: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooth with a Gaussian along each of the last three axes.

    Each axis is one product with a banded matrix, whose cost does not depend on `sigma`. Rows sum
    to one: at the border the kernel is cut and normalised, so that a constant stays what it is.

    Parameters
    ----------
    volume
        Tensor ``(..., X, Y, Z)``, floating point.
    sigma
        Standard deviation in voxels; 0 leaves the volume as it is.

    Returns
    -------
    torch.Tensor
        Smoothed volume, of the same shape.
    """
    if sigma <= 0:
        return volume
    for axis in range(-3, 0):
        matrix = gaussian_matrix(volume.shape[axis], sigma, volume.dtype, volume.device)
        volume = along_axis(matrix, volume, axis)
    return volume


def along_axis(matrix: torch.Tensor, volume: torch.Tensor, axis: int) -> torch.Tensor:
    """Multiply each line of `volume` along a (negative) axis by `matrix`, of shape (new, old)."""
    if axis == -1:
        return volume @ matrix.T
    inner = math.prod(volume.shape[axis + 1 :])
    flat = volume.reshape(*volume.shape[:axis], volume.shape[axis], inner)
    return (matrix @ flat).reshape(*volume.shape[:axis], -1, *volume.shape[axis + 1 :])


@functools.lru_cache(maxsize=64)
def gaussian_matrix(
    size: int, sigma: float, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Smoothing of a line of `size` voxels as a matrix whose rows sum to one."""
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        position = torch.arange(size, dtype=torch.float64)
        distance = (position[:, None] - position[None, :]) / sigma
        weights = torch.exp(-0.5 * distance**2)
        weights[distance.abs() > 4] = 0
        weights /= weights.sum(dim=1, keepdim=True)
        return weights.to(dtype=dtype, device=device)
