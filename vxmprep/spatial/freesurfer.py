"""FreeSurfer's transforms, written and read: LTA for affines, MGZ warps for fields."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.spatial.files import replacing, there
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.transform import Field, Transform

WARPMAP = 3
"""What the version word of an MGZ file says of its content."""

RAS_DISPLACEMENT = 3
FORMATS = ("abs-crs", "disp-crs", "abs-ras", "disp-ras")
"""What a warp's vectors are, by their number in the file."""

GEOMETRY_TAG, META_TAG, SHEAR_GEOMETRY_TAG = 10, 13, 15
HEADER, SCAN_PARAMETERS, GEOMETRY = 284, 20, 588
"""Bytes of an MGH file's header, of what follows its voxels, and of a geometry."""


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


def read_lta(path: str | Path) -> np.ndarray:
    """Read an affine of FreeSurfer's.

    Parameters
    ----------
    path : path
        LTA of one affine, RAS to RAS or voxel to voxel.

    Returns
    -------
    (4, 4) array
        Fixed (dst) points to moving (src) points, RAS mm: the inverse of what the file holds.

    Raises
    ------
    ValueError
        If it is no such file.
    """
    there(path)
    try:
        lines = [line.split("#")[0].split() for line in Path(path).read_text("utf-8").splitlines()]
        pairs = [(line[0], line[2:]) for line in lines if len(line) > 2 and line[1] == "="]
        kind = int(dict(pairs)["type"][0])
        start = lines.index(["1", "4", "4"]) + 1
        matrix = np.array(lines[start : start + 4], float)
        if kind not in (0, 1) or matrix.shape != (4, 4):
            raise ValueError(f"type {kind}")
        if kind == 0:
            source, target = (_affine_of(pairs, which) for which in (0, 1))
            matrix = target @ matrix @ np.linalg.inv(source)
        return np.linalg.inv(matrix)
    except KeyError as error:
        raise ValueError(f"{path}: not an LTA of one affine (no {error.args[0]} in it)") from error
    except (ValueError, IndexError, np.linalg.LinAlgError) as error:
        raise ValueError(f"{path}: not an LTA of one affine ({error})") from error


def read_warp(path: str | Path) -> Transform:
    """Read a warp of FreeSurfer's in an MGZ file.

    Parameters
    ----------
    path : path
        ``.mgz``, its vectors in any of FreeSurfer's four formats, at full resolution.

    Returns
    -------
    Transform
        Fixed points to moving points, RAS mm.

    Raises
    ------
    ValueError
        If it is no such file.
    """
    there(path)
    try:
        content = gzip.decompress(Path(path).read_bytes())
        if struct.unpack(">i", content[:4])[0] >> 8 != WARPMAP:
            raise ValueError("an image, as its first bytes say")
        image = nb.MGHImage.from_bytes(struct.pack(">i", 1) + content[4:])
        vectors = np.asarray(image.dataobj, dtype=np.float64)
        tags = _tags(content[HEADER + vectors.size * 4 + SCAN_PARAMETERS :])
        kind, spacing, _ = struct.unpack(">iif", tags[META_TAG])
        if spacing != 1:
            raise ValueError(f"every {spacing}th voxel; write it at full resolution")
        grid, form = Grid(image.shape[:3], image.affine), FORMATS[kind]
        at = np.moveaxis(np.indices(grid.shape), 0, -1)
        if form == "disp-crs":
            vectors = vectors + at
        if form.endswith("crs"):
            vectors = nb.affines.apply_affine(_source(tags), vectors)
        if form != "disp-ras":
            vectors = vectors - nb.affines.apply_affine(grid.affine, at)
    except (ValueError, OSError, EOFError, KeyError, IndexError, struct.error) as error:
        raise ValueError(f"{path}: not a warp of FreeSurfer ({error})") from error
    return Transform((Field(vectors.astype(np.float32), grid),))


def _tags(rest: bytes) -> dict[int, bytes]:
    """Give what stands behind each tag of an MGH file."""
    found, place = {}, 0
    while place + 4 <= len(rest) and (tag := struct.unpack_from(">i", rest, place)[0]):
        place += 4
        if tag == GEOMETRY_TAG:
            length = 2 * GEOMETRY
        else:
            length = struct.unpack_from(">q", rest, place)[0]
            place += 8
        found[tag] = rest[place : place + length]
        place += length
    return found


def _source(tags: dict[int, bytes]) -> np.ndarray:
    """Give the affine of the moving image from the geometries in a warp."""
    content = tags.get(GEOMETRY_TAG) or tags[SHEAR_GEOMETRY_TAG]
    _, *shape = struct.unpack_from(">4i", content)
    numbers = np.array(struct.unpack_from(">15f", content, 16))
    return _affine(shape, numbers[:3], numbers[3:12].reshape(3, 3), numbers[12:])


def _affine_of(pairs: list[tuple[str, list[str]]], which: int) -> np.ndarray:
    """Give the affine of the first or second volume in an LTA."""
    names = ("volume", "voxelsize", "xras", "yras", "zras", "cras")
    shape, spacing, x, y, z, centre = (
        np.array([values for key, values in pairs if key == name][which], float) for name in names
    )
    return _affine(shape, spacing, np.stack([x, y, z]), centre)


def _affine(shape: object, spacing: object, axes: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Give the affine of a grid from the directions of its axes (rows) and its middle."""
    matrix = axes.T * spacing
    return nb.affines.from_matvec(matrix, centre - matrix @ (np.array(shape) / 2))


def _axes_and_centre(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Give the directions of the axes as columns, and the world's point at the middle of all."""
    return grid.affine[:3, :3] / grid.spacing, grid.world(np.array(grid.shape) / 2)


def _geometry(grid: Grid, *, shear: bool = False) -> bytes:
    axes, centre = _axes_and_centre(grid)
    numbers = [*grid.spacing, *axes.ravel(order="F"), *centre, *([0.0] * 3 if shear else [])]
    packed = struct.pack(f">4i{len(numbers)}f", 1, *map(int, grid.shape), *numbers)
    return packed + bytes(512)  # no name of a file
