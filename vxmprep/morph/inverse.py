"""Numerical inverse of a field.

For a field that is no integrated velocity; that one's inverse is the negated velocity's integral,
`vxmprep.morph.field.integrate_both`, which costs less and can be trained through.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from vxmprep.morph.extension import extend
from vxmprep.morph.field import displaced, jacobian, sample
from vxmprep.morph.sampling import check_field, lengths

__all__ = ["Inverse", "extend", "invert", "invert_between"]

POINTS = 2**20
"""How many points are solved at a time."""


@dataclass(frozen=True)
class Inverse:
    """A field's numerical inverse and how far from one it is.

    Attributes
    ----------
    displacement
        Field w with u(p + w(p)) + w(p) = 0, ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)``, voxels.
    residual
        Length of u(p + w(p)) + w(p), ``(N, 1, X, Y, Z)`` or ``(N, 1, X, Y)``, voxels.
    """

    displacement: torch.Tensor
    residual: torch.Tensor

    @property
    def largest(self) -> float:
        """Largest residual, voxels."""
        return float(self.residual.max())

    @property
    def p99(self) -> float:
        """99th percentile of the residual, voxels."""
        values = self.residual.flatten()
        return float(values.kthvalue(max(1, round(0.99 * values.numel()))).values)


@torch.no_grad()
def invert(
    displacement: torch.Tensor,
    iterations: int = 30,
    tolerance: float = 0.005,
    start: torch.Tensor | None = None,
) -> Inverse:
    """Invert the map p + u(p) on its own grid, by Newton's method at each voxel.

    Each step solves (I + grad u) step = -(u(p + w) + w) with the derivatives at p + w, so that it
    also converges where |grad u| exceeds 1, where a fixed-point iteration w <- -u(p + w)
    diverges. A step that does not shorten the residual is taken back and halved. Solved voxels
    drop out. Nothing is differentiated through.

    Parameters
    ----------
    displacement
        Field ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)``, voxels; outside the grid it keeps its value
        at the edge.
    iterations
        Upper bound on the steps.
    tolerance
        Residual, in voxels, at which a voxel is solved.
    start
        A first guess of the inverse, such as that of a coarser field.

    Returns
    -------
    Inverse
        The inverse on the same grid, and its residual: above `tolerance` where the steps ended
        before a solution, as near folds, which have several.

    Raises
    ------
    ValueError
        The shape is not a field's, or an axis has one voxel.
    """
    check_field("invert", "displacement", displacement)
    start = displaced(-_smooth_start(displacement) if start is None else start)
    found = [
        _invert_one(*fields, iterations, tolerance)
        for fields in zip(displacement.split(1), start.split(1), strict=True)
    ]
    return Inverse(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _invert_one(
    displacement: torch.Tensor, start: torch.Tensor, iterations: int, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverse and residual of one field, from positions to start at."""
    target = displaced(torch.zeros_like(displacement)).flatten(2)[0]
    both = _with_derivatives(displacement)
    found, error = _solve_all(both, target, start.flatten(2)[0], iterations, tolerance)
    inverse = (found - target).reshape(displacement.shape)
    return inverse, error.reshape(1, 1, *displacement.shape[2:])


@torch.no_grad()
def invert_between(
    displacement: torch.Tensor, iterations: int = 30, tolerance: float = 0.005
) -> Inverse:
    """Invert as `invert`, then fit the inverse to the space between its voxels.

    An inverse that is exact at voxels errs between them, always to the side of its curvature, once
    it is interpolated linearly. Here the exact inverse is also found at the cells' centres and the
    voxels move by two thirds of the mean error around them (the mean of a linear interpolation's
    error over a cell is two thirds of that at its centre). On brains round trips come a quarter
    closer, on smooth fields more; the residual at the voxels is no longer zero.

    Parameters
    ----------
    displacement, iterations, tolerance
        As for `invert`.

    Returns
    -------
    Inverse
        The fitted inverse; its residual is that of the solution at the voxels, before the fit.

    Raises
    ------
    ValueError
        As for `invert`.
    """
    check_field("invert_between", "displacement", displacement)
    exact = invert(displacement, iterations, tolerance)
    fitted = [
        _fit_between(*fields, iterations, tolerance)
        for fields in zip(displacement.split(1), exact.displacement.split(1), strict=True)
    ]
    return Inverse(torch.cat(fitted), exact.residual)


def _fit_between(
    displacement: torch.Tensor, exact: torch.Tensor, iterations: int, tolerance: float
) -> torch.Tensor:
    """Move one exact inverse's voxels towards what it should be at the cells' centres."""
    middle = _cell_means(exact)
    target = displaced(torch.zeros_like(middle)).flatten(2)[0] + 0.5
    guess = target + middle.flatten(2)[0]
    found, _ = _solve_all(_with_derivatives(displacement), target, guess, iterations, tolerance)
    error = middle - (found - target).reshape(middle.shape)
    around = _cell_means(functional.pad(error, [1] * 2 * (error.ndim - 2)))
    return exact - around * (2 / 3)


def _cell_means(volume: torch.Tensor) -> torch.Tensor:
    """Average the corners of each cell: one voxel less along each axis."""
    for axis in range(2, volume.ndim):
        size = volume.shape[axis] - 1
        volume = (volume.narrow(axis, 0, size) + volume.narrow(axis, 1, size)) / 2
    return volume


def _with_derivatives(displacement: torch.Tensor) -> torch.Tensor:
    """Stack one field and the derivatives of its map: ``(1, 12, X, Y, Z)``, ``(1, 6, X, Y)``."""
    rows = [element[:, None] for row in jacobian(displacement) for element in row]
    return torch.cat([displacement, *rows], dim=1)


def _solve_all(
    both: torch.Tensor,
    goal: torch.Tensor,
    guess: torch.Tensor,
    iterations: int,
    tolerance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve some points after others: many times a field's size is needed for each."""
    found, error = torch.empty_like(guess), torch.empty_like(guess[0])
    parts = (volume.split(POINTS, dim=-1) for volume in (goal, guess, found, error))
    for one, start, solved, missed in zip(*parts, strict=True):
        solved[:], missed[:] = _solve(both, one, start, iterations, tolerance)
    return found, error


def _solve(
    both: torch.Tensor,
    goal: torch.Tensor,
    guess: torch.Tensor,
    iterations: int,
    tolerance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the points ``(dims, M)`` that a map takes to the goals, and how far they miss."""
    dims = len(goal)
    found = guess.clone()
    error = lengths(guess + sample(both[:, :dims], guess[None])[0] - goal, 0)[0]
    active = (~(error <= tolerance)).nonzero()[:, 0]  # derivatives cost more: not for all
    goal, trial = goal[:, active], guess[:, active]
    scale = torch.ones_like(trial[0])
    best, best_error, step = trial, torch.full_like(scale, torch.inf), torch.zeros_like(trial)
    for _ in range(iterations if len(active) else 0):
        values = sample(both, trial[None])[0]
        miss = trial + values[:dims] - goal
        length = lengths(miss, 0)[0]
        better = length < best_error
        step = torch.where(better, _newton_step(values[dims:], miss), step)
        scale = torch.where(better, (2 * scale).clamp(max=1), scale / 2)
        best = torch.where(better, trial, best)
        best_error = torch.where(better, length, best_error)
        found[:, active], error[active] = best, best_error
        left = best_error > tolerance
        if not left.any():
            break
        active, goal, scale = active[left], goal[:, left], scale[left]
        best, best_error, step = best[:, left], best_error[left], step[:, left]
        trial = best + scale * step
    return found, error


def _smooth_start(displacement: torch.Tensor) -> torch.Tensor:
    """Guess where the map comes from: u, followed three steps of half their length."""
    follow = displacement
    for _ in range(3):
        follow = 0.5 * (follow + sample(displacement, displaced(-follow)))
    return follow


def _newton_step(derivatives: torch.Tensor, miss: torch.Tensor) -> torch.Tensor:
    """Solve the systems ``(dims * dims, M)`` by Cramer's rule; steps are bounded to 4 voxels."""
    step, determinant = (_cramer2 if len(miss) == 2 else _cramer3)(derivatives, -miss)
    safe = torch.where(determinant.abs() > 0.02, determinant, torch.full_like(determinant, 0.02))
    step = step / safe
    return step * (4 / lengths(step, 0).clamp(min=4))


def _cramer2(matrix: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Solution of 2 x 2 systems, times the determinant; and the determinant."""
    a, b, c, d = matrix
    x, y = right
    return torch.stack([d * x - b * y, a * y - c * x]), a * d - b * c


def _cramer3(matrix: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Solution of 3 x 3 systems, times the determinant; and the determinant."""
    a, b, c, d, e, f, g, h, i = matrix
    x, y, z = right
    first, second, third = e * i - f * h, f * g - d * i, d * h - e * g
    solution = torch.stack(
        [
            first * x + (c * h - b * i) * y + (b * f - c * e) * z,
            second * x + (a * i - c * g) * y + (c * d - a * f) * z,
            third * x + (b * g - a * h) * y + (a * e - b * d) * z,
        ]
    )
    return solution, a * first + b * second + c * third
