"""Reading and writing images, with the checks that every scan needs."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.spatial.files import replacing
from vxmprep.spatial.headers import check_geometry
from vxmprep.spatial.opening import ImageError, open_image

NOT_FINITE = "not_finite"
MOST_NOT_FINITE = 0.95
"""Share of the voxels: where NaN stands for the background of a stripped scan it is up to nine
tenths; beyond that no brain is left."""


def load(path: str | Path, dtype: type | None = np.float32) -> nb.Nifti1Image:
    """Read a 3-D image into memory.

    Parameters
    ----------
    path : path
        NIfTI, MGH or whatever nibabel reads; a 4-D image of one volume counts as 3-D.
    dtype : numpy type or None
        Type of the voxels returned; None is that of the file, which takes the least memory.
        Scaling of the file is applied; voxels that are not finite become 0, and `not_finite` tells
        how many.

    Returns
    -------
    nibabel.Nifti1Image
        World coordinates are RAS mm.

    Raises
    ------
    ImageError
        If the file is no image, is cut short, or has no or several volumes.
    """
    return _read(path, open_image(path), dtype)


def load_scan(path: str | Path) -> nb.Nifti1Image:
    """Read an image as `load` does, and refuse one that cannot be registered.

    Raises
    ------
    ImageError
        Also for what `check_geometry` refuses, and if most voxels are not finite, all hold the
        same value, or none is above 0.
    """
    opened = open_image(path)
    check_geometry(path, opened)
    image = _read(path, opened, np.float32)
    data = np.asarray(image.dataobj)
    share = not_finite(image) / data.size
    if share > MOST_NOT_FINITE:
        raise ImageError(
            f"{path}: {share:.1%} of its voxels are not finite, so no brain is left; give the "
            "scan itself"
        )
    low, high = data.min(), data.max()
    if low == high:
        raise ImageError(
            f"{path}: every voxel holds {low:g}; there is nothing to register, leave it out"
        )
    if high <= 0:
        raise ImageError(
            f"{path}: no voxel is above 0 (the highest holds {high:g}); give the T1w image itself"
        )
    return image


def not_finite(image: nb.Nifti1Image) -> int:
    """Give how many voxels `load` or `load_scan` found NaN or infinite and set to 0."""
    return image.extra.get(NOT_FINITE, 0)


def _read(
    path: str | Path, opened: nb.spatialimages.SpatialImage, dtype: type | None
) -> nb.Nifti1Image:
    try:
        # Infinite scale factors and doubles beyond single precision are counted below.
        with np.errstate(over="ignore", invalid="ignore"):
            data = _voxels(path, opened).reshape(opened.shape[:3])
            if dtype is not None and np.issubdtype(dtype, np.floating):
                data = data.astype(dtype, copy=False)
    except MemoryError as error:
        raise ImageError(f"{path}: does not fit into memory; ask for more, or crop it") from error
    except Exception as error:
        raise ImageError(f"{path}: cut short or damaged; fetch or copy it anew") from error
    bad = 0
    if np.issubdtype(data.dtype, np.floating):
        finite = np.isfinite(data)
        bad = data.size - int(np.count_nonzero(finite))
        if bad:
            data = np.where(finite, data, data.dtype.type(0))
        if dtype is not None and np.issubdtype(dtype, np.integer):
            data = np.rint(data)
    data = data.astype(dtype or data.dtype, copy=False)
    return nb.Nifti1Image(data, opened.affine, dtype=data.dtype, extra={NOT_FINITE: bad})


def _voxels(path: str | Path, opened: nb.spatialimages.SpatialImage) -> np.ndarray:
    """Read the voxels, and compare the checksum that compressed files have."""
    if not str(path).endswith((".nii.gz", ".mgz")):
        return np.asanyarray(opened.dataobj)
    with gzip.open(path) as stream:
        image = type(opened).from_file_map({"image": nb.FileHolder(fileobj=stream)})
        data = np.asanyarray(image.dataobj)
        # nibabel stops at the last voxel; the checksum is read with the end.
        while stream.read(2**20):
            pass
    return data


def like(data: np.ndarray, image: nb.spatialimages.SpatialImage) -> nb.Nifti1Image:
    """Give `data` as an image in the place of another."""
    return nb.Nifti1Image(data.astype(np.uint8) if data.dtype == bool else data, image.affine)


def save(image: nb.Nifti1Image, path: str | Path, *, steps: float | None = None) -> Path:
    """Write an image to a temporary name and rename it.

    Parameters
    ----------
    image : image
        3-D image; both sform and qform are set to its affine, so that every program sees the
        same place.
    path : path
        ``.nii`` or ``.nii.gz``.
    steps : float, optional
        Store intensities from 0 to their 99.9th percentile in that many integer steps (16 bit)
        instead of as floating point; a quarter of the size. Negative ones stay floating point.

    Returns
    -------
    Path
        The file written.
    """
    data = np.asanyarray(image.dataobj)
    whole = steps is not None and data.min() >= 0 and data.max() > 0
    if whole:
        # Single bright voxels, vessels or artefacts, must not cost the brain its steps.
        slope = float(np.percentile(data[data > 0], 99.9)) / steps
        data = np.rint(np.minimum(data / slope, np.iinfo(np.int16).max)).astype(np.int16)
    out = nb.Nifti1Image(data, None)
    out.header.set_xyzt_units("mm", "sec")
    out.set_sform(image.affine, code="scanner")
    out.set_qform(image.affine, code="scanner")
    if whole:
        # nibabel chooses the scaling of floats itself; these are integers already.
        out.header["scl_slope"], out.header["scl_inter"] = slope, 0.0
    with replacing(path) as temporary:
        out.to_filename(temporary)
    return Path(path)
