"""Small copies of a registration for the viewer in the page of a participant.

A page that is opened from a folder may load scripts but no data, so the copies are a script.
"""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nb
import numpy as np

from vxmprep.reports.figures import Window, merged_parcels
from vxmprep.spatial.files import replacing
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.resample import resample

if TYPE_CHECKING:
    import SimpleITK as sitk

SPACING = 2.0
"""Voxel size of the copies, mm."""

MARGIN = 6.0
"""Millimetres around the brain."""


def viewer_grid(mask: nb.spatialimages.SpatialImage) -> Grid:
    """Give the grid of the copies: the box of the atlas's brain, along R, A and S."""
    inside = np.argwhere(np.asanyarray(mask.dataobj) > 0)
    corners = nb.affines.apply_affine(mask.affine, inside)
    low, high = corners.min(axis=0) - MARGIN, corners.max(axis=0) + MARGIN
    shape = np.ceil((high - low) / SPACING).astype(int) + 1
    matrix = nb.affines.from_matvec(SPACING * np.eye(3), np.floor(low))
    return Grid(tuple(map(int, shape)), matrix)


def small_brain(
    grid: Grid,
    image: nb.Nifti1Image,
    window: Window,
    transform: np.ndarray | sitk.Transform,
    mask: nb.Nifti1Image,
) -> nb.Nifti1Image:
    """Give a brain in 8 bit on the grid of the copies, 0 outside its mask.

    Parameters
    ----------
    grid : Grid
        Of the copies.
    image, mask : image
        Scan or atlas, and its brain mask.
    window : Window
        Intensities that become 0 and 255.
    transform : (4, 4) array or SimpleITK.Transform
        Maps points of the atlas to points of the image.
    """
    values = window(np.asarray(resample(image, grid, transform).dataobj))
    inside = np.asarray(resample(mask, grid, transform).dataobj) > 0.5
    return nb.Nifti1Image(np.where(inside, np.rint(255 * values), 0).astype(np.uint8), grid.affine)


def small_labels(grid: Grid, labels: nb.Nifti1Image) -> nb.Nifti1Image:
    """Give labels in 8 bit on the grid of the copies; parcels count as cortex."""
    values = merged_parcels(np.asarray(resample(labels, grid, np.eye(4), nearest=True).dataobj))
    image = nb.Nifti1Image(np.where(values < 256, values, 0).astype(np.uint8), grid.affine)
    image.header.set_intent("label")
    return image


def write_viewer(path: Path, volumes: dict[str, nb.Nifti1Image]) -> Path:
    """Write copies as a script that leaves them in ``window.vxmprepVolumes``.

    Parameters
    ----------
    path : path
        Script to write.
    volumes : dict
        8-bit images by name: ``atlas``, ``affine``, ``full``, ``atlas_labels``, ``labels``.
    """
    from vxmprep.evaluation.labels import table

    packed = {name: _packed(image) for name, image in volumes.items()}
    present = {int(n) for name in ("atlas_labels", "labels") if name in volumes
               for n in np.unique(np.asarray(volumes[name].dataobj))} - {0}  # fmt: skip
    known = [table()[label] for label in sorted(present) if label in table()]
    colors = {one.index: [one.name, one.color] for one in known}
    content = json.dumps({"volumes": packed, "labels": colors})
    with replacing(path) as temporary:
        temporary.write_text(f"window.vxmprepVolumes = {content};\n", encoding="utf-8")
    return path


def _packed(image: nb.Nifti1Image) -> str:
    image.header.set_xyzt_units("mm")
    # No time in the file: the same brain gives the same script.
    return base64.b64encode(gzip.compress(image.to_bytes(), 6, mtime=0)).decode()
