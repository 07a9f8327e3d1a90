"""Overlap of two label maps, structure by structure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MANY = 2**20
"""Voxels that are counted at once; and ids from which counting takes too much memory, and sorting
is slower but does."""


@dataclass(frozen=True)
class Overlap:
    """Overlap of one structure.

    Attributes
    ----------
    label : int
        FreeSurfer id.
    voxels_fixed, voxels_moving : int
        Voxels of the structure in either map.
    dice : float
        2 |A and B| / (|A| + |B|), equation 8 of the paper; NaN where either side lacks it.
    """

    label: int
    voxels_fixed: int
    voxels_moving: int
    dice: float

    @property
    def jaccard(self) -> float:
        """Share of the union that is common, |A and B| / |A or B|; NaN where Dice is."""
        return self.dice / (2 - self.dice)

    @property
    def volume_difference(self) -> float:
        """Volume of the moving structure less the fixed one's, in percent of the fixed one's.

        NaN where either side lacks it.
        """
        if not (self.voxels_fixed and self.voxels_moving):
            return float("nan")
        return 100 * (self.voxels_moving - self.voxels_fixed) / self.voxels_fixed


def overlaps(fixed: np.ndarray, moving: np.ndarray) -> dict[int, Overlap]:
    """Give the overlap of every structure that either of two label maps holds.

    Parameters
    ----------
    fixed, moving : (X, Y, Z) integer arrays
        Label maps on one grid; 0 is background.

    Returns
    -------
    dict
        Overlaps by label, ascending. One pass over the voxels, whatever the number of labels.

    Raises
    ------
    ValueError
        If the grids differ, or the values are not whole numbers by their type, or negative.

    Examples
    --------
    >>> a, b = np.array([[[1, 1, 2, 0]]]), np.array([[[1, 2, 2, 3]]])
    >>> [(o.label, round(o.dice, 3)) for o in overlaps(a, b).values()]
    [(1, 0.667), (2, 0.667), (3, nan)]
    """
    if fixed.shape != moving.shape:
        raise ValueError(f"overlaps: grids differ, {fixed.shape} and {moving.shape}")
    for labels in (fixed, moving):
        if labels.dtype.kind not in "iub":
            raise ValueError(f"overlaps: labels are {labels.dtype}; give whole numbers")
        if labels.min(initial=0) < 0:
            raise ValueError(f"overlaps: holds a negative label, {labels.min()}; give others")
    both = np.where(fixed == moving, fixed, fixed.dtype.type(0))
    in_fixed, in_moving, in_both = map(count_labels, (fixed, moving, both))
    found = {}
    for label in sorted(in_fixed.keys() | in_moving.keys()):
        a, b = in_fixed.get(label, 0), in_moving.get(label, 0)
        dice = 2 * in_both.get(label, 0) / (a + b) if a and b else float("nan")
        found[label] = Overlap(label, a, b, dice)
    return found


def count_labels(labels: np.ndarray) -> dict[int, int]:
    """Count the voxels of each label above 0.

    Parameters
    ----------
    labels : integer array
        Of any shape.

    Returns
    -------
    dict
        Counts by label, ascending.
    """
    highest = int(labels.max(initial=0))
    if highest >= MANY:
        ids, counts = np.unique(labels[labels > 0], return_counts=True)
    else:
        counts = np.zeros(highest + 1, np.int64)
        flat = labels.ravel(order="K")
        for start in range(0, flat.size, MANY):  # eight bytes a voxel are needed for each part
            part = np.maximum(flat[start : start + MANY], 0).astype(np.int64)
            counts += np.bincount(part, minlength=len(counts))
        counts[0] = 0
        ids = np.flatnonzero(counts)
        counts = counts[ids]
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def mean_dice(found: dict[int, Overlap], labels: tuple[int, ...]) -> tuple[float, int]:
    """Average Dice over structures present on both sides.

    Returns
    -------
    tuple
        Mean (NaN where there is none) and the number of structures it is taken over.
    """
    values = [found[k].dice for k in labels if k in found and not np.isnan(found[k].dice)]
    return (float(np.mean(values)) if values else float("nan")), len(values)


def joined_dice(parts: Iterable[tuple[float, int, int]]) -> float:
    """Give Dice of several structures taken together from the Dice of each.

    What of one structure lies on another, as left on right at the midline, is not in these
    numbers and counts as missed: Dice of the union of the masks is never less.

    Parameters
    ----------
    parts : iterable of tuple
        Dice of each structure, and its voxels in either map.

    Returns
    -------
    float
        NaN where either map has none of them.
    """
    parts = list(parts)
    both = sum(dice * (a + b) / 2 for dice, a, b in parts if a and b)
    fixed, moving = sum(a for _, a, _ in parts), sum(b for _, _, b in parts)
    return 2 * both / (fixed + moving) if fixed and moving else float("nan")
