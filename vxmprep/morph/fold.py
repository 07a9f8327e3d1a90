"""Repair of a field where it nearly folds, or stretches so much that it is taken for folding.

ITK's determinant filter, which many programs use, differentiates along the axes of an array but
leaves the displacements in the world's frame. On an atlas whose array runs against ITK's axes in x
and y (any in RAS order) it sees the map mirrored: where the map stretches space to more than twice
its length it counts a fold. Both determinants are kept positive here; stretching a voxel so far is
no anatomy either.
"""

import itertools
from collections.abc import Iterator

import torch
from scipy import ndimage
from torch.nn import functional

from vxmprep.morph.field import derivative
from vxmprep.morph.pyramid import to_image_grid
from vxmprep.morph.smooth import dilated, gaussian, largest_around

LEAST = 0.1
"""Smallest determinant that is left alone."""

LEAST_MIRRORED = 0.02
"""The same for the determinant of the map with x and y mirrored."""

LEAST_MIRRORED_ROUNDED = 0.05
"""The same for a field that is still to be rounded at every voxel."""

WHOLE_ROUNDS = 8
"""After so many rounds what is left of folds is looked at place by place."""

TILE = 32
"""Side, in voxels of the images' grid, of the columns looked at in one go; even."""


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
    shape = state.shape[2:]
    window = tuple(slice(0, size) for size in shape)
    changed = None
    for attempt in range(rounds):
        part = state[(..., *window)]
        looked_at = mask[(..., *(slice(2 * w.start, 2 * w.stop - 1) for w in window))]
        if changed is not None:
            looked_at = looked_at & _doubled(changed, looked_at.shape)
        bad = _too_tight(part, looked_at, linear)
        found = found or int(bad.sum())
        where = dilated(bad, 1)[..., ::2, ::2, ::2].to(state.dtype)
        extra = [new - old for new, old in zip(part.shape[2:], where.shape[2:], strict=True)]
        where = functional.pad(where, [0, extra[2], 0, extra[1], 0, extra[0]])
        if not where.any():
            break
        sigma = 0.6 + 0.2 * attempt
        weight = gaussian(where, 0.7)
        part.lerp_(gaussian(part, sigma), weight)
        before, window = window, _around(where > 0, window, shape, margin=6 + round(4 * sigma))
        changed = torch.zeros_like(state[:, :1], dtype=torch.bool)
        changed[(..., *before)] = dilated(weight > 0, 1)
        changed = changed[(..., *window)]
    return state, found


@torch.no_grad()
def unfold_fine(
    displacement: torch.Tensor,
    mask: torch.Tensor,
    linear: torch.Tensor | None = None,
    rounds: int = 40,
) -> tuple[torch.Tensor, int]:
    """Smooth a field on the images' own grid where it is too tight, until there is none.

    Parameters
    ----------
    displacement
        Field ``(1, 3, X, Y, Z)``, voxels.
    mask
        Where to look, ``(1, 1, X, Y, Z)`` bool; the two outermost voxels are left out.
    linear, rounds
        As for `unfold`.

    Returns
    -------
    displacement : torch.Tensor
        The repaired field.
    found : int
        Voxels that were too tight before the repair.
    """
    displacement = displacement.clone()
    inner = torch.zeros_like(mask)
    inner[..., 2:-2, 2:-2, 2:-2] = mask[..., 2:-2, 2:-2, 2:-2]
    found = 0
    for attempt in range(WHOLE_ROUNDS):
        left = _smooth_tight(displacement, inner, linear, 0.6 + 0.2 * attempt)
        found = found or left
        if not left:
            return displacement, found
    shape = displacement.shape[2:]
    for margin in (8, 16, 24):  # places that touch may undo each other's repair
        tight = _tight(displacement, inner, linear)
        if not tight.any():
            break
        near = dilated(tight, 4)[0, 0].cpu().numpy()
        places = ndimage.find_objects(ndimage.label(near)[0])
        for place in places:
            window = tuple(
                slice(max(0, side.start - margin), min(size, side.stop + margin))
                for side, size in zip(place, shape, strict=True)
            )
            part, looked_at = displacement[(..., *window)], inner[(..., *window)]
            for attempt in range(rounds):
                if not _smooth_tight(part, looked_at, linear, 0.6 + 0.2 * attempt):
                    break
    return displacement, found


def _smooth_tight(
    displacement: torch.Tensor, mask: torch.Tensor, linear: torch.Tensor | None, sigma: float
) -> int:
    """Smooth a field, in place, around its tight voxels; tell how many there were."""
    bad = _tight(displacement, mask, linear)
    count = int(bad.sum())
    if count:
        weight = gaussian(dilated(bad, 1).to(displacement.dtype), 0.7)
        displacement.lerp_(gaussian(displacement, sigma), weight)
    return count


def _tight(
    displacement: torch.Tensor, mask: torch.Tensor, linear: torch.Tensor | None
) -> torch.Tensor:
    """Mark the voxels of a mask where a determinant is below its limit, but for the border's.

    `_stretch` would spare none of a brain: gradients of a field this fine are steep.
    """
    bad = torch.zeros_like(mask)
    for box in _boxes(mask):
        part = displacement[(..., *(slice(side.start - 2, side.stop + 2) for side in box))]
        bad[(..., *box)] = slack(part, linear, LEAST_MIRRORED_ROUNDED)[_INNER] < 0
    return bad & mask


def _doubled(state: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Give each voxel of the images' grid what its nearest state voxel below has."""
    for axis in (-3, -2, -1):
        state = state.repeat_interleave(2, axis).narrow(axis, 0, shape[axis])
    return state


def _too_tight(
    state: torch.Tensor, mask: torch.Tensor, linear: torch.Tensor | None
) -> torch.Tensor:
    """Mark the voxels of a mask, on the images' grid, where a determinant is below its limit."""
    bad = torch.zeros_like(mask)
    at_risk = _stretch(state) > _safe_stretch(linear)
    for box in _boxes(mask & _doubled(at_risk, mask.shape)):
        part = state[(..., *(slice(side.start // 2 - 1, side.stop // 2 + 2) for side in box))]
        dense = to_image_grid(part, [side.stop - side.start + 4 for side in box])
        bad[(..., *box)] = slack(dense, linear)[_INNER] < 0
    return bad & mask


def _stretch(displacement: torch.Tensor) -> torch.Tensor:
    """Bound the squared length of a field's gradient around each voxel, ``(1, 1, X, Y, Z)``.

    The derivatives between a voxel and its neighbours, of the field as interpolated linearly too,
    are means of differences of neighbours.
    """
    bound = torch.zeros_like(displacement[:, :1])
    for axis, size in enumerate(displacement.shape[2:], 2):
        change = displacement.narrow(axis, 1, size - 1) - displacement.narrow(axis, 0, size - 1)
        squares = change.square_().sum(dim=1, keepdim=True)
        squares = functional.pad(squares, [0] * 2 * (4 - axis) + [0, 1])
        bound += largest_around(squares)
    return bound


def _safe_stretch(linear: torch.Tensor | None) -> float:
    """Squared length of a field's gradient up to which no determinant is below its limit.

    A matrix M + E has no determinant below (s - |E|)^3, where s is the least singular value of M
    and its determinant is positive.
    """
    linear = torch.eye(3) if linear is None else linear.cpu().float()
    # The matrix in the comment of `slack`, and how much it changes with the field's gradient.
    mirrored = torch.diag(torch.tensor([2.0, 2.0, 0.0])) - linear * torch.tensor([1.0, 1.0, -1.0])
    if not torch.linalg.det(mirrored) > 0:
        return -1.0
    least = float(torch.linalg.svdvals(mirrored)[-1]) - LEAST_MIRRORED ** (1 / 3)
    safe = min(1 - LEAST ** (1 / 3), least / float(torch.linalg.svdvals(linear)[0]))
    return (0.99 * safe) ** 2 if safe > 0 else -1.0


_INNER = (..., *[slice(2, -2)] * 3)
"""Without the two outermost voxels, whose derivatives are one-sided."""


def _boxes(mask: torch.Tensor) -> Iterator[tuple[slice, ...]]:
    """Give boxes that hold all marked voxels but the two outermost, each start even."""
    x_size, y_size, _ = mask.shape[2:]
    for x, y in itertools.product(range(2, x_size - 2, TILE), range(2, y_size - 2, TILE)):
        column = (slice(x, min(x + TILE, x_size - 2)), slice(y, min(y + TILE, y_size - 2)))
        marked = mask[(0, 0, *column)][..., 2:-2].flatten(0, 1).any(dim=0).nonzero()
        if len(marked):
            first, last = int(marked[0]) + 2, int(marked[-1]) + 2
            yield (*column, slice(first // 2 * 2, last + 1))


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


def slack(
    displacement: torch.Tensor,
    linear: torch.Tensor | None = None,
    least_mirrored: float = LEAST_MIRRORED,
) -> torch.Tensor:
    """Give how far the determinants of a map are above their limits, ``(1, 1, X, Y, Z)``.

    Parameters
    ----------
    displacement
        Field ``(1, 3, X, Y, Z)`` in voxels of its grid.
    linear
        Matrix ``(3, 3)`` of the affine that follows, in the axes of the grid. The mirrored
        determinant is that of the whole map, which is what users feed to ITK's filter.
    least_mirrored
        Limit of the mirrored determinant.
    """
    linear = torch.eye(3) if linear is None else linear.cpu().float()
    # The whole map's derivatives are those of the displacement after the affine, and the affine.
    after = torch.einsum("ij,njxyz->inxyz", linear.to(displacement), displacement)
    (a, b, c), (d, e, f), (g, h, i) = (
        [derivative(moved, axis - 3).add_(change) for axis, change in enumerate(row)]
        for moved, row in zip(after, linear.tolist(), strict=True)
    )
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    plain = determinant / float(torch.linalg.det(linear)) - LEAST
    # The derivatives of the displacement along x and y change their sign, 1 + u' is 1 - u':
    # |2 - a  -b  c|
    # |-d  2 - e  f|, multiplied out
    # |-g     -h  i|
    mirrored = determinant + 2 * ((2 - a - e) * i + c * g + f * h)
    return torch.minimum(plain, mirrored - least_mirrored)[:, None]
