"""The scan as the network sees it."""

from __future__ import annotations

import nibabel as nb
import numpy as np

from vxmprep.preparation.bias import lifted
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import like
from vxmprep.spatial.resample import resample

WHITEST = 99.5
"""Percentile of the intensities inside the mask that becomes 1."""


def conform(
    image: nb.spatialimages.SpatialImage,
    mask: nb.spatialimages.SpatialImage,
    grid: Grid,
    atlas_to_scan: np.ndarray,
) -> nb.Nifti1Image:
    """Bring a brain to the network's grid and intensity scale with one interpolation.

    Parameters
    ----------
    image, mask : image
        Scan (bias-corrected or not) and its brain mask, on one grid.
    grid : Grid
        The network's grid.
    atlas_to_scan : (4, 4) array
        Points of `grid` to points of the scan, RAS mm.

    Returns
    -------
    nibabel.Nifti1Image
        uint8 on `grid`: 0 outside the brain, 255 at the 99.5th percentile of the brain and above.
    """
    intensities = np.asarray(image.dataobj, dtype=np.float32)
    image = like(lifted(intensities, np.asanyarray(mask.dataobj) > 0), image)
    data = np.asarray(resample(image, grid, atlas_to_scan).dataobj)
    inside = np.asarray(resample(mask, grid, atlas_to_scan).dataobj) >= 0.5
    if not inside.any():
        raise ValueError(
            "the brain lies outside the atlas's grid: the affine is of another scan or atlas"
        )
    top = np.percentile(data[inside], WHITEST)
    scaled = np.where(inside, np.clip(data / max(top, np.finfo(np.float32).tiny), 0, 1), 0)
    return nb.Nifti1Image(np.rint(255 * scaled).astype(np.uint8), grid.affine)
