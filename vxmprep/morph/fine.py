"""The last iterations of a refinement, with the field at the images' own resolution.

`vxmprep.morph.refine` keeps its field at half the images' resolution. What it leaves of thin folds
of the cortex is taken here.
"""

import torch

from vxmprep.morph.field import compose
from vxmprep.morph.fold import unfold_fine
from vxmprep.morph.ncc import LocalNcc
from vxmprep.morph.pyramid import to_image_grid
from vxmprep.morph.refine import Tuning, brain_box, newton_update
from vxmprep.morph.smooth import box_sum, gaussian

TUNING = Tuning(window=(5,), update_sigma=(1.2,), field_sigma=(0.35,), step=(1.0,))


@torch.no_grad()
def refine_finely(
    moving: torch.Tensor,
    fixed: torch.Tensor,
    mask: torch.Tensor,
    state: torch.Tensor,
    *,
    iterations: int,
    linear: torch.Tensor | None = None,
    tuning: Tuning = TUNING,
) -> tuple[torch.Tensor, tuple[float, ...], int]:
    """Go on from a refined field, on the images' grid.

    Parameters
    ----------
    moving, fixed
        Images ``(1, 1, X, Y, Z)`` float32, intensities in [0, 1], background 0.
    mask
        The fixed image's brain, ``(1, 1, X, Y, Z)`` bool.
    state
        Field of `vxmprep.morph.refine.refine`, on its state grid.
    iterations
        How many; the similarity gains in each, so none is left out.
    linear
        Matrix ``(3, 3)`` of the affine that follows, see `vxmprep.morph.fold.unfold`.
    tuning
        Numbers of the optimisation, one level.

    Returns
    -------
    displacement : torch.Tensor
        Field ``(1, 3, X, Y, Z)``, voxels.
    similarity : tuple of float
        Mean squared local correlation inside the mask before each iteration.
    repaired : int
        Voxels that the final repair found compressed or stretched beyond its limit.
    """
    box = brain_box(mask | (moving > 0))
    dense = to_image_grid(state, fixed.shape[2:])
    moving, fixed, mask, field = (
        volume[(..., *box)].contiguous() for volume in (moving, fixed, mask, dense)
    )
    brain = box_sum(mask.to(fixed.dtype), 5)
    similarity = LocalNcc(fixed, (brain > 0.5).to(fixed.dtype), tuning.window[0])
    values = []
    for _ in range(iterations):
        value, update = newton_update(moving, field, similarity, 0, tuning)
        field = gaussian(compose(field, update), tuning.field_sigma[0])
        values.append(float(value))
    field, repaired = unfold_fine(field, brain > 0, linear)
    dense[(..., *box)] = field
    return dense, tuple(values), repaired
