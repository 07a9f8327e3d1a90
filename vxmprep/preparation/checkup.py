"""What the header and the voxels of a scan tell before anything is done with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.preparation.brain import already_stripped, mask_on_scan, stripped_mask
from vxmprep.preparation.segmentation import load_labels, misplaced
from vxmprep.preparation.shape import MaskShape
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import ImageError, like, load, load_scan, not_finite
from vxmprep.spatial.opening import open_image

THICKEST_MM = 2.5
"""Side of a voxel; thicker slices blur the cortex, which is 2 to 4 mm thick."""

MOST_ANISOTROPIC = 3.0
FURTHEST_MM = 1.0
"""Between the places that sform and qform give the corners of an image."""

BRAIN_CUT_CM2 = 4.0
"""Area of tissue on a face of the image from which a stripped brain counts as cut off; one that
just touches its box has less."""

HEAD_CUT_CM2 = {"top": 10.0, "back": 60.0, "left": 100.0, "right": 100.0, "front": 100.0}
"""The same for a whole head, whose ears, nose and scalp may be cut but not its brain: these areas
are reached some millimetres within the brain."""

BEFORE_EDGE_CM2, PER_MM_CM2 = 30.0, 10.0
"""The same where the image goes on with nothing; and for each mm of a slice's thickness, of which
the first of what is rounded off may have 6 and the share of one before it."""

HEAD_ML = (500.0, 9000.0)
"""Tissue in an image of a head: 2 to 3 l in adults without much of a neck, 0.7 l in newborns."""

NECK_CM2, SHORTEST_HEAD_MM = 90.0, 130.0
"""At the bottom every head is cut. With more tissue there than a neck has, and less than this
below the top of the head, it is cut within the brain: down to the cerebellum there are 150 mm."""

SIDES = (("left", "right"), ("back", "front"), ("bottom", "top"))


@dataclass(frozen=True)
class Checkup:
    """What was seen in a scan.

    Attributes
    ----------
    stripped : bool
        Whether it holds a brain only.
    cut : tuple of str
        Sides at which the brain (if stripped) or the head with its brain ends at a plane, which is
        the edge of the image or lies before it.
    not_finite : int
        Voxels that are NaN or infinite.
    fingerprint : str
        The same for images of the same voxels, however they are compressed, scaled or turned.
    segmentation : str or None
        What is wrong with the segmentation, if one was given and something is.
    mask : str or None
        The same of the brain mask.
    doubts : tuple of str
        Why its brain, or what the mask marks, has not the size or shape of one.
    """

    stripped: bool
    cut: tuple[str, ...]
    not_finite: int
    fingerprint: str
    segmentation: str | None = None
    mask: str | None = None
    doubts: tuple[str, ...] = ()


def examine_header(path: str | Path) -> list[str]:
    """Say what is odd about a header that `vxmprep.spatial.headers.inspect` lets pass.

    Parameters
    ----------
    path : path
        The scan.

    Returns
    -------
    list of str
        One line each; empty if nothing is.

    Raises
    ------
    ImageError
        If it is no image.
    """
    image = open_image(path)
    spacing = Grid.of(image).spacing
    said = []
    if spacing.max() > THICKEST_MM or spacing.max() / spacing.min() > MOST_ANISOTROPIC:
        sizes = "x".join(f"{size:.3g}" for size in spacing)
        said.append(f"voxels of {sizes} mm are coarse for a registration of the cortex")
    said += _forms(image)
    return said


def _forms(image: nb.spatialimages.SpatialImage) -> list[str]:
    """Compare the two places that a NIfTI header may give an image."""
    if not isinstance(image, nb.Nifti1Pair):
        return []
    sform, qform = image.get_sform(coded=True)[0], image.get_qform(coded=True)[0]
    if sform is None or qform is None:
        return []
    shape = image.shape[:3]
    corners = np.array(np.meshgrid(*((0, n - 1) for n in shape))).reshape(3, -1).T
    apart = nb.affines.apply_affine(sform, corners) - nb.affines.apply_affine(qform, corners)
    if np.sign(np.linalg.det(sform[:3, :3])) != np.sign(np.linalg.det(qform[:3, :3])):
        return ["sform and qform put left and right on opposite sides; find out which is true"]
    furthest = float(np.linalg.norm(apart, axis=1).max())
    if furthest > FURTHEST_MM:
        return [f"sform and qform place it {furthest:.1f} mm apart; sform is used"]
    return []


def examine_voxels(
    path: str | Path,
    segmentation: str | Path | None = None,
    mask: str | Path | None = None,
    *,
    usual: MaskShape | None = None,
) -> Checkup:
    """Look at a scan's voxels: stripped or not, cut off, of what size, and what identifies it.

    Parameters
    ----------
    path : path
        The scan.
    segmentation : path, optional
        FreeSurfer-numbered labels that should be this scan's.
    mask : path, optional
        Brain mask made elsewhere that should be this scan's.
    usual : MaskShape, optional
        Size and shape of an atlas's brain, with which the brain's are compared.

    Raises
    ------
    ImageError
        If the scan cannot be read or registered.
    """
    scan = load_scan(path)
    data = np.asarray(scan.dataobj)
    stripped = already_stripped(scan)
    cut = _cut(scan, stripped)
    wrong = odd = None
    brain = _brain(scan) if stripped else None
    if segmentation is not None:
        # Without a mask of the brain, labels of another scan may still lie outside the head.
        body = stripped_mask(scan) if stripped else _head(scan)
        try:
            wrong = misplaced(load_labels(segmentation), body)
        except ImageError as error:
            wrong = str(error)
    if mask is not None:
        try:
            brain = mask_on_scan(load(mask), scan)
        except ImageError as error:
            odd = str(error)
    doubts = _head_doubts(scan) if brain is None else _brain_doubts(brain, usual)
    seen = stripped, cut, not_finite(scan), _fingerprint(data), wrong, odd
    return Checkup(*seen, tuple(doubts))


def _brain(scan: nb.Nifti1Image) -> nb.Nifti1Image:
    """Give the mask of a stripped scan, at about 2 mm."""
    step = np.maximum(np.round(2.0 / Grid.of(scan).spacing), 1).astype(int).tolist()
    return stripped_mask(scan.slicer[tuple(slice(None, None, s) for s in step)])


def _brain_doubts(brain: nb.Nifti1Image, usual: MaskShape | None) -> list[str]:
    if usual is None:
        return []
    try:
        return [text.removeprefix("mask: ") for text in MaskShape.of(brain).doubts(usual)]
    except ValueError:
        return ["hardly a voxel of a brain"]


def _head_doubts(scan: nb.Nifti1Image) -> list[str]:
    data = np.asarray(scan.dataobj)
    ml = float(np.count_nonzero(data > _tissue(data)) * np.prod(Grid.of(scan).spacing) / 1000)
    low, high = HEAD_ML
    if low <= ml <= high:
        return []
    why = "part of it is missing" if ml < low else "the air is not dark"
    return [
        f"a head of {ml:.0f} ml, expected {low:.0f} to {high:.0f}: {why}, or the voxel size is "
        "wrong"
    ]


def _head(scan: nb.Nifti1Image) -> nb.Nifti1Image:
    from scipy.ndimage import binary_fill_holes

    data = np.asarray(scan.dataobj)
    return like(binary_fill_holes(data > _tissue(data)), scan)


def _cut(scan: nb.Nifti1Image, stripped: bool) -> tuple[str, ...]:
    """Give the sides at which a brain, or a head within its brain, ends at a plane."""
    data = np.asarray(scan.dataobj)
    profiles = _profiles(data > (0.0 if stripped else _tissue(data)), Grid.of(scan))
    most = dict.fromkeys(profiles, BRAIN_CUT_CM2) if stripped else HEAD_CUT_CM2
    cut = tuple(side for side, area in most.items() if _ends_at_plane(*profiles[side], area))
    if stripped or not _ends_at_plane(*profiles["bottom"], NECK_CM2):
        return cut
    return cut if _height(*profiles["bottom"]) >= SHORTEST_HEAD_MM else (*cut, "bottom")


def _ends_at_plane(areas: np.ndarray, thickness: float, most: float) -> bool:
    """Tell whether tissue is cut off at the edge of the image or, with nothing beyond, before.

    Parameters
    ----------
    areas : array
        Area of tissue on each plane from the edge inwards, cm2.
    thickness : float
        Between planes, mm.
    most : float
        Of it on the edge; before it an object that is rounded off has little on its first plane.
    """
    if areas[0] > most:
        return True
    inner = areas > 1.0  # single voxels of noise do not begin a head
    return bool(areas[np.argmax(inner)] > max(most, BEFORE_EDGE_CM2, PER_MM_CM2 * thickness))


def _profiles(tissue: np.ndarray, grid: Grid) -> dict[str, tuple[np.ndarray, float]]:
    """Give the area of tissue on each plane from each anatomical side inwards, cm2.

    And how far apart these planes are, mm.
    """
    found = {}
    for axis, (along, direction) in enumerate(nb.io_orientation(grid.affine)):
        others = tuple(other for other in range(3) if other != axis)
        areas = np.count_nonzero(tissue, axis=others) * np.prod(grid.spacing[list(others)]) / 100
        low, high = SIDES[int(along)][:: int(direction)]
        apart = float(grid.spacing[axis])
        found |= {low: (areas, apart), high: (areas[::-1], apart)}
    return found


def _height(areas: np.ndarray, thickness: float) -> float:
    """Give the distance from the top of a head to where it ends at the bottom, mm."""
    planes = np.flatnonzero(areas > HEAD_CUT_CM2["top"])
    return float(np.ptp(planes) * thickness) if len(planes) else 0.0


def _tissue(data: np.ndarray) -> float:
    """Give an intensity that tissue exceeds and air does not."""
    return 0.25 * float(np.percentile(data[::3, ::3, ::3], 95))


def _fingerprint(data: np.ndarray) -> str:
    # From the lowest to the highest value, so that a scale factor does not matter; and how often
    # each occurs, not where, so that the order of the axes does not either.
    low, high = float(data.min()), float(data.max())
    # Few bins, whose edges whole numbers miss, so that no value changes its bin by rounding.
    bins = (data.astype(float) - low) * (16 / (high - low)) + 1 / np.pi
    counts = np.bincount(bins.astype(np.uint8).ravel(), minlength=17).tolist()
    return hashlib.sha256(repr((sorted(data.shape), counts)).encode()).hexdigest()
