"""Repair of a field where it nearly folds, or stretches so much that it is taken for folding.

ITK's determinant filter, which many programs use, differentiates along the axes of an array but
leaves the displacements in the world's frame. On an atlas whose array runs against ITK's axes in x
and y (any in RAS order) it sees the map mirrored: where the map stretches space to more than twice
its length it counts a fold. Both determinants are kept positive here; stretching a voxel so far is
no anatomy either.
"""

import torch
from torch.nn import functional

from vxmprep.morph.field import jacobian
from vxmprep.morph.pyramid import to_image_grid
from vxmprep.morph.smooth import gaussian

LEAST = 0.1
"""Smallest determinant that is left alone."""

LEAST_MIRRORED = 0.02
"""The same for the determinant of the map with x and y mirrored."""


@torch.no_grad()
def unfold(
    state: torch.Tensor,
    mask: torch.Tensor,
    linear: torch.Tensor | None = None,
    rounds: int = 40,
) -> tuple[torch.Tensor, int]:
    """Smooth a field at the voxels where its interpolation is too tight, until there is none.

    Parameters
    ----------
    state
        Field on the state grid, ``(1, 3, x, y, z)``, voxels of that grid.
    mask
        Where to look, on the images' grid, ``(1, 1, X, Y, Z)`` bool.
    linear
        Matrix ``(3, 3)`` of the affine that the field is followed by, in the axes of the grid;
        the identity by default.
    rounds
        Upper bound on the repetitions; each smooths a little more than the last.

    Returns
    -------
    displacement : torch.Tensor
        The repaired field, equal to `state` away from the repairs.
    found : int
        Voxels of the images' grid that were too tight before the repair.
    """
    state, found = state.clone(), 0
    window = tuple(slice(0, size) for size in state.shape[2:])
    for attempt in range(rounds):
        # Only what the last round changed can still be too tight.
        part = state[(..., *window)]
        looked_at = mask[(..., *(slice(2 * w.start, 2 * w.stop - 1) for w in window))]
        bad = (slack(to_image_grid(part, looked_at.shape[2:]), linear) < 0) & looked_at
        # At a window's edge derivatives are one-sided; nothing changed there.
        bad = functional.pad(bad[..., 2:-2, 2:-2, 2:-2], [2] * 6)
        found = found or int(bad.sum())
        where = functional.max_pool3d(bad.to(state.dtype), 3, stride=2, padding=1)
        extra = [new - old for new, old in zip(part.shape[2:], where.shape[2:], strict=True)]
        where = functional.pad(where, [0, extra[2], 0, extra[1], 0, extra[0]])
        if not where.any():
            break
        sigma = 0.6 + 0.2 * attempt
        part.lerp_(gaussian(part, sigma), gaussian(where, 0.7))
        window = _around(where > 0, window, state.shape[2:], margin=6 + round(4 * sigma))
    return state, found


def _around(
    where: torch.Tensor, window: tuple[slice, ...], shape: torch.Size, *, margin: int
) -> tuple[slice, ...]:
    """Give the box, in the whole grid, of the voxels marked in a window, and a margin."""
    marked = where[0, 0].nonzero()
    low, high = marked.amin(dim=0).tolist(), marked.amax(dim=0).tolist()
    return tuple(
        slice(max(0, w.start + a - margin), min(size, w.start + b + 1 + margin))
        for w, a, b, size in zip(window, low, high, shape, strict=True)
    )


def slack(displacement: torch.Tensor, linear: torch.Tensor | None = None) -> torch.Tensor:
    """Give how far the determinants of a map are above their limits, ``(1, 1, X, Y, Z)``.

    Parameters
    ----------
    displacement
        Field ``(1, 3, X, Y, Z)`` in voxels of its grid.
    linear
        Matrix ``(3, 3)`` of the affine that follows, in the axes of the grid. The mirrored
        determinant is that of the whole map, which is what users feed to ITK's filter.
    """
    rows = jacobian(displacement)
    plain = _determinant(rows) - LEAST
    if linear is not None:
        rows = [
            [sum(float(linear[i, k]) * rows[k][j] for k in range(3)) for j in range(3)]
            for i in range(3)
        ]
    # The derivatives of the displacement along x and y change their sign: 1 + u' is 1 - u'.
    (a, b, c), (d, e, f), (g, h, i) = rows
    mirrored = _determinant([[2 - a, -b, c], [-d, 2 - e, f], [-g, -h, i]])
    return torch.minimum(plain, mirrored - LEAST_MIRRORED)[:, None]


def _determinant(rows: list[list[torch.Tensor]]) -> torch.Tensor:
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
