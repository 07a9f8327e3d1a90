"""FreeSurfer's transforms: LTA for affines, MGZ warps for fields."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.spatial.files import replacing
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.transform import Transform

WARPMAP = 3
"""What the version word of an MGZ file says of its content."""

RAS_DISPLACEMENT = 3
GEOMETRY_TAG, META_TAG, SHEAR_GEOMETRY_TAG = 10, 13, 15


def write_lta(path: str | Path, affine: np.ndarray, *, fixed: Grid, moving: Grid) -> None:
    """Write an affine as FreeSurfer's LTA (RAS to RAS), for ``mri_vol2vol --lta``.

    Parameters
    ----------
    path : path
        Text file.
    affine : (4, 4) array
        Fixed points to moving points, RAS mm; the file holds its inverse, as is usual there.
    fixed, moving : Grid
        Destination and source.
    """
    matrix = np.linalg.inv(affine)
    lines = ["type      = 1 # LINEAR_RAS_TO_RAS", "nxforms   = 1", "mean      = 0.0 0.0 0.0"]
    lines += ["sigma     = 1.0000", "1 4 4", *(" ".join(f"{x:.15e}" for x in r) for r in matrix)]
    for name, grid in (("src", moving), ("dst", fixed)):
        lines += [f"{name} volume info", "valid = 1  # volume info valid", "filename = none"]
        lines.append("volume = {} {} {}".format(*grid.shape))
        axes, centre = _axes_and_centre(grid)
        rows = (grid.spacing, *axes.T, centre)
        names = ("voxelsize", "xras  ", "yras  ", "zras  ", "cras  ")
        lines += [
            f"{key} = {' '.join(f'{x:.15e}' for x in row)}"
            for key, row in zip(names, rows, strict=True)
        ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_warp(path: str | Path, transform: Transform, *, fixed: Grid, moving: Grid) -> None:
    """Write a transform as FreeSurfer's warp, for ``mri_convert -at`` and ``mri_warp_convert``.

    It is the MGZ warp that takes the place of M3Z since FreeSurfer 7.4: displacements along R, A
    and S at each voxel of the fixed grid, with both grids in its tags. The affine is included.

    Parameters
    ----------
    path : path
        ``.mgz``.
    transform : Transform
        Fixed points to moving points, RAS mm.
    fixed, moving : Grid
        Target and source.

    References
    ----------
    FreeSurfer's mri_warp_convert and the MGZ reader and writer of its library surfa.
    """
    image = nb.MGHImage(transform.displacements(fixed), fixed.affine)
    content = bytearray(image.to_bytes())
    content[:4] = struct.pack(">i", WARPMAP << 8 | 1)
    both = [moving, fixed]
    content += struct.pack(">i", GEOMETRY_TAG) + b"".join(_geometry(g) for g in both)
    sheared = b"".join(_geometry(g, shear=True) for g in both)
    content += struct.pack(">iq", SHEAR_GEOMETRY_TAG, len(sheared)) + sheared
    meta = struct.pack(">iif", RAS_DISPLACEMENT, 1, 0.0)
    content += struct.pack(">iq", META_TAG, len(meta)) + meta
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(bytes(content), 1, mtime=0))


def _axes_and_centre(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Give the directions of the axes as columns, and the world's point at the middle of all."""
    return grid.affine[:3, :3] / grid.spacing, grid.world(np.array(grid.shape) / 2)


def _geometry(grid: Grid, *, shear: bool = False) -> bytes:
    axes, centre = _axes_and_centre(grid)
    numbers = [*grid.spacing, *axes.ravel(order="F"), *centre, *([0.0] * 3 if shear else [])]
    packed = struct.pack(f">4i{len(numbers)}f", 1, *map(int, grid.shape), *numbers)
    return packed + bytes(512)  # no name of a file
