"""The Jacobian determinant of a written transform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nb
import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import field_member
from vxmprep.spatial.jacobian import jacobian_determinant as determinant_of

if TYPE_CHECKING:
    import SimpleITK as sitk


@dataclass(frozen=True)
class Folding:
    """How a map treats volumes inside a mask.

    Attributes
    ----------
    folded : int
        Voxels whose determinant is zero or negative.
    voxels : int
        Voxels of the mask.
    lowest, highest : float
        Extreme determinants inside the mask.
    """

    folded: int
    voxels: int
    lowest: float
    highest: float

    @property
    def percent(self) -> float:
        """Folded voxels as a percentage of the mask."""
        return 100 * self.folded / self.voxels


def jacobian_determinant(transform: sitk.Transform, grid: Grid) -> nb.Nifti1Image:
    """Give the determinant of a transform's deformable part on a grid.

    Parameters
    ----------
    transform : SimpleITK.Transform
        Composite that holds one displacement field; its affine is left out.
    grid : Grid
        Grid of the atlas. Derivatives are central differences between its voxels, mm to mm.

    Returns
    -------
    nibabel.Nifti1Image
        float32 on `grid`; above 1 where the scan is larger than the atlas.
    """
    return determinant_of(field_member(transform), grid)


def folding(determinant: np.ndarray, mask: np.ndarray) -> Folding:
    """Count the voxels of a mask at which the map folds."""
    inside = determinant[mask]
    if not inside.size:
        raise ValueError("folding: the mask is empty")
    return Folding(
        int(np.count_nonzero(inside <= 0)),
        int(inside.size),
        float(inside.min()),
        float(inside.max()),
    )
