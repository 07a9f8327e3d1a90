"""Reading and writing images, with the checks that every scan needs."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.spatial.files import replacing


class ImageError(ValueError):
    """A file that cannot be used as an image; the message is one line for the user."""


def load(path: str | Path, dtype: type = np.float32) -> nb.Nifti1Image:
    """Read a 3-D image into memory.

    Parameters
    ----------
    path : path
        NIfTI, MGH or whatever nibabel reads; a 4-D image of one volume counts as 3-D.
    dtype : numpy type
        Type of the voxels returned. Scaling of the file is applied; voxels that are not finite
        become 0.

    Returns
    -------
    nibabel.Nifti1Image
        World coordinates are RAS mm.

    Raises
    ------
    ImageError
        If the file is no image, is cut short, has no or several volumes, or holds one value only.
    """
    path = Path(path)
    try:
        image = nb.load(path)
        data = np.asanyarray(image.dataobj)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file (or a link to content not fetched)") from error
    except Exception as error:
        said = " ".join(str(error).split())
        raise ImageError(f"{path}: cannot be read as an image; fetch it anew ({said})") from error
    if not np.issubdtype(data.dtype, np.number):
        raise ImageError(f"{path}: its voxels are colours, not intensities; give the scan itself")
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        shape = "x".join(str(n) for n in data.shape)
        raise ImageError(f"{path}: expected one 3-D volume, found {shape}")
    if np.issubdtype(data.dtype, np.floating) and not np.isfinite(data).all():
        data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
    if data.min() == data.max():
        raise ImageError(
            f"{path}: every voxel holds {data.flat[0]:g}; there is nothing to register"
        )
    if np.issubdtype(dtype, np.integer) and np.issubdtype(data.dtype, np.floating):
        data = np.rint(data)
    return nb.Nifti1Image(data.astype(dtype, copy=False), image.affine)


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
        Store intensities from 0 to the maximum in that many integer steps (16 bit) instead of
        as floating point; a quarter of the size.

    Returns
    -------
    Path
        The file written.
    """
    data = np.asanyarray(image.dataobj)
    out = nb.Nifti1Image(data, None)
    if steps is not None:
        slope = float(max(data.max(), 0)) / steps or 1.0
        out = nb.Nifti1Image(np.rint(np.maximum(data, 0) / slope).astype(np.int16), None)
        out.header.set_slope_inter(slope, 0.0)
    out.header.set_xyzt_units("mm", "sec")
    out.set_sform(image.affine, code="scanner")
    out.set_qform(image.affine, code="scanner")
    if steps is not None:
        # nibabel recomputes the scaling of in-memory arrays: hand it raw integers and the slope.
        out.header["scl_slope"], out.header["scl_inter"] = slope, 0.0
    with replacing(path) as temporary:
        _write(out, temporary)
    return Path(path)


def _write(image: nb.Nifti1Image, path: Path) -> None:
    image.to_filename(path)
