"""Points, surfaces and streamlines: files whose coordinates are mapped."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import nibabel as nb
import numpy as np
from nibabel.affines import apply_affine

from vxmprep.spatial.files import replacing
from vxmprep.spatial.grid import Grid

AXES = ("x", "y", "z")
ABSENT = ("n/a", "na", "nan", "")
"""How tables say that a point has no place."""
SCANNER = 1
"""GIFTI's number of the scanner's world."""

PointMap = Callable[[np.ndarray], np.ndarray]


class GeometryError(ValueError):
    """A file whose points cannot be used; the message is one line for the user."""


def map_table(source: str | Path, target: str | Path, mapping: PointMap) -> tuple[int, int]:
    """Map the points of a table; all its other columns are kept as they are.

    Parameters
    ----------
    source, target : path
        CSV or TSV with a header; the columns x, y and z (or X, Y, Z) are RAS mm. Rows with n/a
        in one of them are kept, with n/a in all three.
    mapping : callable
        Maps points (n, 3), RAS mm.

    Returns
    -------
    tuple of int
        Points mapped, and rows of the table.

    Raises
    ------
    GeometryError
        If it is no such table.
    """
    try:
        text = Path(source).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GeometryError(f"{source}: not text in UTF-8; save it as that") from error
    except OSError as error:
        raise GeometryError(f"{source}: cannot be read ({error.strerror}); check it") from error
    between = "\t" if str(source).lower().endswith(".tsv") else ","
    # A quoted cell may hold line breaks.
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=between) if row]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if not set(AXES) <= set(header):
        kind = "tabs" if between == "\t" else "commas"
        raise GeometryError(
            f"{source}: no columns x, y and z between {kind}; give a header line and RAS mm"
        )
    places = [header.index(axis) for axis in AXES]
    wanted, points = [], []
    for number, row in enumerate(rows[1:], start=2):
        try:
            cells = [row[place].strip() for place in places]
            if any(cell.lower() in ABSENT for cell in cells):
                for place in places:  # one that is there is of the old space
                    row[place] = "n/a"
                continue
            points.append([float(cell) for cell in cells])
        except (IndexError, ValueError) as error:
            raise GeometryError(f"{source}: row {number} has no three numbers x, y, z") from error
        wanted.append(rows[number - 1])
    for row, point in zip(wanted, mapping(np.reshape(points, (-1, 3))), strict=True):
        for place, value in zip(places, point.tolist(), strict=True):
            row[place] = f"{value:.6g}" if abs(value) < 1 else f"{value:.4f}"
    written = io.StringIO()
    csv.writer(written, delimiter=between, lineterminator="\n").writerows(rows)
    with replacing(target) as temporary:
        temporary.write_text(written.getvalue(), encoding="utf-8")
    return len(wanted), len(rows) - 1


def map_surface(source: str | Path, target: str | Path, mapping: PointMap) -> int:
    """Map the vertices of a GIFTI surface.

    Vertices are brought to the scanner's world first: by the transform that the file states, or,
    as FreeSurfer's mris_convert leaves them relative to the centre of its volume, by that.

    Raises
    ------
    GeometryError
        If it holds no vertices.
    """
    try:
        surface = nb.load(source)
        sets = surface.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    except Exception as error:
        raise GeometryError(f"{source}: not a GIFTI file ({_said(error)})") from error
    if not sets:
        raise GeometryError(f"{source}: holds no vertices; give a surface (.surf.gii)")
    for points in sets:
        moved = mapping(apply_affine(_to_scanner(points), points.data.astype(float)))
        points.data = moved.astype(np.float32)
        points.coordsys = nb.gifti.GiftiCoordSystem(SCANNER, SCANNER, np.eye(4))
    with replacing(target) as temporary:
        nb.save(surface, temporary)
    return sum(len(points.data) for points in sets)


def _to_scanner(points: nb.gifti.GiftiDataArray) -> np.ndarray:
    """Give what takes vertices to the scanner's world, (4, 4)."""
    keys = ("VolGeomC_R", "VolGeomC_A", "VolGeomC_S")
    stated = points.coordsys or nb.gifti.GiftiCoordSystem(0, 0, np.eye(4))
    if stated.dataspace == SCANNER:
        return np.eye(4)
    centre = [float(points.meta.get(key, 0)) for key in keys]
    for key in keys:
        if key in points.meta:
            points.meta[key] = "0.000000"
    if stated.xformspace == SCANNER and not np.array_equal(stated.xform, np.eye(4)):
        return stated.xform
    return nb.affines.from_matvec(np.eye(3), centre)


def map_streamlines(
    source: str | Path, target: str | Path, mapping: PointMap, grid: Grid | None = None
) -> int:
    """Map streamlines (.trk, .tck); what is stored with them is kept.

    Parameters
    ----------
    source, target : path
        Of one kind.
    mapping : callable
        Maps points (n, 3), RAS mm.
    grid : Grid, optional
        Whose frame a .trk file then states; a .tck file states none.

    Raises
    ------
    GeometryError
        If nibabel cannot read the file.
    """
    from nibabel.streamlines import Tractogram, TrkFile, detect_format, load
    from nibabel.streamlines.trk import Field

    try:
        kind = detect_format(str(source))
        loaded = load(str(source)).tractogram
    except Exception as error:
        raise GeometryError(f"{source}: not a file of streamlines ({_said(error)})") from error
    lines = loaded.streamlines
    lengths = [len(line) for line in lines]
    points = mapping(lines.get_data()) if lengths else np.zeros((0, 3))
    moved = np.split(points.astype(np.float32), np.cumsum(lengths)[:-1]) if lengths else []
    tracts = Tractogram(
        moved, loaded.data_per_streamline, loaded.data_per_point, affine_to_rasmm=np.eye(4)
    )
    frame = None
    if kind is TrkFile:
        if grid is None:
            raise GeometryError(f"{source}: a .trk file states a grid; give a reference image")
        frame = {
            Field.VOXEL_TO_RASMM: grid.affine,
            Field.VOXEL_SIZES: grid.spacing,
            Field.DIMENSIONS: grid.shape,
            Field.VOXEL_ORDER: "".join(nb.aff2axcodes(grid.affine)),
        }
    with replacing(target) as temporary:
        kind(tracts, frame).save(str(temporary))
    return len(lengths)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
