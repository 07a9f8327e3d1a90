"""FLIRT's matrices.

The only place that knows FSL's coordinates: what leaves these functions is RAS+ mm.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vxmprep.spatial.grid import Grid


def fsl_coordinates(grid: Grid) -> np.ndarray:
    """Give the matrix from voxel indices to FSL's coordinates.

    They are the indices times the voxel size, wherever the image lies in the world; but if the
    determinant of its affine is positive (a right-handed grid, such as RAS), FSL counts the
    first index from the other end.

    Returns
    -------
    (4, 4) array
        Voxel indices to FSL's millimetres.

    References
    ----------
    FSL's mailing list, M. Jenkinson on the coordinates that flirt uses (2001); G. Ridgway,
    flirtmat2worldmat, https://www.nitrc.org/snippet/detail.php?id=5&type=snippet
    """
    scale = np.diag([*grid.spacing, 1.0])
    if np.linalg.det(grid.affine) > 0:
        scale[0] = [-grid.spacing[0], 0, 0, grid.spacing[0] * (grid.shape[0] - 1)]
    return scale


def read_flirt(path: str | Path, *, fixed: Grid, moving: Grid) -> np.ndarray:
    """Read what FLIRT wrote with ``-omat`` as a map of world points.

    Its matrix maps points of the moving image (``-in``) to the fixed one (``-ref``), in FSL's
    coordinates; the map needed to resample the moving image goes the other way.

    Parameters
    ----------
    path : path
        Text file of four rows.
    fixed, moving : Grid
        The grids of the two images that FLIRT was given.

    Returns
    -------
    (4, 4) array
        Fixed points to moving points, RAS mm.

    Raises
    ------
    ValueError
        If the file holds no 4 x 4 matrix that can be inverted.
    """
    try:
        fixed_to_moving = np.linalg.inv(np.loadtxt(path).reshape(4, 4))
    except (ValueError, np.linalg.LinAlgError) as error:
        raise ValueError(f"{path}: not a matrix of FLIRT's ({error})") from error
    from_world = fsl_coordinates(fixed) @ np.linalg.inv(fixed.affine)
    to_world = moving.affine @ np.linalg.inv(fsl_coordinates(moving))
    return to_world @ fixed_to_moving @ from_world
