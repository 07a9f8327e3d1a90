"""FLIRT's matrices and FNIRT's warps.

The only place that knows FSL's coordinates: what leaves these functions is RAS+ mm.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.spatial.files import replacing, there
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.opening import open_series
from vxmprep.spatial.transform import Field, Transform

FNIRT_DISPLACEMENT_FIELD = 2006
"""NIfTI's intent code by which FSL knows its warps."""

FNIRT_COEFFICIENTS = (2007, 2008, 2009)
"""Those of what FNIRT writes with ``--cout``, splines or cosines instead of vectors."""


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
    there(path)
    try:
        fixed_to_moving = np.linalg.inv(np.loadtxt(path).reshape(4, 4))
    except (ValueError, np.linalg.LinAlgError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"{path}: not a matrix of FLIRT's ({said}); give what -omat wrote"
        ) from error
    from_world = fsl_coordinates(fixed) @ np.linalg.inv(fixed.affine)
    to_world = moving.affine @ np.linalg.inv(fsl_coordinates(moving))
    return to_world @ fixed_to_moving @ from_world


def is_flirt(path: str | Path) -> bool:
    """Tell whether a file is text of four rows of numbers, and not ITK's binary ``.mat``."""
    try:
        return np.loadtxt(path, ndmin=2).shape == (4, 4)
    except (ValueError, OSError):
        return False


def write_flirt(path: str | Path, affine: np.ndarray, *, fixed: Grid, moving: Grid) -> None:
    """Write an affine as FLIRT's ``-omat`` does, for ``flirt -applyxfm -init``.

    Parameters
    ----------
    path : path
        Text file.
    affine : (4, 4) array
        Fixed points to moving points, RAS mm.
    fixed, moving : Grid
        The grids of the images that are given to FSL as ``-ref`` and ``-in``.
    """
    from_moving = fsl_coordinates(moving) @ np.linalg.inv(moving.affine)
    to_fixed = fixed.affine @ np.linalg.inv(fsl_coordinates(fixed))
    fixed_to_moving = from_moving @ affine @ to_fixed
    rows = np.linalg.inv(fixed_to_moving)
    with replacing(path) as temporary:
        temporary.write_text(
            "".join("  ".join(f"{x:.10f}" for x in row) + "\n" for row in rows), encoding="utf-8"
        )


def is_warp(path: str | Path) -> bool:
    """Tell whether a file is an image of three volumes, as FSL's warps are and ITK's are not."""
    if not str(path).endswith((".nii", ".nii.gz")):
        return False
    image = open_series(path)
    return image.shape[3:] == (3,)


def read_warp(path: str | Path, *, moving: Grid) -> Transform:
    """Read a warp of FNIRT's (``--fout``) or convertwarp's, relative or absolute.

    Which of both it is no file says: that by which more of the voxels lead into the moving image.

    Parameters
    ----------
    path : path
        ``.nii.gz`` or ``.nii``.
    moving : Grid
        The grid of the image that is given to ``applywarp`` as ``-i``.

    Returns
    -------
    Transform
        Fixed points to moving points, RAS mm.

    Raises
    ------
    ValueError
        If the file holds no vectors, or the coefficients of splines.
    """
    image = open_series(path)
    if int(image.header.get("intent_code", 0)) in FNIRT_COEFFICIENTS:
        raise ValueError(
            f"{path}: holds FNIRT's coefficients; write its field, with fnirtfileutils --out"
        )
    if image.shape[3:] != (3,):
        raise ValueError(f"{path}: not a warp of FSL, whose four axes end with 3")
    fixed, vectors = Grid.of(image), np.asarray(image.dataobj, dtype=np.float64)
    at = np.moveaxis(np.indices(fixed.shape), 0, -1)
    here = nb.affines.apply_affine(fsl_coordinates(fixed), at)
    ends = moving.spacing * (np.array(moving.shape) - 1)
    there = max(
        (here + vectors, vectors), key=lambda p: ((p >= 0) & (p <= ends)).all(axis=-1).sum()
    )
    world = nb.affines.apply_affine(moving.affine @ np.linalg.inv(fsl_coordinates(moving)), there)
    displacement = world - nb.affines.apply_affine(fixed.affine, at)
    return Transform((Field(displacement.astype(np.float32), fixed),))


def write_warp(path: str | Path, transform: Transform, *, fixed: Grid, moving: Grid) -> None:
    """Write a transform as FNIRT's field (``--fout``) for applywarp; the affine is included.

    It is a relative warp: at each voxel of the fixed grid, what is added to its coordinates to
    get those of the moving image, both in FSL's millimetres. Without ``--rel`` applywarp goes by
    the spread of the vectors, and errs where the axes of the two grids run in opposite ways.

    Parameters
    ----------
    path : path
        ``.nii.gz`` or ``.nii``.
    transform : Transform
        Fixed points to moving points, RAS mm.
    fixed, moving : Grid
        The grids of the images that are given to ``applywarp`` as ``-r`` and ``-i``.

    References
    ----------
    FSL's documentation of FNIRT, "Relative and absolute warps";
    https://fsl.fmrib.ox.ac.uk/fsl/docs/registration/fnirt
    """
    to_fsl = fsl_coordinates(moving) @ np.linalg.inv(moving.affine)
    here = fsl_coordinates(fixed)
    out = np.empty((*fixed.shape, 3), np.float32)
    for k, (indices, points) in enumerate(fixed.planes()):
        there = nb.affines.apply_affine(to_fsl, transform(points))
        vectors = there - nb.affines.apply_affine(here, indices)
        out[:, :, k] = vectors.reshape(*fixed.shape[:2], 3)
    image = nb.Nifti1Image(out, None)
    image.header.set_intent(FNIRT_DISPLACEMENT_FIELD, allow_unknown=True)
    image.header.set_xyzt_units("mm")
    image.set_sform(fixed.affine, code="scanner")
    image.set_qform(fixed.affine, code="scanner")
    with replacing(path) as temporary:
        image.to_filename(temporary)
