"""The Jacobian determinant of a transform on a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nb
import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import itk_frame

if TYPE_CHECKING:
    import SimpleITK as sitk

SLAB = 10_000_000
"""Voxels whose displacements are there at a time: 72 bytes each. A grid of 1 mm has fewer."""


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
    import SimpleITK as sitk

    data = np.empty(grid.shape, np.float32, order="F")
    for planes, slab, inner in grid.slabs(SLAB, margin=1):
        determinant = sitk.DisplacementFieldJacobianDeterminant(field_along_axes(transform, slab))
        data[..., planes] = sitk.GetArrayFromImage(determinant).T[..., inner]
    return nb.Nifti1Image(data, grid.affine)


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
    turned = sitk.GetArrayViewFromImage(field) @ direction
    along_axes = sitk.GetImageFromArray(turned, isVector=True)
    along_axes.SetSpacing(spacing.tolist())
    return along_axes
