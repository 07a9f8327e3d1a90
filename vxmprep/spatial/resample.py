"""One interpolation from an image to another grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nb
import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import as_itk_affine, itk_frame, to_sitk

if TYPE_CHECKING:
    import SimpleITK as sitk


def resample(
    image: nb.spatialimages.SpatialImage,
    grid: Grid,
    transform: np.ndarray | sitk.Transform,
    *,
    nearest: bool = False,
) -> nb.Nifti1Image:
    """Resample an image onto a grid through a transform, as any ITK program would.

    Parameters
    ----------
    image : image
        3-D image.
    grid : Grid
        Where the result is wanted.
    transform : (4, 4) array or SimpleITK.Transform
        Maps points of `grid` to points of `image`; a matrix in RAS mm, or an ITK transform.
    nearest : bool
        Nearest neighbour, for labels; otherwise linear and float32.

    Returns
    -------
    nibabel.Nifti1Image
        On `grid`; 0 where the image does not reach.
    """
    import SimpleITK as sitk

    if isinstance(transform, np.ndarray):
        transform = as_itk_affine(transform)
    how = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    moving = to_sitk(image, None if nearest else np.float32)
    return nb.Nifti1Image(interpolated(moving, grid, transform, how), grid.affine)


def interpolated(image: sitk.Image, grid: Grid, transform: sitk.Transform, how: int) -> np.ndarray:
    """Interpolate an ITK image at the points that a transform takes a grid's voxels to."""
    import SimpleITK as sitk

    direction, spacing, origin = itk_frame(grid)
    out = sitk.Resample(
        image,
        [int(n) for n in grid.shape],
        transform,
        how,
        origin.tolist(),
        spacing.tolist(),
        direction.ravel().tolist(),
        0.0,
    )
    return sitk.GetArrayFromImage(out).T
