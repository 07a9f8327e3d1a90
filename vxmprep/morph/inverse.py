"""Numerical inverse of a field, and its smooth extension beyond the brain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from vxmprep.morph.field import displaced, jacobian, sample
from vxmprep.morph.fold import unfold


@dataclass(frozen=True)
class Inverse:
    """A field's numerical inverse and how far from one it is.

    Attributes
    ----------
    displacement
        Field w with u(p + w(p)) + w(p) = 0, ``(1, 3, X, Y, Z)``, voxels.
    residual
        Length of u(p + w(p)) + w(p), ``(1, 1, X, Y, Z)``, voxels.
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
def invert(displacement: torch.Tensor, iterations: int = 30, tolerance: float = 0.005) -> Inverse:
    """Invert the map p + u(p) on its own grid, by Newton's method at each voxel.

    Each step solves (I + grad u) step = -(u(p + w) + w) with the derivatives at p + w, so that it
    also converges where |grad u| exceeds 1, where a fixed-point iteration w <- -u(p + w)
    diverges. A step that does not shorten the residual is taken back and halved. Solved voxels
    drop out.

    Parameters
    ----------
    displacement
        Field ``(1, 3, X, Y, Z)``, voxels; outside the grid it keeps its value at the edge.
    iterations
        Upper bound on the steps.
    tolerance
        Residual, in voxels, at which a voxel is solved.

    Returns
    -------
    Inverse
        The inverse on the same grid, and its residual.
    """
    both = _with_derivatives(displacement)
    target = displaced(torch.zeros_like(displacement)).flatten(2)[0]
    guess = target - _smooth_start(displacement).flatten(2)[0]
    found, error = _solve(both, target, guess, iterations, tolerance)
    inverse = (found - target).reshape(displacement.shape)
    return Inverse(inverse, error.reshape(1, 1, *displacement.shape[2:]))


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
    """
    exact = invert(displacement, iterations, tolerance)
    both = _with_derivatives(displacement)
    middle = _cell_means(exact.displacement)
    target = displaced(torch.zeros_like(middle)).flatten(2)[0] + 0.5
    guess = target + middle.flatten(2)[0]
    found, _ = _solve(both, target, guess, iterations, tolerance)
    error = middle - (found - target).reshape(middle.shape)
    around = _cell_means(functional.pad(error, [1] * 6))
    return Inverse(exact.displacement - around * (2 / 3), exact.residual)


def _cell_means(volume: torch.Tensor) -> torch.Tensor:
    """Average the eight corners of each cell: one voxel less along each axis."""
    for axis in (-3, -2, -1):
        size = volume.shape[axis] - 1
        volume = (volume.narrow(axis, 0, size) + volume.narrow(axis, 1, size)) / 2
    return volume


def _with_derivatives(displacement: torch.Tensor) -> torch.Tensor:
    """Stack a field and the nine derivatives of its map, ``(1, 12, X, Y, Z)``."""
    rows = [element[:, None] for row in jacobian(displacement) for element in row]
    return torch.cat([displacement, *rows], dim=1)


def _solve(
    both: torch.Tensor,
    goal: torch.Tensor,
    guess: torch.Tensor,
    iterations: int,
    tolerance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the points ``(3, M)`` that a map takes to the goals, and how far they miss."""
    found = guess.clone()
    error = torch.full_like(found[0], torch.inf)
    active = torch.arange(found.shape[1], device=found.device)
    trial, scale = guess, torch.ones_like(error)
    best, best_error, step = trial, error, torch.zeros_like(trial)
    for _ in range(iterations):
        values = _at(both, trial)
        miss = trial + values[:3] - goal
        length = miss.norm(dim=0)
        better = length < best_error
        step = torch.where(better, _newton_step(values[3:], miss), step)
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


def _at(volumes: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Interpolate volumes ``(1, C, X, Y, Z)`` at points ``(3, M)``, in rows for the threads."""
    count = points.shape[1]
    rows = 64 if count > 4096 else 1
    width = -(-count // rows)
    padded = functional.pad(points, [0, rows * width - count])
    values = sample(volumes, padded.reshape(1, 3, rows, width, 1))
    return values.reshape(volumes.shape[1], -1)[:, :count]


def _newton_step(derivatives: torch.Tensor, miss: torch.Tensor) -> torch.Tensor:
    """Solve the 3 x 3 systems by Cramer's rule; steps are bounded to 4 voxels."""
    a, b, c, d, e, f, g, h, i = derivatives
    x, y, z = -miss
    first, second, third = e * i - f * h, f * g - d * i, d * h - e * g
    determinant = a * first + b * second + c * third
    safe = torch.where(determinant.abs() > 0.02, determinant, torch.full_like(determinant, 0.02))
    step = torch.stack(
        [
            first * x + (c * h - b * i) * y + (b * f - c * e) * z,
            second * x + (a * i - c * g) * y + (c * d - a * f) * z,
            third * x + (b * g - a * h) * y + (a * e - b * d) * z,
        ]
    )
    step = step / safe
    return step * (4 / step.norm(dim=0).clamp(min=4))


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
        Field ``(1, 3, X, Y, Z)``, voxels.
    mask
        Brain mask on the field's grid, ``(1, 1, X, Y, Z)`` bool.
    margin
        Voxels added on every side: voxel p of the field is voxel p + margin of the result.
    dilation
        Voxels around the mask where the field is also kept.
    linear
        Matrix of the affine that follows, see `unfold`.

    Returns
    -------
    torch.Tensor
        Field ``(1, 3, X + 2 margin, Y + 2 margin, Z + 2 margin)``, zero on its border.
    """
    pad = [margin] * 6
    known = functional.max_pool3d(
        mask.to(displacement.dtype), 2 * dilation + 1, stride=1, padding=dilation
    )
    values = functional.pad(displacement * known, pad)
    known = functional.pad(known, pad)
    extended = _membrane(values, known)
    everywhere = torch.ones(
        (1, 1, *(2 * size - 2 for size in extended.shape[2:])), dtype=torch.bool
    )
    return unfold(extended, everywhere.to(extended.device), linear)[0]


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
