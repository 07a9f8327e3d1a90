"""Smooth extension of a field beyond the brain."""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from vxmprep.morph.fold import unfold
from vxmprep.morph.sampling import check_field
from vxmprep.morph.smooth import dilated


@torch.no_grad()
def extend(
    displacement: torch.Tensor,
    mask: torch.Tensor,
    margin: int,
    dilation: int = 2,
    linear: torch.Tensor | None = None,
) -> torch.Tensor:
    """Pad a field's grid and let the field fade harmonically from the brain to zero at the border.

    Outside the brain the images say nothing. Each component is replaced there by the membrane
    (Laplace's equation) between its values inside and zero on the outermost voxels.

    Parameters
    ----------
    displacement
        Field ``(N, 3, X, Y, Z)``, voxels.
    mask
        Brain mask on the field's grid, ``(N, 1, X, Y, Z)`` bool.
    margin
        Voxels added on every side: voxel p of the field is voxel p + margin of the result.
    dilation
        Voxels around the mask where the field is also kept.
    linear
        Matrix of the affine that follows, see `unfold`.

    Returns
    -------
    torch.Tensor
        Field ``(N, 3, X + 2 margin, Y + 2 margin, Z + 2 margin)``, zero on its border.

    Raises
    ------
    ValueError
        The field is not one of three dimensions, or the mask is not on its grid.
    """
    check_field("extend", "displacement", displacement)
    if displacement.ndim != 5 or mask.shape != displacement[:, :1].shape:
        raise ValueError(
            f"extend: displacement has shape {tuple(displacement.shape)} and mask "
            f"{tuple(mask.shape)}; give (N, 3, X, Y, Z) and (N, 1, X, Y, Z)"
        )
    pad = [margin] * 6
    known = dilated(mask, dilation).to(displacement.dtype)
    values = functional.pad(displacement * known, pad)
    known = functional.pad(known, pad)
    extended = _membrane(values, known)
    shape = [2 * size - 2 for size in extended.shape[2:]]
    everywhere = torch.ones(1, 1, *shape, dtype=torch.bool, device=extended.device)
    return torch.cat([unfold(field, everywhere, linear)[0] for field in extended.split(1)])


def _membrane(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Solve Laplace's equation where `known` is 0, zero on the border, from coarse to fine.

    Jacobi steps with momentum, tuned to damp errors whose eigenvalue is between `lowest` and 2;
    the longer waves are left to the coarser grid.
    """
    shape = values.shape[2:]
    guess, sweeps, lowest = torch.zeros_like(values), 60, 0.002
    if min(shape) > 16:
        small = [(size + 1) // 2 for size in shape]
        weight = _fit(known, small)
        inside = (weight > 0.5).to(values.dtype)
        coarse = _membrane(_fit(values, small) / weight.clamp(min=0.5) * inside, inside)
        guess, sweeps, lowest = _fit(coarse, shape), 14, 0.03
    free = functional.pad(1 - known[..., 1:-1, 1:-1, 1:-1], [1] * 6)
    wide, narrow = math.sqrt(2), math.sqrt(lowest)
    step, momentum = 4 / (wide + narrow) ** 2, ((wide - narrow) / (wide + narrow)) ** 2
    current = values * known + guess * free
    before = current
    for _ in range(sweeps):
        after = _relax(current, free, step)
        after += momentum * (current - before)
        before, current = current, after
    return current


def _fit(volume: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Interpolate a volume to another shape, corners on corners, values as they are."""
    return functional.interpolate(volume, tuple(shape), mode="trilinear", align_corners=True)


def _relax(current: torch.Tensor, free: torch.Tensor, weight: float) -> torch.Tensor:
    """Take one weighted Jacobi step of Laplace's equation at the free voxels."""
    change = torch.zeros_like(current)
    inner = change[..., 1:-1, 1:-1, 1:-1]
    for axis in (-3, -2, -1):
        for shift in (0, 2):
            neighbour = current
            for other in (-3, -2, -1):
                begin = shift if other == axis else 1
                neighbour = neighbour.narrow(other, begin, current.shape[other] - 2)
            inner += neighbour
    change.mul_(1 / 6).sub_(current)
    return torch.addcmul(current, change, free, value=weight)
