"""How alike two images are inside a mask."""

from __future__ import annotations

import numpy as np

from vxmprep.evaluation.surface import box_of

WINDOW = 9
"""Voxels along each side of the windows of the local correlation, as in the paper."""

BINS = 64


def local_correlation(fixed: np.ndarray, moving: np.ndarray, mask: np.ndarray) -> float:
    """Average the squared correlation of windows of 9 x 9 x 9 voxels over those of a mask.

    Parameters
    ----------
    fixed, moving : (X, Y, Z) arrays
        Skull-stripped images on one grid; each is scaled so that its 99.5th percentile inside the
        mask is 1.
    mask : (X, Y, Z) bool array
        Windows around these voxels count, cut off at the image's border.

    Returns
    -------
    float
        0 to 1; NaN for an empty mask. Equation 6 of the paper, divided by the number of windows.
    """
    import torch

    from vxmprep.morph.ncc import Side, correlate

    if not mask.any():
        return float("nan")
    around = WINDOW // 2
    window = tuple(slice(max(s.start - around, 0), s.stop + around) for s in box_of(mask))
    inner = mask[window]
    one, other, weight = (
        torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None]
        for volume in (_scaled(fixed[window], inner), _scaled(moving[window], inner), inner)
    )
    return float(correlate(Side(one), Side(other), WINDOW, weight=weight) / weight.sum())


def mutual_information(fixed: np.ndarray, moving: np.ndarray, mask: np.ndarray) -> float:
    """Measure the mutual information of two images inside a mask.

    Parameters
    ----------
    fixed, moving : (X, Y, Z) arrays
        Images on one grid, each cut to its 0.5th to 99.5th percentile inside the mask and sorted
        into 64 bins of equal width.
    mask : (X, Y, Z) bool array
        Voxels that count.

    Returns
    -------
    float
        In nats, at least 0; NaN for an empty mask.
    """
    if not mask.any():
        return float("nan")
    one, other = (binned(image[mask]) for image in (fixed, moving))
    joint = np.bincount(one * BINS + other, minlength=BINS**2).reshape(BINS, BINS) / one.size
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    full = joint > 0
    return float((joint[full] * np.log(joint[full] / apart[full])).sum())


def binned(values: np.ndarray) -> np.ndarray:
    """Sort values into 64 bins from their 0.5th to their 99.5th percentile."""
    low, high = np.percentile(values, (0.5, 99.5))
    if high <= low:
        return np.zeros(values.shape, np.int64)
    share = (np.clip(values, low, high) - low) / (high - low)
    return np.minimum((share * BINS).astype(np.int64), BINS - 1)


def _scaled(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    high = float(np.percentile(image[mask], 99.5))
    scaled = np.asarray(image, np.float32) / (high if high > 0 else 1)
    return np.clip(scaled, 0, 1, out=scaled)
