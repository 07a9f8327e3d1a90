"""Energies of the finite differences of a field, and their derivatives in closed form."""

import itertools
import math
from collections.abc import Callable

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from vxmprep.morph.blocks import blocks

Terms = tuple[tuple[tuple[int, ...], float], ...]
"""Axes along which to take differences, one after another, and the weight of their mean."""

MEASURES: dict[str, tuple[Callable, Callable]] = {
    "l1": (torch.abs, torch.sign),
    "l2": (torch.square, lambda difference: 2 * difference),
}
"""Energy of a difference and its derivative."""


class DifferenceEnergy(torch.autograd.Function):
    """Weighted sum of mean energies of forward differences of volumes ``(N, X, ...)``, float32.

    The forward pass adds up the derivative by the volumes along with the value, block by block;
    nothing else is kept.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, volumes: torch.Tensor, terms: Terms, norm: str, wanted: bool
    ) -> torch.Tensor:
        """Compute the energy and, where `wanted`, its derivative."""
        gradient = None
        if wanted:
            gradient = torch.zeros_like(volumes, memory_format=torch.contiguous_format)
        energy = [
            _add_term(volumes, samples, planes, gradient, term, norm)
            for samples, planes in blocks(volumes)
            for term in terms
        ]
        ctx.save_for_backward(gradient)
        return torch.stack(energy).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale the derivative."""
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None


def _add_term(
    volumes: torch.Tensor,
    samples: slice,
    planes: slice,
    gradient: torch.Tensor | None,
    term: tuple[tuple[int, ...], float],
    norm: str,
) -> torch.Tensor:
    """One term's energy in a block, whose first planes differences along X begin from."""
    axes, weight = term
    piece = samples, slice(planes.start, planes.stop + axes.count(1))
    difference = volumes[piece]
    for axis in axes:
        difference = difference.diff(dim=axis)
    weight = weight / max(1, _places(volumes, axes))
    energy, derivative = MEASURES[norm]
    if gradient is not None and difference.numel():
        _add_transposed(derivative(difference), axes, weight, gradient[piece])
    return energy(difference).sum() * weight


def _places(volumes: torch.Tensor, axes: tuple[int, ...]) -> int:
    """Count the places of the volumes that have the difference along `axes`."""
    shape = enumerate(volumes.shape)
    return math.prod(max(0, size - axes.count(axis)) for axis, size in shape)


def _add_transposed(
    difference: torch.Tensor, axes: tuple[int, ...], weight: float, into: torch.Tensor
) -> None:
    """Add to each voxel the differences it enters, with the sign it enters them with."""
    for ends in itertools.product((0, 1), repeat=len(axes)):
        corner = into
        for axis, end in zip(axes, ends, strict=True):
            corner = corner.narrow(axis, end, corner.shape[axis] - 1)
        sign = (-1) ** (len(axes) - sum(ends))
        corner.add_(difference, alpha=sign * weight)
