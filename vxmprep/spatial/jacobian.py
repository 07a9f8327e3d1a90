"""The Jacobian determinant of a transform on a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nb
import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import itk_frame

if TYPE_CHECKING:
    import SimpleITK as sitk


def jacobian_determinant(transform: sitk.Transform, grid: Grid) -> nb.Nifti1Image:
    """Give the determinant of a map of points at the voxels of a grid.

    Parameters
    ----------
    transform : SimpleITK.Transform
        Maps points of `grid` to points of an image.
    grid : Grid
        Derivatives are central differences between its voxels, mm to mm.

    Returns
    -------
    nibabel.Nifti1Image
        float32 on `grid`; above 1 where the image is larger than its place on `grid`.
    """
    return nb.Nifti1Image(determinant(field_along_axes(transform, grid)), grid.affine)


def determinant(field: sitk.Image) -> np.ndarray:
    """Give the Jacobian determinants, float32 (X, Y, Z), of a field as `field_along_axes` gives it."""
    import SimpleITK as sitk

    found = sitk.DisplacementFieldJacobianDeterminant(field)
    return sitk.GetArrayFromImage(found).T.astype(np.float32)


def field_along_axes(transform: sitk.Transform, grid: Grid) -> sitk.Image:
    """Give the displacement of a map of points at the voxels of a grid, along the grid's axes.

    ITK's filter differentiates along the array's axes but leaves the vectors in the world's:
    turned into the array's frame, they agree for any orientation of the grid.

    Parameters
    ----------
    transform : SimpleITK.Transform
        Maps points of `grid` to points of an image.
    grid : Grid
        Where.

    Returns
    -------
    SimpleITK.Image
        Vectors in mm; of the grid it has the spacing alone.
    """
    import SimpleITK as sitk

    direction, spacing, origin = itk_frame(grid)
    field = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        [int(n) for n in grid.shape],
        origin.tolist(),
        spacing.tolist(),
        direction.ravel().tolist(),
    )
    along_axes = sitk.GetImageFromArray(sitk.GetArrayFromImage(field) @ direction, isVector=True)
    along_axes.SetSpacing(spacing.tolist())
    return along_axes
