"""Transforms as they are named on a command line: in the order of ANTs, ``[FILE,1]`` inverted.

And the grid of an image that is named there.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from vxmprep.bids.transforms import opposite
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.headers import check_frame
from vxmprep.spatial.opening import open_series
from vxmprep.spatial.transform import Transform, read_itk

LEAST_VOLUME = 1e-6
"""What an affine makes of 1 mm3 at the least; below this it has no inverse to speak of."""


def grid_of(path: Path) -> Grid:
    """Give the grid of an image whose header says well where its voxels lie."""
    image = open_series(path)
    check_frame(path, image)
    return Grid.of(image)


def split(transform: str) -> tuple[Path, bool]:
    """Give the file of ``FILE`` or ``[FILE,1]``, and whether it is to be inverted."""
    found = re.fullmatch(r"\[(.+),\s*([01])\]", transform)
    return (Path(found[1]), found[2] == "1") if found else (Path(transform), False)


def read(path: Path) -> Transform:
    """Read a transform, once as long as the file stays the same: ITK's unless its name ends so."""
    try:
        return _read(path.absolute(), path.stat().st_mtime_ns)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> Transform:
    from vxmprep.spatial import freesurfer, fsl, x5

    if (path.suffix == ".mat" and fsl.is_flirt(path)) or fsl.is_warp(path):
        end = ".txt" if path.suffix == ".mat" else ".nii.gz"
        raise ValueError(
            f"{path}: of FSL, which says nothing without the grids of both images; give what "
            f"vxmprep-convert {path.name} -r REFERENCE -m MOVING --format itk -o OUT{end} writes"
        )
    if path.suffix == ".lta":
        return Transform((freesurfer.read_lta(path),))
    found = {".mgz": freesurfer.read_warp, ".x5": x5.read_x5}.get(path.suffix, read_itk)(path)
    affines = (member for member in found.members if isinstance(member, np.ndarray))
    if any(abs(np.linalg.det(affine)) < LEAST_VOLUME for affine in affines):
        raise ValueError(f"{path}: its affine takes space to a plane; give another transform")
    return found


def turned(path: Path) -> tuple[str, Transform]:
    """Give the other direction: an affine's inverse, or else the file beside it; and its name."""
    beside = opposite(path)
    if beside is not None and beside.is_file():
        return beside.name, read(beside)
    transform = read(path)
    if transform.affine is None:
        raise ValueError(
            f"{path}: the other direction is wanted of it (points need the opposite of images), a "
            "file with from- and to- exchanged in its name; it is not there"
        )
    return f"inverse of {path.name}", transform.inverse()


def chain_of(transforms: tuple[str, ...], for_images: bool) -> Transform:
    """Put transforms together: from the points wanted to the image's, or for points back."""
    chain = Transform(())
    for transform in transforms:
        path, inverted = split(transform)
        step = turned(path)[1] if inverted is for_images else read(path)
        chain = chain.then(step) if for_images else step.then(chain)
    return chain
