"""Correction of the slow intensity gradient that coils leave in a scan."""

from __future__ import annotations

import nibabel as nb
import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import like
from vxmprep.spatial.itk import to_sitk

FIT_SPACING = 6.0
"""The field is fitted on voxels of about this size in mm."""


def correct_bias(
    image: nb.spatialimages.SpatialImage, mask: nb.spatialimages.SpatialImage
) -> nb.Nifti1Image:
    """Divide a scan by its bias field, found with N4 inside the brain.

    Parameters
    ----------
    image : image
        Scan with or without skull. Where the brain holds negative intensities all are lifted by
        the lowest of them.
    mask : image
        Brain mask on the scan's grid.

    Returns
    -------
    nibabel.Nifti1Image
        float32 on the scan's grid. The mean inside the mask is that of the scan.

    References
    ----------
    Tustison et al., N4ITK: improved N3 bias correction, IEEE TMI 29(6) (2010).
    """
    import SimpleITK as sitk

    data = np.asarray(image.dataobj, dtype=np.float32)
    brain = np.asanyarray(mask.dataobj) > 0
    data = lifted(data, brain)
    scan = to_sitk(like(data, image))
    shrink = np.maximum(np.round(FIT_SPACING / Grid.of(image).spacing), 1).astype(int).tolist()
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([50, 50, 50])
    n4.SetConvergenceThreshold(1e-4)
    # Zeros inside the mask have no logarithm.
    usable = to_sitk(like(brain & (data > 0), image))
    n4.Execute(sitk.Shrink(scan, shrink), sitk.Shrink(usable, shrink))
    field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(scan)).T
    corrected = data * np.exp(-field)
    corrected *= data[brain].mean() / corrected[brain].mean()
    return like(corrected.astype(np.float32), image)


def lifted(data: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Lift a scan by the lowest of its negative intensities in the brain, as of one of mean 0.

    Parameters
    ----------
    data : float32 array
        Intensities.
    brain : bool array
        Where the brain is.

    Returns
    -------
    array
        None is negative; an erased background stays 0.
    """
    lowest = data[brain].min(initial=0)
    return np.where(~brain & (data == 0), np.float32(0), np.maximum(data - lowest, 0))
