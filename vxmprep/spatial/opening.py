"""Opening image files: what is no whole image of one volume is refused, voxels unread."""

from __future__ import annotations

import errno
import gzip
import math
import zlib
from pathlib import Path

import nibabel as nb

LARGEST_FOOTER = 2**20
"""Bytes after the voxels of a file."""

COMPRESSED = (".gz", ".mgz")
NOT_FETCHED = "its content was not fetched; get it with datalad get or git annex get"


class ImageError(ValueError):
    """A file that cannot be used as an image; the message is one line for the user."""


def open_image(path: str | Path) -> nb.spatialimages.SpatialImage:
    """Open an image of one volume of numbers, voxels unread.

    Parameters
    ----------
    path : path
        NIfTI, MGH or whatever nibabel reads.

    Returns
    -------
    nibabel image
        Three axes, or more of length 1.

    Raises
    ------
    ImageError
        If the file is something else, or is cut short as far as its size tells.
    """
    image = open_series(path)
    if any(n != 1 for n in image.shape[3:]):
        raise ImageError(
            f"{path}: expected one 3-D volume, found {_shape(image)}; give a single volume"
        )
    return image


def open_series(path: str | Path) -> nb.spatialimages.SpatialImage:
    """Open an image of one volume or several, voxels unread.

    Parameters
    ----------
    path : path
        NIfTI, MGH or whatever nibabel reads. Reading its volumes in turn unpacks the file once.

    Returns
    -------
    nibabel image
        Three axes or more.

    Raises
    ------
    ImageError
        As `open_image`, but for the number of volumes.
    """
    path = Path(path)
    _check_content(path, _first_bytes(path))
    image = _load(path)
    if not isinstance(image, nb.spatialimages.SpatialImage):
        raise ImageError(f"{path}: not an image of voxels; give a NIfTI or MGH image")
    _check_volume(path, image)
    _check_length(path, image)
    return image


def _load(path: Path) -> nb.dataobj_images.DataobjImage:
    try:
        # What nibabel repairs while it reads, it also says; what matters is said here.
        with nb.imageglobals.LoggingOutputSuppressor():
            return nb.load(path)
    except (EOFError, zlib.error) as error:
        raise ImageError(f"{path}: cut short; fetch or copy it anew") from error
    except nb.filebasedimages.ImageFileError as error:
        raise ImageError(
            f"{path}: not a NIfTI or MGH image, or a damaged one; convert it, or fetch it anew"
        ) from error
    except Exception as error:
        said = " ".join(str(error).split())
        raise ImageError(
            f"{path}: its header is not that of an image ({said}); convert or fetch it anew"
        ) from error


def _first_bytes(path: Path) -> bytes:
    """Read the start of a file, or say why there is none."""
    try:
        with path.open("rb") as file:
            return file.read(512)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"{path}: {_why_absent(path)}") from error
    except IsADirectoryError as error:
        raise ImageError(f"{path}: a folder; give the image file itself") from error
    except PermissionError as error:
        raise ImageError(f"{path}: no permission to read it; ask its owner, or chmod") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ImageError(f"{path}: a link to itself; fetch or copy the file anew") from error
        raise ImageError(f"{path}: cannot be read ({error.strerror}); check the disk") from error


def _why_absent(path: Path) -> str:
    if not path.is_symlink():
        return "no such file; check the path"
    target = path.readlink()
    if "annex" in target.parts:
        return NOT_FETCHED
    return f"a link to {target}, which is not there; fetch it (datalad get) or mend the link"


def _check_content(path: Path, first: bytes) -> None:
    """Refuse what is known by its first bytes."""
    compressed = first.startswith(b"\x1f\x8b")
    wrong = None
    if not first:
        wrong = "empty (0 bytes); fetch or copy it anew"
    elif b"/annex/objects/" in first and b"\0" not in first:
        wrong = NOT_FETCHED
    elif first.startswith(b"version https://git-lfs"):
        wrong = "its content was not fetched; get it with git lfs pull"
    elif first[128:132] == b"DICM":
        wrong = "a DICOM file; convert it to NIfTI, e.g. with dcm2niix"
    elif first.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        wrong = "a web page, not an image: its download went wrong; fetch it anew"
    elif path.name.endswith(COMPRESSED) and not compressed:
        wrong = "not compressed, although its name says so; rename it if it is an image"
    elif compressed and path.name.endswith((".nii", ".mgh")):
        wrong = "compressed, although its name does not say so; rename it (.nii.gz, .mgz)"
    if wrong:
        raise ImageError(f"{path}: {wrong}")


def _check_volume(path: Path, image: nb.spatialimages.SpatialImage) -> None:
    if image.get_data_dtype().kind not in "iuf":
        raise ImageError(
            f"{path}: its voxels are colours or complex, not intensities; give the scan itself"
        )
    if len(image.shape) < 3:
        raise ImageError(
            f"{path}: expected one 3-D volume, found {_shape(image)}; give a single volume"
        )
    if min(image.shape) < 1:
        raise ImageError(f"{path}: holds no voxels ({_shape(image)}); fetch or convert it anew")


def _check_length(path: Path, image: nb.spatialimages.SpatialImage) -> None:
    """Refuse a file that is shorter than its header promises, as far as can be known."""
    file = Path(image.file_map["image"].filename or path)
    needed = getattr(image.dataobj, "offset", 0)
    needed += math.prod(int(n) for n in image.shape) * image.get_data_dtype().itemsize
    if file.suffix in (".nii", ".mgh", ".img"):
        whole = file.is_file() and file.stat().st_size >= needed
    else:
        whole = file.suffix not in COMPRESSED or _unpacks_to(file, needed)
    if not whole:
        raise ImageError(
            f"{path}: cut short, its header promises {_shape(image)} voxels; fetch or copy it anew"
        )


def _unpacks_to(path: Path, needed: int) -> bool:
    """Tell whether a gzip file holds so many bytes, from its last four wherever they say so.

    They give the length of the last member modulo 2^32. If that is not what is needed, or a
    little more (MGH has a footer), there are several members (bgzip) or the end is missing; only
    then is the file unpacked to see.
    """
    try:
        with path.open("rb") as file:
            file.seek(-4, 2)
            if (int.from_bytes(file.read(4), "little") - needed) % 2**32 < LARGEST_FOOTER:
                return True
        with gzip.open(path) as file:
            file.seek(needed - 1)
            return len(file.read(1)) == 1
    except (EOFError, OSError, zlib.error):
        return False


def _shape(image: nb.spatialimages.SpatialImage) -> str:
    return "x".join(str(n) for n in image.shape)
