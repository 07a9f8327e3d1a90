"""Image similarity and smoothness, equations 6 and 7 of Balakrishnan et al. 2019, for training."""

import torch

from vxmprep.morph.smooth import box_sum

VARIANCE_FLOOR = 1e-5
"""Variance per voxel, of intensities in [0, 1], below which a window says nothing."""


def local_ncc(fixed: torch.Tensor, moving: torch.Tensor, window: int = 9) -> torch.Tensor:
    """Mean squared local correlation coefficient of two images, equation 6 of [1]_.

    Computed in float32 whatever comes in. Where either window is constant the correlation tends to
    zero, so empty regions are finite, with finite gradients. The loss to minimise is its negative.

    Parameters
    ----------
    fixed, moving
        Images ``(N, 1, X, Y, Z)`` or ``(N, 1, X, Y)``, intensities about [0, 1].
    window
        Odd number of voxels along each axis.

    Returns
    -------
    torch.Tensor
        Scalar in [0, 1].

    References
    ----------
    .. [1] Balakrishnan et al., IEEE TMI 38(8), 2019, arXiv 1809.05231.
    """
    fixed, moving = fixed.float(), moving.float()
    dims = fixed.ndim - 2
    count = window**dims
    fixed_mean = box_sum(fixed, window, dims) / count
    moving_mean = box_sum(moving, window, dims) / count
    cross = box_sum(fixed * moving, window, dims) - count * fixed_mean * moving_mean
    fixed_var = box_sum(fixed * fixed, window, dims) - count * fixed_mean * fixed_mean
    moving_var = box_sum(moving * moving, window, dims) - count * moving_mean * moving_mean
    floor = count * VARIANCE_FLOOR
    return (
        cross**2 / ((fixed_var.clamp(min=0) + floor) * (moving_var.clamp(min=0) + floor))
    ).mean()


def gradient_penalty(field: torch.Tensor, norm: str = "l2") -> torch.Tensor:
    """Smoothness of a field by forward differences, equation 7 of [1]_ as a mean.

    Parameters
    ----------
    field
        Displacement or velocity ``(N, 3, X, Y, Z)``, voxels.
    norm
        ``"l2"`` for squared differences, ``"l1"`` for absolute ones.

    Returns
    -------
    torch.Tensor
        Mean over voxels and components of each axis's differences, averaged over axes.

    References
    ----------
    .. [1] Balakrishnan et al., IEEE TMI 38(8), 2019, arXiv 1809.05231.
    """
    if norm not in ("l1", "l2"):
        raise ValueError(f"gradient_penalty: norm is {norm!r}; choose 'l1' or 'l2'")
    field = field.float()
    terms = []
    for axis in range(2, field.ndim):
        size = field.shape[axis] - 1
        step = field.narrow(axis, 1, size) - field.narrow(axis, 0, size)
        terms.append((step * step if norm == "l2" else step.abs()).mean())
    return torch.stack(terms).mean()
