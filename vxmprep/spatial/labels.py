"""Label maps on another grid, with smoother borders than those of the nearest voxel."""

from __future__ import annotations

from itertools import product

import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.transform import Transform


def resample_labels(
    labels: np.ndarray, affine: np.ndarray, grid: Grid, transform: Transform
) -> np.ndarray:
    """Resample labels by linear interpolation of each label's indicator; the greatest wins.

    A voxel's eight neighbours vote with their weights, so that the cost does not depend on the
    number of labels. Beyond the edges of the outer voxels is background. Among equals the lowest
    label wins.

    Parameters
    ----------
    labels : (X, Y, Z) integer array
        The label map.
    affine : (4, 4) array
        Its voxel indices to the world, RAS mm.
    grid : Grid
        Where the result is wanted.
    transform : Transform
        Maps points of `grid` to points of the label map, RAS mm.

    Returns
    -------
    array
        On `grid`, of the type of `labels`.

    Examples
    --------
    >>> one = np.zeros((2, 2, 2), int)
    >>> one[1] = 7
    >>> half = Grid((3, 2, 2), np.diag([0.6, 1.0, 1.0, 1.0]))
    >>> resample_labels(one, np.eye(4), half, Transform(()))[:, 0, 0]
    array([0, 7, 7])
    """
    padded = np.pad(labels, ((0, 1),) * 3, mode="edge")
    out = np.empty(grid.shape, labels.dtype)
    source = Grid(labels.shape, affine)
    for k, (_, points) in enumerate(grid.planes()):
        where = source.indices(transform(points))
        beyond = ((where < -0.5) | (where >= np.array(labels.shape) - 0.5)).any(axis=1)
        chosen = _vote(padded, np.clip(where, 0, np.array(labels.shape) - 1))
        out[:, :, k] = np.where(beyond, 0, chosen).reshape(grid.shape[:2])
    return out


def _vote(padded: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Let the eight voxels around each position (n, 3) choose its label."""
    low = np.floor(where).astype(np.intp)
    share = where - low
    corners = np.array(list(product((0, 1), repeat=3)))
    around = np.stack([padded[tuple((low + corner).T)] for corner in corners])
    chosen = around[0].copy()
    mixed = np.flatnonzero((around != chosen).any(axis=0))
    around, share = around[:, mixed], share[mixed]
    weights = np.stack([np.where(corner, share, 1 - share).prod(axis=1) for corner in corners])
    order = np.argsort(around, axis=0, kind="stable")
    around = np.take_along_axis(around, order, axis=0)
    weights = np.take_along_axis(weights, order, axis=0)
    votes = np.stack([(weights * (around == label)).sum(axis=0) for label in around])
    # The first of the greatest is the lowest label, up to round-off.
    best = (votes > votes.max(axis=0) - 1e-9).argmax(axis=0)
    chosen[mixed] = np.take_along_axis(around, best[None], axis=0)[0]
    return chosen
