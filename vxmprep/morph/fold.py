"""Repair of a field where it is compressed so much that it might fold."""

import torch
from torch.nn import functional

from vxmprep.morph.field import jacobian_determinant
from vxmprep.morph.pyramid import to_image_grid
from vxmprep.morph.smooth import gaussian


@torch.inference_mode()
def unfold(
    state: torch.Tensor, mask: torch.Tensor, limit: float = 0.1, rounds: int = 20
) -> tuple[torch.Tensor, int]:
    """Smooth a field around the voxels where its interpolation's determinant is below a limit.

    Parameters
    ----------
    state
        Field on the state grid, ``(1, 3, x, y, z)``, voxels of that grid.
    mask
        Where to look, on the images' grid, ``(1, 1, X, Y, Z)`` bool.
    limit
        Smallest determinant that is left alone.
    rounds
        Upper bound on the repetitions.

    Returns
    -------
    displacement : torch.Tensor
        The repaired field, equal to `state` away from the repairs.
    found : int
        Voxels of the images' grid below the limit before the repair.
    """
    shape = mask.shape[2:]
    found = 0
    for attempt in range(rounds):
        determinant = jacobian_determinant(to_image_grid(state, shape))[:, None]
        bad = ((determinant < limit) & mask).to(state.dtype)
        count = int(bad.sum())
        found = found or count
        if not count:
            break
        where = functional.max_pool3d(bad, 3, stride=2, padding=1)
        extra = [new - old for new, old in zip(state.shape[2:], where.shape[2:], strict=True)]
        where = functional.pad(where, [0, extra[2], 0, extra[1], 0, extra[0]])
        state = soothe(state, where, 0.7 + 0.1 * attempt)
    return state, found


@torch.inference_mode()
def unfold_everywhere(
    displacement: torch.Tensor, limit: float = 0.1, rounds: int = 30
) -> torch.Tensor:
    """As `unfold`, for a field of any shape on its own grid, wherever it is compressed."""
    for attempt in range(rounds):
        bad = (jacobian_determinant(displacement) < limit)[:, None].to(displacement.dtype)
        if not bool(bad.any()):
            break
        displacement = soothe(displacement, bad, 0.7 + 0.1 * attempt)
    return displacement


def soothe(displacement: torch.Tensor, where: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooth a field two voxels around the marked ones, fading out."""
    wide = functional.max_pool3d(where, 5, stride=1, padding=2)
    blend = gaussian(wide, 1.0)
    return torch.lerp(displacement, gaussian(displacement, sigma), blend)
