"""Algebra of displacement fields: warp, compose, integrate, resize.

A field is a displacement in voxels of its own grid, a tensor ``(N, 3, X, Y, Z)`` or
``(N, 2, X, Y)``, channel i along array axis i, the first voxel's centre at 0. Its map is
phi(p) = p + u(p): the fixed image's voxel p samples the moving image at phi(p). N is the batch.

Which way a map goes: images are pulled, ``warp(moving, u)`` lies on the fixed image's grid; points
are pushed, `vxmprep.morph.points.transform_points` takes the fixed image's points to the moving
one's. The inverse of an integrated velocity is the negated velocity's integral, `integrate_both`;
of any other field (refined, composed, averaged), `vxmprep.morph.inverse.invert`.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from vxmprep.morph.jacobian import (
    derivative,
    jacobian,
    jacobian_determinant,
    log_jacobian_determinant,
)
from vxmprep.morph.sampling import check_field, displaced, pull, sample

__all__ = [
    "compose",
    "derivative",
    "displaced",
    "integrate",
    "integrate_both",
    "jacobian",
    "jacobian_determinant",
    "log_jacobian_determinant",
    "resize",
    "sample",
    "warp",
]


def warp(image: torch.Tensor, displacement: torch.Tensor, mode: str = "linear") -> torch.Tensor:
    """Resample an image through a field: result(p) = image(p + u(p)), equation 3 of [1]_.

    Parameters
    ----------
    image
        Floating-point tensor ``(N, C, X, Y, Z)`` or ``(N, C, X, Y)``, on the grid that
        `displacement` counts its voxels in. Outside it is zero. For labels there is
        `vxmprep.morph.labels.warp_labels`.
    displacement
        Field ``(N, 3, ...)`` or ``(N, 2, ...)``, voxels.
    mode
        ``"linear"`` or ``"nearest"``.

    Returns
    -------
    torch.Tensor
        Resampled image, ``(N, C)`` and the spatial shape of `displacement`.

    Raises
    ------
    ValueError
        `mode` is unknown, the image holds integers, or the shapes do not go together.

    References
    ----------
    .. [1] Balakrishnan et al., IEEE TMI 38(8), 2019, arXiv 1809.05231.
    """
    return pull("warp", image, displacement, mode, "zeros")


def compose(outer: torch.Tensor, inner: torch.Tensor, *, outside: str = "border") -> torch.Tensor:
    """Field of the map outer after inner: result(p) = inner(p) + outer(p + inner(p)).

    An image warped by the result is the image warped by `outer`, then by `inner`.

    Parameters
    ----------
    outer, inner
        Fields ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)`` on one grid, voxels.
    outside
        What `outer` is outside its grid: ``"border"`` keeps its value at the edge, as
        VoxelMorph's TensorFlow code does; ``"zeros"`` is the identity there, as in its PyTorch
        code and in MONAI.

    Returns
    -------
    torch.Tensor
        Field of the composed map, voxels.

    Raises
    ------
    ValueError
        `outside` is unknown or the shapes do not go together.
    """
    check_field("compose", "outer", outer)
    return inner + pull("compose", outer, inner, "linear", outside)


def integrate(
    velocity: torch.Tensor, steps: int = 7, *, time: float = 1.0, outside: str = "border"
) -> torch.Tensor:
    """Displacement of a stationary velocity after a time, by scaling and squaring [1]_.

    The maps of one velocity are a group: integrals at times s and t compose to that at s + t, and
    time -1 is the inverse of time 1. Halving a warp is `time=0.5`, not half the displacement.

    Parameters
    ----------
    velocity
        Tensor ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)``, voxels per unit of time.
    steps
        Number of squarings; 0 takes the velocity times the time as the displacement.
    time
        How long to follow the velocity, of either sign.
    outside
        As for `compose`.

    Returns
    -------
    torch.Tensor
        Displacement, voxels.

    Raises
    ------
    ValueError
        `steps` is negative, `outside` is unknown or the shape is not a field's.

    References
    ----------
    .. [1] Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI
    2006.

    Examples
    --------
    >>> shift = torch.full((1, 2, 8, 8), 3.0)
    >>> integrate(shift, time=0.5).unique()
    tensor([1.5000])
    """
    check_field("integrate", "velocity", velocity)
    if steps < 0:
        raise ValueError(f"integrate: steps is {steps}; give 0 or more")
    displacement = velocity * (time / 2**steps)
    for _ in range(steps):
        displacement = compose(displacement, displacement, outside=outside)
    return displacement


def integrate_both(
    velocity: torch.Tensor, steps: int = 7, *, time: float = 1.0, outside: str = "border"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Displacement of a stationary velocity and its inverse, that of the negated velocity.

    Parameters
    ----------
    velocity, steps, time, outside
        As for `integrate`.

    Returns
    -------
    forward, inverse : torch.Tensor
        Displacements at `time` and at minus `time`, voxels.

    Raises
    ------
    ValueError
        As for `integrate`.
    """
    check_field("integrate_both", "velocity", velocity)
    both = integrate(torch.cat([velocity, -velocity]), steps, time=time, outside=outside)
    forward, inverse = both.chunk(2)
    return forward, inverse


def resize(displacement: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Carry a field to a grid of another shape over the same extent, its corners on its corners.

    Linear interpolation; the values are scaled into the new grid's voxels, whose size is
    (old size - 1) / (new size - 1) of the old ones along each axis. A velocity is carried alike.

    Parameters
    ----------
    displacement
        Tensor ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)``, voxels of its own grid.
    shape
        Spatial shape of the new grid.

    Returns
    -------
    torch.Tensor
        Field ``(N, 3, *shape)`` or ``(N, 2, *shape)``, voxels of the new grid; `displacement`
        itself where the shape stays.

    Raises
    ------
    ValueError
        The shapes have different lengths, or an axis has one voxel and so no extent.
    """
    check_field("resize", "displacement", displacement)
    old = displacement.shape[2:]
    if tuple(shape) == tuple(old):
        return displacement
    if len(shape) != len(old) or min(*shape, *old) < 2:
        raise ValueError(
            f"resize: cannot carry a field from shape {tuple(old)} to {tuple(shape)}; give as "
            "many axes, of at least 2 voxels"
        )
    mode = "trilinear" if len(old) == 3 else "bilinear"
    scale = [(new - 1) / (size - 1) for new, size in zip(shape, old, strict=True)]
    factor = displacement.new_tensor(scale).view(1, -1, *[1] * len(old))
    grows = math.prod(shape) > math.prod(old)  # the smaller of the two is multiplied
    source = displacement * factor if grows else displacement
    result = functional.interpolate(source, tuple(shape), mode=mode, align_corners=True)
    return result if grows else result * factor
