"""What the header of a scan tells: enough to refuse most bad ones before any work."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.opening import ImageError, open_image

VOXEL_SIZES = (0.1, 10.0)
"""Smallest and largest size of a voxel in mm; beyond them a header is in other units or wrong."""

LEAST_EXTENT = 20.0
"""Millimetres along each axis; a thinner slab holds no brain, not even a newborn's."""

LARGEST_SHEAR = 1e-3
"""Cosine between two axes of a grid."""


def inspect(path: str | Path) -> Grid:
    """Look at a scan without reading its voxels, and refuse one that cannot be registered.

    Parameters
    ----------
    path : path
        NIfTI or MGH, compressed or not.

    Returns
    -------
    Grid
        Where its voxels lie.

    Raises
    ------
    ImageError
        If the file is none, is cut short (as far as its size tells), holds no single volume of
        intensities, or its header does not say where the voxels lie.
    """
    image = open_image(path)
    check_geometry(path, image)
    return Grid.of(image)


def check_geometry(path: str | Path, image: nb.spatialimages.SpatialImage) -> None:
    """Refuse a header that does not say where the voxels of a brain lie.

    Parameters
    ----------
    path : path
        The file, for the message.
    image : image
        What `open_image` gave.

    Raises
    ------
    ImageError
        As `check_frame`, or if the image is too thin for a brain.
    """
    check_frame(path, image)
    extent = Grid.of(image).spacing * image.shape[:3]
    if extent.min() < LEAST_EXTENT:
        raise ImageError(
            f"{path}: only {extent.min():.3g} mm thick, expected {LEAST_EXTENT:g} or more; give a "
            "scan of the whole brain"
        )


def check_frame(path: str | Path, image: nb.spatialimages.SpatialImage) -> None:
    """Refuse a header that does not say where voxels lie, or not as ITK can hold it.

    Parameters
    ----------
    path : path
        The file, for the message.
    image : image
        Of one volume or several, voxels unread.

    Raises
    ------
    ImageError
        If voxels have no sensible size, axes are parallel or oblique to each other, or nothing
        says where left and right are.
    """
    spacing = Grid.of(image).spacing
    _check_sizes(path, _written_sizes(image), "pixdim")
    _check_sizes(path, spacing, "affine")
    if not np.isfinite(image.affine).all():
        raise ImageError(f"{path}: its affine is not finite; correct its sform")
    _check_axes(path, image.affine[:3, :3] / spacing)
    if not _is_placed(image):
        raise ImageError(
            f"{path}: neither sform nor qform is set, so left and right cannot be told apart; if "
            "you know the orientation, set it, e.g. with fslorient -setsform and -setsformcode"
        )


def _check_sizes(path: str | Path, sizes: np.ndarray, source: str) -> None:
    low, high = VOXEL_SIZES
    # Written so that NaN is refused.
    if not ((sizes >= low) & (sizes <= high)).all():
        found = "x".join(f"{size:g}" for size in sizes)
        raise ImageError(
            f"{path}: voxels of {found} mm by its header's {source}, expected {low:g} to "
            f"{high:g}; correct the header, or leave the scan out"
        )


def _check_axes(path: str | Path, axes: np.ndarray) -> None:
    if abs(np.linalg.det(axes)) < LARGEST_SHEAR:
        raise ImageError(
            f"{path}: its affine is singular, two axes point the same way; correct its sform"
        )
    if np.abs(axes.T @ axes - np.eye(3)).max() > LARGEST_SHEAR:
        raise ImageError(
            f"{path}: the axes in its sform are not at right angles, which ITK cannot hold; "
            "resample it to a grid without shear"
        )


def _written_sizes(image: nb.spatialimages.SpatialImage) -> np.ndarray:
    """Voxel sizes as they stand in the file; nibabel makes 1 of 0, and drops the sign."""
    if not isinstance(image, nb.Nifti1Pair):
        return Grid.of(image).spacing
    holder = image.file_map.get("header") or image.file_map["image"]
    with holder.get_prepare_fileobj("rb") as file:
        return type(image.header).from_fileobj(file, check=False)["pixdim"][1:4].astype(float)


def _is_placed(image: nb.spatialimages.SpatialImage) -> bool:
    """Tell whether the header itself says where the axes point."""
    header = image.header
    if isinstance(image, nb.Nifti1Pair):
        return bool(header["sform_code"] > 0 or header["qform_code"] > 0)
    return not isinstance(image, nb.AnalyzeImage)
