"""Reading and writing images, with the checks that every scan needs."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.spatial.files import replacing

LARGEST_SHEAR = 1e-3
"""Cosine between two axes of a grid."""


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
        If the file is no image, is cut short, or has no or several volumes.
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
    if np.issubdtype(dtype, np.integer) and np.issubdtype(data.dtype, np.floating):
        data = np.rint(data)
    return nb.Nifti1Image(data.astype(dtype, copy=False), image.affine)


def load_scan(path: str | Path) -> nb.Nifti1Image:
    """Read an image as `load` does, and refuse one that cannot be registered.

    Raises
    ------
    ImageError
        Also if every voxel holds the same value, or the affine holds shear, which ITK's images
        cannot.
    """
    image = load(path)
    data = np.asarray(image.dataobj)
    if data.min() == data.max():
        raise ImageError(
            f"{path}: every voxel holds {data.flat[0]:g}; there is nothing to register"
        )
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() > LARGEST_SHEAR:
        raise ImageError(
            f"{path}: the axes in its sform are not at right angles, which ITK cannot hold; "
            "resample it to a grid without shear"
        )
    return image


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
