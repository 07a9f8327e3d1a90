"""Distances between the surfaces of a structure in two label maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from vxmprep.evaluation.overlap import count_labels

FULL = 255
"""The code of a corner whose eight voxels all belong to the structure."""


@dataclass(frozen=True)
class SurfaceDistance:
    """How far apart the surfaces of one structure are.

    Attributes
    ----------
    hd95 : float
        Robust Hausdorff distance, mm: the larger of the two 95th percentiles, by area.
    average : float
        Average symmetric surface distance, mm, by area.
    """

    hd95: float
    average: float


def surface_distances(
    fixed: np.ndarray,
    moving: np.ndarray,
    spacing: Sequence[float],
    labels: Sequence[int] | None = None,
) -> dict[int, SurfaceDistance]:
    """Measure the surface distances of the structures that both of two label maps hold.

    Every structure is looked at in the box that holds it in both maps.

    Parameters
    ----------
    fixed, moving : (X, Y, Z) integer arrays
        Label maps on one grid; 0 is background.
    spacing : sequence of float
        Voxel size along each axis, mm.
    labels : sequence of int, optional
        Structures wanted; all by default.

    Returns
    -------
    dict
        Distances by label, ascending.

    Raises
    ------
    ValueError
        If the grids differ.

    References
    ----------
    Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and neck
    anatomy for radiotherapy, arXiv 1809.04430: surfaces run through the corners between voxels,
    and each of their elements counts by its area. The areas are those of the package
    ``surface-distance``.
    """
    if fixed.shape != moving.shape:
        raise ValueError(f"surface_distances: grids differ, {fixed.shape} and {moving.shape}")
    there, here = boxes(fixed), boxes(moving)
    wanted = set(there) & set(here)
    found = {}
    for label in sorted(wanted if labels is None else wanted & {int(k) for k in labels}):
        window = union(there[label], here[label])
        found[label] = distance(fixed[window] == label, moving[window] == label, spacing)
    return found


def distance(fixed: np.ndarray, moving: np.ndarray, spacing: Sequence[float]) -> SurfaceDistance:
    """Measure the distance between the surfaces of two masks, neither of them empty.

    Parameters
    ----------
    fixed, moving : (X, Y, Z) bool arrays
        Masks on one grid.
    spacing : sequence of float
        Voxel size along each axis, mm.
    """
    sizes = tuple(float(size) for size in spacing)
    codes = [_corners(mask) for mask in (fixed, moving)]
    surfaces = [(code != 0) & (code != FULL) for code in codes]
    areas = [_areas(sizes)[code[on]] for code, on in zip(codes, surfaces, strict=True)]
    to_moving, to_fixed = (
        _to_nearest(own, other, sizes) for own, other in (surfaces, surfaces[::-1])
    )
    both = ((to_moving, areas[0]), (to_fixed, areas[1]))
    total = sum(float((far * area).sum()) for far, area in both)
    return SurfaceDistance(
        max(_percentile(far, area, 0.95) for far, area in both),
        total / float(areas[0].sum() + areas[1].sum()),
    )


def boxes(labels: np.ndarray) -> dict[int, tuple[slice, ...]]:
    """Give the box of each structure of a label map by its label."""
    from scipy.ndimage import find_objects

    brain = box_of(labels)
    labels = labels[brain]
    values = present(labels)
    if not len(values):
        return {}
    # A table of all ids might be huge: the rank of each voxel's is found by a search.
    ids = np.append(0, values).astype(labels.dtype)
    ranks = np.searchsorted(ids, np.maximum(labels, 0)).astype(np.int32)
    found = find_objects(ranks, max_label=len(values))
    return {
        int(label): tuple(
            slice(side.start + whole.start, side.stop + whole.start)
            for side, whole in zip(box, brain, strict=True)
        )
        for label, box in zip(values, found, strict=True)
    }


def box_of(labels: np.ndarray) -> tuple[slice, ...]:
    """Give the box outside of which a map is 0."""
    box = []
    for axis in range(labels.ndim):
        others = tuple(other for other in range(labels.ndim) if other != axis)
        inside = np.flatnonzero(labels.any(axis=others))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
    return tuple(box)


def present(labels: np.ndarray) -> np.ndarray:
    """Give the labels above 0 that a map holds, ascending."""
    return np.fromiter(count_labels(labels), np.int64)


def union(one: tuple[slice, ...], other: tuple[slice, ...]) -> tuple[slice, ...]:
    """Give the smallest box that holds two."""
    return tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )


def _to_nearest(own: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Give how far each element of a surface is from the nearest of another, mm.

    A tree of the surface's elements costs less than a distance in every voxel of the box, above
    all where a structure is scattered.
    """
    from scipy.spatial import KDTree

    found = np.zeros(np.count_nonzero(own))
    apart = ~other[own]
    if apart.any():
        tree = KDTree(np.argwhere(other) * spacing, balanced_tree=False, compact_nodes=False)
        found[apart], _ = tree.query(np.argwhere(own & ~other) * spacing)
    return found


def _corners(mask: np.ndarray) -> np.ndarray:
    """Say of every corner between voxels which of the eight around it belong to a mask."""
    from surface_distance.lookup_tables import ENCODE_NEIGHBOURHOOD_3D_KERNEL as weights

    padded = np.pad(mask, 1).astype(np.uint8)
    shape = tuple(n + 1 for n in mask.shape)
    code = np.zeros(shape, np.uint8)
    for offset in np.ndindex(2, 2, 2):
        window = tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))
        code += np.uint8(weights[offset]) * padded[window]
    return code


@cache
def _areas(spacing: tuple[float, ...]) -> np.ndarray:
    """Give the area of the surface in a corner by its code, mm^2."""
    from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

    return create_table_neighbour_code_to_surface_area(spacing)


def _percentile(distances: np.ndarray, areas: np.ndarray, share: float) -> float:
    order = np.argsort(distances, kind="stable")
    below = np.cumsum(areas[order]) / areas.sum()
    place = min(int(np.searchsorted(below, share)), len(order) - 1)
    return float(distances[order][place])
