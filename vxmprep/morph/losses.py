"""What training minimises: similarity, smoothness and overlap, equations 5 to 9 of [1]_.

All are computed in float32 whatever comes in, for volumes ``(N, C, X, Y, Z)`` and images
``(N, C, X, Y)``. Derivatives are in closed form where autograd would keep many volumes.

References
----------
.. [1] Balakrishnan, Zhao, Sabuncu, Guttag, Dalca: VoxelMorph: a learning framework for deformable
   medical image registration. IEEE TMI 38(8), 2019, arXiv 1809.05231.
"""

import itertools

import torch
from torch.nn import functional

from vxmprep.morph.dice import MeanDice
from vxmprep.morph.differences import MEASURES, DifferenceEnergy, Terms
from vxmprep.morph.ncc import MeanSquaredCorrelation

__all__ = ["bending_energy", "gradient_penalty", "local_ncc", "mse", "soft_dice"]


def mse(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of two images, equation 5 of [1]_.

    With f the fixed image and m the moving image after its warp, over the voxels p of the grid,

        MSE(f, m) = 1 / |Omega| sum_p (f(p) - m(p))^2

    Parameters
    ----------
    fixed, moving
        Images ``(N, C, X, Y, Z)`` or ``(N, C, X, Y)``, any intensities.

    Returns
    -------
    torch.Tensor
        Mean over voxels, channels and samples, intensities squared; the loss itself.

    Raises
    ------
    ValueError
        Shapes differ, or are not those of images.

    References
    ----------
    .. [1] Balakrishnan et al., IEEE TMI 38(8), 2019, arXiv 1809.05231.

    Examples
    --------
    >>> mse(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 3.0))
    tensor(9.)
    """
    _check("mse", fixed, moving)
    return functional.mse_loss(moving.float(), fixed.float())


def local_ncc(fixed: torch.Tensor, moving: torch.Tensor, window: int = 9) -> torch.Tensor:
    """Mean squared local correlation coefficient of two images, equation 6 of [1]_.

    With f the fixed image and m the moving image after its warp, i over the window around p and
    hats for the window's means,

        CC(f, m) = 1 / |Omega| sum_p (sum_i (f(i) - f^(p)) (m(i) - m^(p)))^2
                   / (sum_i (f(i) - f^(p))^2  sum_i (m(i) - m^(p))^2)

    that is, the equation's sum as a mean. Outside the images is zero. A small variance is added to
    both sums of squares, so that where either window is constant the correlation tends to zero,
    and empty regions are finite with finite gradients.

    Parameters
    ----------
    fixed, moving
        Images ``(N, C, X, Y, Z)`` or ``(N, C, X, Y)``, intensities about [0, 1]; channels are
        compared one with one.
    window
        Odd number of voxels along each axis, n of the paper.

    Returns
    -------
    torch.Tensor
        Scalar in [0, 1], without unit; the loss to minimise is its negative. It can be
        differentiated once, by either image.

    Raises
    ------
    ValueError
        Shapes differ, or are not those of images; or the window has no centre.

    References
    ----------
    .. [1] Balakrishnan et al., IEEE TMI 38(8), 2019, arXiv 1809.05231.
    """
    _check("local_ncc", fixed, moving)
    images = [image.float().flatten(0, 1) for image in (fixed, moving)]
    wanted = tuple(torch.is_grad_enabled() and image.requires_grad for image in images)
    return MeanSquaredCorrelation.apply(*images, window, wanted)


def gradient_penalty(field: torch.Tensor, norm: str = "l2") -> torch.Tensor:
    """Smoothness of a field by forward differences, equation 7 of [1]_ as a mean.

    With u the field, e the unit step along an axis,

        L_smooth(u) = mean over axes, components and p of (u(p + e) - u(p))^2

    where the equation has sums, and p are the voxels with a next one along the axis. ``"l1"`` has
    absolute values instead of squares.

    Parameters
    ----------
    field
        Displacement or velocity ``(N, D, X, Y, Z)`` or ``(N, D, X, Y)``, voxels.
    norm
        ``"l2"`` for squared differences, ``"l1"`` for absolute ones.

    Returns
    -------
    torch.Tensor
        Scalar, without unit. It can be differentiated once.

    Raises
    ------
    ValueError
        The shape is not that of a field, or the norm is another.

    References
    ----------
    .. [1] Balakrishnan et al., IEEE TMI 38(8), 2019, arXiv 1809.05231.
    """
    if norm not in MEASURES:
        raise ValueError(f"gradient_penalty: norm is {norm!r}; choose 'l1' or 'l2'")
    _check("gradient_penalty", field)
    axes = range(1, field.ndim - 1)
    return _energy(field, tuple(((axis,), 1 / len(axes)) for axis in axes), norm)


def bending_energy(field: torch.Tensor) -> torch.Tensor:
    """Bending energy of a field, the mean of its squared second derivatives, of [1]_.

    With u_xy the forward difference along y of the forward difference of u along x,

        E(u) = mean(u_xx^2 + u_yy^2 + u_zz^2 + 2 u_xy^2 + 2 u_xz^2 + 2 u_yz^2)

    each over the voxels that have the neighbours. It leaves affine maps free, which
    `gradient_penalty` does not.

    Parameters
    ----------
    field
        Displacement or velocity ``(N, D, X, Y, Z)`` or ``(N, D, X, Y)``, voxels.

    Returns
    -------
    torch.Tensor
        Mean over components and samples, 1 / voxel^2. It can be differentiated once.

    Raises
    ------
    ValueError
        The shape is not that of a field.

    References
    ----------
    .. [1] Rueckert et al.: Nonrigid registration using free-form deformations. IEEE TMI 18(8),
       1999.
    """
    _check("bending_energy", field)
    pairs = itertools.combinations_with_replacement(range(1, field.ndim - 1), 2)
    return _energy(field, tuple((pair, 1.0 if pair[0] == pair[1] else 2.0) for pair in pairs))


def soft_dice(
    fixed: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean overlap of the structures of two segmentations, equations 8 and 9 of [1]_.

    With s_f^k and s_m^k the maps of structure k of the fixed image and of the moving image after
    its warp, products for the intersection and sums for the sizes,

        Dice_k = 2 |s_f^k s_m^k| / (|s_f^k| + |s_m^k|),    L_seg = -mean_k Dice_k

    A structure that is in neither map counts for nothing.

    Parameters
    ----------
    fixed, moving
        One-hot or probability maps ``(N, K, X, Y, Z)`` or ``(N, K, X, Y)``, values in [0, 1] of
        any type; the fixed ones may be bool.
    weight
        How much structure k of sample n counts, ``(N, K)``, at least 0: 0 where it is not known,
        as in scans of a batch that have no segmentation. None: all count alike.

    Returns
    -------
    torch.Tensor
        Mean over samples and structures, in [0, 1], without unit; 0 with zero gradient where
        nothing counts. The loss L_seg to minimise is its negative. It can be differentiated
        once, by either map.

    Raises
    ------
    ValueError
        Shapes differ, or are not those of maps.

    References
    ----------
    .. [1] Balakrishnan et al., IEEE TMI 38(8), 2019, arXiv 1809.05231.
    """
    _check("soft_dice", fixed, moving)
    if weight is not None and weight.shape != fixed.shape[:2]:
        raise ValueError(
            f"soft_dice: weight is {tuple(weight.shape)}; give one number for each sample and"
            f" structure, {tuple(fixed.shape[:2])}"
        )
    return MeanDice.apply(fixed, moving, weight)


def _energy(field: torch.Tensor, terms: Terms, norm: str = "l2") -> torch.Tensor:
    volumes = field.float().flatten(0, 1)
    wanted = torch.is_grad_enabled() and volumes.requires_grad
    return DifferenceEnergy.apply(volumes, terms, norm, wanted)


def _check(name: str, *volumes: torch.Tensor) -> None:
    shapes = [tuple(volume.shape) for volume in volumes]
    if len(set(shapes)) > 1:
        raise ValueError(f"{name}: fixed is {shapes[0]} and moving is {shapes[1]}; shapes differ")
    if len(shapes[0]) not in (4, 5):
        raise ValueError(f"{name}: shape is {shapes[0]}; give (N, C, X, Y, Z) or (N, C, X, Y)")
