"""Images of any number of volumes through a transform, a volume in memory at a time."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import nibabel as nb
import numpy as np

from vxmprep.spatial.files import replacing
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import to_sitk
from vxmprep.spatial.jacobian import jacobian_determinant
from vxmprep.spatial.labels import resample_labels
from vxmprep.spatial.opening import ImageError, open_series
from vxmprep.spatial.resample import interpolated
from vxmprep.spatial.transform import Transform

INTERPOLATIONS = ("linear", "cubic", "nearest", "label")
MODULATIONS = ("full", "deformable")

KNOWN = tuple(np.dtype(kind) for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "f4"))
"""Types that ITK and every reader of NIfTI know."""

BESIDE = (
    "nothing of it reaches the grid wanted, where the result would be 0 everywhere; check that "
    "the transform is of this image and the reference of that space"
)


def resample_file(
    source: str | Path,
    target: str | Path,
    grid: Grid,
    transform: Transform,
    *,
    interpolation: str = "linear",
    modulation: str | None = None,
) -> None:
    """Resample an image onto a grid with one interpolation, volume by volume, and write it.

    Parameters
    ----------
    source : path
        Image of three axes or more, NIfTI or MGH.
    target : path
        ``.nii`` or ``.nii.gz``; as many volumes, their time step kept.
    grid : Grid
        Where the result is wanted; 0 where the image does not reach.
    transform : Transform
        Maps points of `grid` to points of the image, RAS mm.
    interpolation : {"linear", "cubic", "nearest", "label"}
        ``cubic`` is a cubic B-spline, ``label`` linear interpolation of each label's indicator of
        which the greatest wins (see `vxmprep.spatial.labels.resample_labels`). The first two give
        float32, the others the image's own type.
    modulation : {"full", "deformable"}, optional
        Multiply by the Jacobian determinant of the map, or of its displacement fields alone, so
        that amounts are kept instead of densities; not what ``nearest`` and ``label`` are for.

    Raises
    ------
    ImageError
        If the image cannot be read, is not finite where ``cubic`` would spread it, holds no
        labels where they are wanted, holds labels that are to be modulated, or lies beside the
        grid. What lies there and is lost between coarse voxels is no error, nor is an empty image.
    """
    if modulation is not None and interpolation in ("nearest", "label"):
        raise ImageError(
            f"{source}: labels cannot be modulated; interpolate linearly if it is a map of amounts"
        )
    image = _keep_open(source)
    keeps_type = interpolation in ("nearest", "label")
    factor = _factor(modulation, grid, transform)
    chain = transform.as_itk()
    header = narrow = None
    held = reached = False
    with replacing(target) as temporary, _stream(temporary) as stream:
        for volume in _each_volume(source, image):
            if interpolation == "label":
                data = resample_labels(_whole(source, volume), image.affine, grid, transform)
            else:
                if interpolation == "nearest" and volume.dtype not in KNOWN:
                    narrow = narrow or _native(volume.dtype, source, image)
                    volume = volume.astype(narrow)
                data = _resample(volume, image.affine, grid, chain, interpolation)
            if factor is not None:
                data = data * factor
            held, reached = held or volume.any(), reached or data.any()
            if header is None:
                kind = data.dtype if keeps_type else np.dtype(np.float32)
                header = _header(image, grid, image.shape[3:], kind)
                stream.write(header.binaryblock + bytes(int(header["vox_offset"]) - 348))
            stream.write(data.astype(header.get_data_dtype()).tobytes(order="F"))
        if held and not reached and _beside(source, image, grid, transform):
            raise ImageError(f"{source}: {BESIDE}")


def _beside(
    path: str | Path, image: nb.spatialimages.SpatialImage, grid: Grid, transform: Transform
) -> bool:
    """Tell whether no voxel of a grid reaches the box of what an image holds, nor touches it."""
    own = Grid(image.shape[:3], image.affine)
    held = np.zeros(own.shape, bool)
    for volume in _each_volume(path, image):
        held |= volume != 0
    places = np.argwhere(held)
    near = 1 + grid.spacing.max() / own.spacing
    low, high = places.min(axis=0) - near, places.max(axis=0) + near
    indices = (own.indices(transform(points)) for _, points in grid.planes())
    return not any(((low < where) & (where < high)).all(axis=1).any() for where in indices)


def _keep_open(path: str | Path) -> nb.spatialimages.SpatialImage:
    open_series(path)
    return nb.load(path, keep_file_open=True)


def _each_volume(path: str | Path, image: nb.spatialimages.SpatialImage) -> Iterator[np.ndarray]:
    """Give the volumes in the order of the file."""
    for number in range(int(np.prod(image.shape[3:], dtype=int))):
        index = np.unravel_index(number, image.shape[3:], order="F")
        try:
            volume = np.asanyarray(image.dataobj[(slice(None),) * 3 + tuple(map(int, index))])
        except Exception as error:
            raise ImageError(f"{path}: cut short or damaged; fetch or copy it anew") from error
        if volume.dtype.kind == "f":
            # A single NaN would spread over the whole of a cubic interpolation.
            volume = np.nan_to_num(volume, nan=0.0, posinf=0.0, neginf=0.0)
        yield volume


def _whole(path: str | Path, volume: np.ndarray) -> np.ndarray:
    """Give labels as integers."""
    if volume.dtype.kind in "iu":
        return volume
    if np.abs(volume).max(initial=0) >= 2**31 or (np.rint(volume) != volume).any():
        raise ImageError(f"{path}: holds fractions, not labels; give another interpolation")
    return volume.astype(np.int32)


def _resample(
    volume: np.ndarray, affine: np.ndarray, grid: Grid, chain, interpolation: str
) -> np.ndarray:
    import SimpleITK as sitk

    methods = {
        "linear": sitk.sitkLinear,
        "cubic": sitk.sitkBSpline,
        "nearest": sitk.sitkNearestNeighbor,
    }
    if interpolation != "nearest":
        volume = volume.astype(np.float32)
    moving = to_sitk(nb.Nifti1Image(volume, affine, dtype=volume.dtype))
    return interpolated(moving, grid, chain, methods[interpolation])


def _native(kind: np.dtype, source: str | Path, image: nb.spatialimages.SpatialImage) -> np.dtype:
    """Give a type that ITK and every reader of NIfTI know, and that holds what all volumes do."""
    if kind.newbyteorder("=") in KNOWN:
        return kind.newbyteorder("=")
    volumes = _each_volume(source, image)
    if kind.kind == "f":
        largest = 0.0
        for volume in volumes:
            if (np.rint(volume) != volume).any():
                return np.dtype(np.float32)
            largest = max(largest, float(np.abs(volume).max(initial=0)))
        if not 2**24 < largest < 2**53:  # beyond which single and double precision lack some
            return np.dtype(np.float32)
    else:
        largest = max(np.abs(volume.astype(np.int64)).max(initial=0) for volume in volumes)
    return np.dtype(np.int32 if largest < 2**31 else np.int64)


def _factor(modulation: str | None, grid: Grid, transform: Transform) -> np.ndarray | None:
    if modulation is None:
        return None
    chain = transform if modulation == "full" else transform.deformable()
    return np.asarray(jacobian_determinant(chain.as_itk(), grid).dataobj)


def _header(
    image: nb.spatialimages.SpatialImage, grid: Grid, more: tuple[int, ...], kind: np.dtype
) -> nb.Nifti1Header:
    """Describe the result: the grid's place, the image's time."""
    header = nb.Nifti1Header()
    header.set_data_dtype(kind.newbyteorder("="))
    header.set_data_shape((*grid.shape, *more))
    # The offset first: the sform is written through the image below.
    time = "sec"
    steps = tuple(float(z) for z in image.header.get_zooms()[3 : 3 + len(more)])
    if isinstance(image, nb.Nifti1Pair):
        time = image.header.get_xyzt_units()[1]
    elif isinstance(image, nb.MGHImage):
        steps = tuple(step / 1000 for step in steps)
    header.set_zooms((*grid.spacing, *steps, *(1.0,) * (len(more) - len(steps))))
    header.set_xyzt_units("mm", time)
    header.set_sform(grid.affine, code="scanner")
    header.set_qform(grid.affine, code="scanner")
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["magic"] = b"n+1"
    return header


@contextlib.contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write, compressed if its name says so, always with the same bytes."""
    with path.open("wb") as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(
                filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0
            ) as packed:
                yield packed
        else:
            yield file
