"""Whether a segmentation belongs to a scan."""

from __future__ import annotations

import nibabel as nb
import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.resample import resample

LEAST_INSIDE = 0.93
"""Share of the segmentation inside the brain mask: 0.99 where they belong together, 0.91 and less
when it lies 20 mm off."""


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
    # Not the share of what was placed: what falls outside the scan is misplaced too.
    size = np.prod(Grid.of(labels).spacing) / np.prod(Grid.of(mask).spacing)
    whole = np.count_nonzero(labels.dataobj) * size
    inside = np.count_nonzero(segmented & brain) / max(whole, 1.0)
    if inside < LEAST_INSIDE:
        return (
            f"only {inside:.0%} of the segmentation lies in the scan's brain, so it is left out; "
            "is it another scan's?"
        )
    if len(np.unique(placed.dataobj)) <= 5:
        return (
            "the segmentation holds tissue classes or hardly any structure, so it is left out; "
            "give FreeSurfer-numbered labels"
        )
    return None
