"""Whether a segmentation belongs to a scan."""

from __future__ import annotations

import nibabel as nb
import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.resample import resample

LEAST_OVERLAP = 0.6
"""Dice of segmentation and brain mask: 0.85 to 0.97 where they belong together."""


def misplaced(
    labels: nb.spatialimages.SpatialImage, mask: nb.spatialimages.SpatialImage
) -> str | None:
    """Say why a segmentation cannot be this scan's, or None if it can.

    FreeSurfer's volumes may belong to another run of the session, in another place of the world.

    Parameters
    ----------
    labels : image
        Segmentation on any grid; placed by its own affine.
    mask : image
        Brain mask on the scan's grid.
    """
    placed = resample(labels, Grid.of(mask), np.eye(4), nearest=True)
    segmented = np.asarray(placed.dataobj) > 0
    brain = np.asanyarray(mask.dataobj) > 0
    overlap = 2 * np.count_nonzero(segmented & brain) / (segmented.sum() + brain.sum())
    if overlap < LEAST_OVERLAP:
        return (
            f"the segmentation overlaps the scan's brain by {overlap:.2f} only (Dice), so it is "
            "left out; is it another scan's?"
        )
    if len(np.unique(placed.dataobj)) <= 5:
        return (
            "the segmentation holds tissue classes or hardly any structure, so it is left out; "
            "give FreeSurfer-numbered labels"
        )
    return None
