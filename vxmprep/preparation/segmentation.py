"""Whether a segmentation belongs to a scan."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import ImageError, load
from vxmprep.spatial.resample import resample

LEAST_INSIDE = 0.93
"""Share of the segmentation inside the brain mask: 0.99 where they belong together, 0.91 and less
when it lies 20 mm off."""

MOST_TISSUES = 5
"""Different values, 0 among them; no more than these are tissue classes, not structures."""

LARGEST_FRACTION = 0.01
"""How far a label may be from a whole number; scaled or stored as floats they are hardly off."""

FRACTIONS = (
    "holds fractions, so it is a probability map or was interpolated; give labels, resampled with "
    "nearest neighbour if at all"
)


INTENSITIES = (
    "holds intensities, not labels (voxels side by side hardly ever have the same value); give a "
    "label map"
)

LEAST_ALIKE = 0.35
"""Share of neighbours, neither of them 0, that have one value: 0.8 and more in atlases and
FreeSurfer's segmentations, 0.22 and less in T1w images of 8 bit and more."""

FEW = 60
"""Values that labels may have however they lie; images have more."""


def load_whole(path: str | Path) -> nb.Nifti1Image:
    """Read an image of whole numbers; those stored as floating point are rounded.

    Returns
    -------
    nibabel.Nifti1Image
        Of the file's type, int32 if that is floating point; it may hold nothing but 0.

    Raises
    ------
    ImageError
        If it cannot be read, or holds fractions, intensities or what is below 0.
    """
    image = load(path, None)
    if reason := _no_whole_numbers(np.asanyarray(image.dataobj)):
        raise ImageError(f"{path}: {reason}")
    return _rounded(image) if image.get_data_dtype().kind == "f" else image


def load_labels(path: str | Path) -> nb.Nifti1Image:
    """Read a label map; labels stored as floating point are rounded.

    Parameters
    ----------
    path : path
        An image of whole numbers, on any grid.

    Returns
    -------
    nibabel.Nifti1Image
        int32.

    Raises
    ------
    ImageError
        If it cannot be read, or its values are no labels: fractions, negative, beyond 32
        bits, or all 0.
    """
    image = load(path, None)
    if reason := no_labels(image):
        raise ImageError(f"{path}: {reason}")
    return _rounded(image)


def no_labels(image: nb.spatialimages.SpatialImage) -> str | None:
    """Say why the values of an image cannot be labels, or None if they can."""
    data = np.asanyarray(image.dataobj)
    reason = _no_whole_numbers(data)
    if reason is None and np.rint(data.max()) == 0:
        return "holds no label, every voxel is 0; make it anew"
    return reason


def _no_whole_numbers(data: np.ndarray) -> str | None:
    """Say why an image is no label map, be it an empty one, or None if it is."""
    if _fractions(data):
        return FRACTIONS
    if (lowest := np.rint(data.min())) < 0:
        return f"holds negative labels, down to {lowest:g}; give FreeSurfer-numbered labels"
    if (highest := float(data.max())) > np.iinfo(np.int32).max:
        return f"holds labels up to {highest:g}; give FreeSurfer-numbered labels"
    return INTENSITIES if _intensities(data) else None


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
    reason = no_labels(labels)
    if reason:
        return f"the segmentation {reason}"
    labels = _rounded(labels)
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
    if len(np.unique(placed.dataobj)) <= MOST_TISSUES:
        return (
            "the segmentation holds tissue classes or hardly any structure, so it is left out; "
            "give FreeSurfer-numbered labels"
        )
    return None


def _fractions(data: np.ndarray) -> bool:
    # Plane by plane, as below: whole copies of a fine atlas's labels take gigabytes.
    planes = data.T if data.dtype.kind == "f" else ()
    return any(np.abs(p - np.rint(p)).max(initial=0) > LARGEST_FRACTION for p in planes)


def _intensities(data: np.ndarray) -> bool:
    """Tell an image of whole intensities from labels, which lie together."""
    pairs = alike = 0
    for plane in data.T:
        inside = (plane[1:] != 0) & (plane[:-1] != 0)
        pairs += np.count_nonzero(inside)
        alike += np.count_nonzero(inside & (plane[1:] == plane[:-1]))
    return alike < LEAST_ALIKE * pairs and len(np.unique(data)) > FEW


def _rounded(image: nb.spatialimages.SpatialImage) -> nb.Nifti1Image:
    data = np.asanyarray(image.dataobj)
    if data.dtype.kind == "f":
        data = np.rint(data, out=np.empty_like(data, np.int32), casting="unsafe")
    return nb.Nifti1Image(data.astype(np.int32, copy=False), image.affine)
