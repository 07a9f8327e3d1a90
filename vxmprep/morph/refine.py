"""Instance-specific optimisation of one pair: local correlation and smoothness, coarse to fine.

The field is kept on the *state grid*: its voxel i lies exactly on voxel 2 i of the images' grid,
so its shape is n // 2 + 1 along each axis, its spacing 2 image voxels and its origin that of the
images (where n is even its last voxel lies one image voxel beyond the grid). `to_image_grid`
interpolates it linearly to the images' voxels. The last level compares the images at full
resolution all the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from vxmprep.morph.field import compose, derivative, warp
from vxmprep.morph.fold import unfold
from vxmprep.morph.ncc import LocalNcc
from vxmprep.morph.pyramid import (
    halve_field,
    halve_image,
    halve_mask,
    restrict,
    state_shape,
    to_image_grid,
    to_state_grid,
)
from vxmprep.morph.sampling import lengths
from vxmprep.morph.smooth import box_sum, gaussian

__all__ = ["Refinement", "Tuning", "refine", "schedule", "state_shape", "to_image_grid"]

SPACINGS = (4, 2, 1)
MARGIN = 6
DEFAULT_ITERATIONS = (40, 40, 20)
FINE_ITERATIONS = 10
"""Iterations that follow with a field of the images' resolution, `vxmprep.morph.fine`."""

AFTER_A_NETWORK = ((3, FINE_ITERATIONS), (2, 6), (1, 30), (0, 40), (2, 14), (1, 10))
"""Levels, 3 for the fine field, and what each gets of the iterations, one after the other. The
coarse ones mend what the network got wrong at large."""

LOOK = 3
"""A level looks at its similarity after each so many iterations: on a GPU, looking waits."""


@dataclass(frozen=True)
class Tuning:
    """Numbers of the optimisation; a triple holds one per level (4, 2 and 1 voxels).

    Attributes
    ----------
    window
        Window of the local correlation, voxels of the level.
    update_sigma
        Gaussian over which an update pools its evidence, voxels of the level's field.
    field_sigma
        Gaussian smoothing of the field after each update, voxels of the level's field.
    step
        Share of the Gauss-Newton step that is taken.
    longest
        Bound on an update's length, voxels of the level's image.
    damping
        Added to the curvature, as a share of its mean.
    tolerance
        Gain per iteration below which a level stops, as a share of what the similarity lacks to 1;
        a negative one never stops it.
    """

    window: tuple[int, ...] = (5, 5, 5)
    update_sigma: tuple[float, ...] = (0.8, 0.8, 0.6)
    field_sigma: tuple[float, ...] = (0.5, 0.5, 0.35)
    step: tuple[float, ...] = (1.0, 1.0, 1.0)
    longest: float = 1.0
    damping: float = 0.1
    tolerance: float = 0.003


@dataclass(frozen=True)
class Refinement:
    """What a refinement did.

    Attributes
    ----------
    similarity
        Mean squared local correlation inside the mask before each iteration, per level.
    repaired
        Voxels of the images' grid that the final repair of the field found compressed beyond its
        limit.
    """

    similarity: tuple[tuple[float, ...], ...]
    repaired: int

    @property
    def iterations(self) -> tuple[int, ...]:
        """Iterations run at each level."""
        return tuple(len(values) for values in self.similarity)


def schedule(iterations: int, *, started: bool = False) -> tuple[tuple[int, ...], int]:
    """Share a total of iterations, as a user gives it, among the levels; 0 turns all off.

    Parameters
    ----------
    iterations
        The total.
    started
        From zero the first `DEFAULT_ITERATIONS` are spread over their levels, and what is beyond
        them is left for the fine ones. From a field that is there already, a network's, they go
        to the levels by `AFTER_A_NETWORK`: the coarsest has some only if there are many.

    Returns
    -------
    coarse : tuple of int
        For `refine`.
    fine : int
        For `vxmprep.morph.fine.refine_finely`.

    Examples
    --------
    >>> schedule(50), schedule(110)
    (((20, 20, 10), 0), ((40, 40, 20), 10))
    >>> schedule(46, started=True), schedule(200, started=True)
    (((0, 30, 6), 10), ((40, 40, 20), 100))
    """
    if not started:
        total = sum(DEFAULT_ITERATIONS)
        shared = min(iterations, total)
        coarse = tuple(-(-shared * share // total) for share in DEFAULT_ITERATIONS)
        return coarse, iterations - shared
    left, counts = iterations, [0, 0, 0, 0]
    for level, most in AFTER_A_NETWORK:
        counts[level] += min(left, most)
        left -= min(left, most)
    *coarse, fine = counts
    return tuple(coarse), fine + left


@torch.no_grad()
def refine(
    moving: torch.Tensor,
    fixed: torch.Tensor,
    mask: torch.Tensor,
    *,
    start: torch.Tensor | None = None,
    iterations: Sequence[int] = DEFAULT_ITERATIONS,
    linear: torch.Tensor | None = None,
    tuning: Tuning | None = None,
) -> tuple[torch.Tensor, Refinement]:
    """Register a pair by maximising their local correlation, from the identity or a given field.

    Each iteration takes a Gauss-Newton step on the local correlation, pooled over a Gaussian
    neighbourhood, composes it with the field and smooths the field. A level ends when its
    similarity has stopped rising: when each of its last `LOOK` iterations gained on average less
    than `Tuning.tolerance` of what was missing to a perfect correlation. From a good start the
    coarse levels thus end after a few.

    Parameters
    ----------
    moving, fixed
        Images ``(1, 1, X, Y, Z)`` float32, affinely aligned, intensities in [0, 1], background 0.
    mask
        The fixed image's brain, ``(1, 1, X, Y, Z)`` bool.
    start
        Displacement in voxels of its own grid, ``(1, 3, x, y, z)``: on the state grid, or on any
        grid whose corners lie on the images' corners (the images' own, or half of it). Iterations
        at a spacing change what that spacing can hold and keep the rest.
    iterations
        Upper bounds on the iterations at spacings of 4, 2 and 1 voxels. All 0: `start` comes back
        on the state grid.
    linear
        Matrix ``(3, 3)`` of the affine that follows, in the axes of the images' grid; see
        `vxmprep.morph.fold.unfold`.
    tuning
        Numbers of the optimisation.

    Returns
    -------
    displacement : torch.Tensor
        Field on the state grid, ``(1, 3, X // 2 + 1, Y // 2 + 1, Z // 2 + 1)``, voxels of that
        grid.
    what : Refinement
        Similarity at each level; its `iterations` are those that ran.
    """
    if len(iterations) != len(SPACINGS):
        raise ValueError(
            f"refine: iterations is {tuple(iterations)}; give {len(SPACINGS)} numbers"
        )
    tuning = tuning or Tuning()
    shape = fixed.shape[2:]
    state = moving.new_zeros(1, 3, *state_shape(shape))
    if start is not None:
        state = to_state_grid(start.to(state), shape)
    if not any(iterations):
        return state, Refinement(((),) * len(SPACINGS), 0)
    box = brain_box(mask | (moving > 0))
    images = _pyramid(*(volume[(..., *box)].contiguous() for volume in (moving, fixed, mask)))
    inner = tuple(slice(side.start // 2, side.stop // 2 + 1) for side in box)
    core = state[(..., *inner)].contiguous()
    similarity = []
    for level, (spacing, count) in enumerate(zip(SPACINGS, iterations, strict=True)):
        values = ()
        if count:
            core, values = _run_level(core, images[spacing], spacing, count, level, tuning)
        similarity.append(values)
    core, repaired = unfold(core, mask[(..., *box)], linear)
    beyond = [
        amount
        for side, size in zip(reversed(inner), reversed(state.shape), strict=False)
        for amount in (side.start, size - side.stop)
    ]
    state = functional.pad(core, beyond, mode="replicate")
    return state, Refinement(tuple(similarity), repaired)


def brain_box(mask: torch.Tensor) -> tuple[slice, ...]:
    """Give the box of both brains and a margin; its start is a voxel of every level's grid.

    Parameters
    ----------
    mask
        Where either brain is, ``(1, 1, X, Y, Z)`` bool.

    Returns
    -------
    tuple of slice
        One for each of the three axes.
    """
    coarsest = max(SPACINGS)
    box = []
    for axis, size in enumerate(mask.shape[2:], start=2):
        others = [other for other in range(mask.ndim) if other != axis]
        inside = mask.amax(dim=others).nonzero()
        first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (0, size - 1)
        first = max(first - MARGIN, 0) // coarsest * coarsest
        box.append(slice(first, min(last + MARGIN + 1, size)))
    return tuple(box)


def _pyramid(
    moving: torch.Tensor, fixed: torch.Tensor, mask: torch.Tensor
) -> dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Make the moving and fixed images and the windows' weight at each spacing."""
    images = {1: (moving, fixed, mask.to(fixed.dtype))}
    for spacing in sorted(SPACINGS)[1:]:
        finer_moving, finer_fixed, finer_mask = images[spacing // 2]
        images[spacing] = (
            halve_image(finer_moving),
            halve_image(finer_fixed),
            halve_mask(finer_mask),
        )
    return {
        spacing: (moved, still, (box_sum(brain, 5) > 0.5).to(brain.dtype))
        for spacing, (moved, still, brain) in images.items()
    }


def _run_level(
    state: torch.Tensor,
    images: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    spacing: int,
    count: int,
    level: int,
    tuning: Tuning,
) -> tuple[torch.Tensor, tuple[float, ...]]:
    """Iterate at one spacing; the state goes in and comes out on the state grid."""
    moving, fixed, weight = images
    field = first = halve_field(state) if spacing == 4 else state
    similarity = LocalNcc(fixed, weight, tuning.window[level])
    values = []
    for _ in range(count):
        dense = to_image_grid(field, fixed.shape[2:]) if spacing == 1 else field
        pool = restrict if spacing == 1 else None
        value, update = newton_update(moving, dense, similarity, level, tuning, pool)
        field = gaussian(compose(field, update), tuning.field_sigma[level])
        values.append(value)
        if _settled(values, tuning.tolerance):
            break
    if spacing == 4:  # what the coarse field cannot hold of the start stays
        field = state + to_image_grid(field - first, state.shape[2:])
    return field, tuple(torch.stack(values).tolist())


def _settled(values: list[torch.Tensor], tolerance: float) -> bool:
    """Tell whether the similarity has stopped rising, once every few iterations."""
    if len(values) % LOOK != 1 or len(values) <= LOOK:
        return False
    before, now = torch.stack([values[-1 - LOOK], values[-1]]).tolist()
    return now - before <= LOOK * tolerance * (1 - before)


def newton_update(
    moving: torch.Tensor,
    displacement: torch.Tensor,
    similarity: LocalNcc,
    level: int,
    tuning: Tuning,
    pool: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the similarity and the pooled Gauss-Newton step that raises it.

    Parameters
    ----------
    moving
        Image ``(1, 1, X, Y, Z)``.
    displacement
        Field on its grid, ``(1, 3, X, Y, Z)``, voxels.
    similarity
        Local correlation with the fixed image.
    level
        Which of `tuning`'s numbers hold.
    pool
        Brings evidence to the coarser grid of the field that is updated, of twice the spacing; by
        default the field is the displacement itself.

    Returns
    -------
    value : torch.Tensor
        Similarity, without dimensions.
    update : torch.Tensor
        Step ``(1, 3, ...)``, voxels of the updated field's grid.
    """
    warped = warp(moving, displacement)
    change = similarity(warped)
    at_field = pool or (lambda volume: volume)
    stiffness = torch.zeros_like(warped)
    evidence = []
    for axis in range(3):
        slope = derivative(warped, axis - 3)
        stiffness.addcmul_(slope, slope)
        evidence.append(at_field(slope.mul_(change.gradient)))
    evidence.append(at_field(stiffness.mul_(change.curvature)))
    evidence = gaussian(torch.cat(evidence, dim=1), tuning.update_sigma[level])
    step, stiffness = evidence[:, :3], evidence[:, 3:]
    # Where an image is empty all are zero, and so is the step.
    step /= stiffness + (tuning.damping * stiffness.mean() + torch.finfo(stiffness.dtype).tiny)
    step *= tuning.step[level]
    step *= tuning.longest / (lengths(step) + tuning.longest)
    return change.value, step / 2 if pool else step
