"""Mean overlap of structures and its derivative, one structure after another."""

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from vxmprep.morph.blocks import blocks

SMALLEST = 1e-12
"""Guards a division by a size that is not zero but whose inverse would overflow."""


class MeanDice(torch.autograd.Function):
    """Weighted mean over the structures of batches of maps ``(N, K, ...)``.

    Kept for the backward pass are the maps themselves, in whatever type they came, and two numbers
    for each structure: the derivative of 2 I / S by a voxel of one map is 2 / S times the other
    map's voxel, minus 2 I / S^2.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, fixed: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Compute the mean over the structures that are in either map."""
        overlap, size = _measure(fixed, moving)
        counted = (size > 0).float()
        if weight is not None:
            counted *= weight
        counted /= counted.sum().clamp(min=SMALLEST)
        inverse = size.clamp(min=SMALLEST).reciprocal()
        dice = 2 * overlap * inverse
        ctx.save_for_backward(fixed, moving, 2 * inverse * counted, -dice * inverse * counted)
        return (dice * counted).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Derive by the maps that require it, each in its own type."""
        fixed, moving, slope, offset = ctx.saved_tensors
        gradients = (
            _affine(other, slope * upstream, offset * upstream, own.dtype) if wanted else None
            for own, other, wanted in (
                (fixed, moving, ctx.needs_input_grad[0]),
                (moving, fixed, ctx.needs_input_grad[1]),
            )
        )
        return *gradients, None


def _measure(fixed: torch.Tensor, moving: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the products, and of both maps, of each structure; ``(N, K)`` float32."""
    overlap = torch.zeros(fixed.shape[:2], device=fixed.device)
    size = torch.zeros_like(overlap)
    flat = fixed.flatten(0, 1), moving.flatten(0, 1)
    for which in blocks(flat[0]):
        one, other = (maps[which].float().flatten(1) for maps in flat)
        overlap.view(-1)[which[0]] += (one * other).sum(1)
        size.view(-1)[which[0]] += one.sum(1) + other.sum(1)
    return overlap, size


def _affine(
    maps: torch.Tensor, slope: torch.Tensor, offset: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Multiply each structure's map by a number and add another."""
    result = torch.empty(maps.shape, dtype=dtype, device=maps.device)
    flat, into = maps.flatten(0, 1), result.flatten(0, 1)
    slope, offset = (
        number.flatten().view(-1, *[1] * (flat.ndim - 1)) for number in (slope, offset)
    )
    for which in blocks(flat):
        numbers = slope[which[0]], offset[which[0]]
        into[which] = torch.addcmul(numbers[1], flat[which].float(), numbers[0])
    return result
