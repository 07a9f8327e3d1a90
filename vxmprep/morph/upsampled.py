"""Convolution of a volume upsampled twofold, at the cost of the volume itself.

After nearest-neighbour upsampling three neighbours hold two coarse values at most, so a kernel
(a, b, c) acts on the coarse grid as two kernels of width 2: (a, b + c) for even voxels and
(a + b, c) for odd ones. In three dimensions eight products remain of 27, and the upsampled volume
is never made.
"""

import itertools
from typing import Any

import torch


def fold(weight: torch.Tensor) -> torch.Tensor:
    """Turn a kernel for the upsampled volume into kernels for the coarse one.

    Parameters
    ----------
    weight
        Kernel ``(O, I, 3, 3, 3)`` or ``(O, I, 3, 3)``.

    Returns
    -------
    torch.Tensor
        Kernels ``(8 O, I, 2, 2, 2)`` or ``(4 O, I, 2, 2)``, for even and odd voxels along each
        axis, the last axis fastest.
    """
    for axis in range(weight.ndim - 1, 1, -1):
        before, centre, after = weight.unbind(axis)
        even = torch.stack([before, centre + after], dim=axis)
        odd = torch.stack([before + centre, after], dim=axis)
        weight = torch.cat([even, odd])
    return weight


def assemble(fine: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """Add to a volume, in place, the convolution of an upsampled one.

    Parameters
    ----------
    fine
        Volume ``(N, O, 2 X, 2 Y, 2 Z)``.
    parts
        Convolution by the folded kernels of the coarse volume with one voxel of zeros around it,
        ``(N, 8 O, X + 1, Y + 1, Z + 1)``.

    Returns
    -------
    torch.Tensor
        `fine`.
    """
    return _Assemble.apply(fine, parts)


class _Assemble(torch.autograd.Function):
    """Autograd would copy the whole volume for each of the slices written to."""

    @staticmethod
    def forward(ctx: Any, fine: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
        for of_fine, of_parts in _pieces(fine):
            fine[of_fine] += parts[of_parts]
        ctx.mark_dirty(fine)
        ctx.shape = parts.shape
        return fine

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        last = torch.channels_last_3d if gradient.ndim == 5 else torch.channels_last
        parts = torch.zeros(ctx.shape, dtype=gradient.dtype, device=gradient.device).contiguous(
            memory_format=last
        )
        for of_fine, of_parts in _pieces(gradient):
            parts[of_parts] = gradient[of_fine]
        return gradient, parts


def _pieces(fine: torch.Tensor) -> list[tuple[tuple, tuple]]:
    """Pair the even and odd voxels of the volume with those of the parts."""
    features = fine.shape[1]
    coarse = [size // 2 for size in fine.shape[2:]]
    pieces = []
    for index, odd in enumerate(itertools.product((0, 1), repeat=len(coarse))):
        voxels = [slice(o, None, 2) for o in odd]
        cells = [slice(o, o + size) for o, size in zip(odd, coarse, strict=True)]
        channels = slice(index * features, (index + 1) * features)
        pieces.append(((..., *voxels), (slice(None), channels, *cells)))
    return pieces
