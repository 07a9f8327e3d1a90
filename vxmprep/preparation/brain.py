"""Where the brain is in a scan."""

from __future__ import annotations

import nibabel as nb
import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import ImageError, like
from vxmprep.spatial.resample import resample

LARGEST_BRAIN_ML = 2600.0
"""A larger foreground is a head: stripped brains reach 2.2 l with dura and CSF, heads 3 l."""

SMALLEST_BACKGROUND = 0.2
"""Share of voxels that hold the background value when a scan was stripped and cropped tightly."""

MUCH_BELOW = 0.2
"""Share of what is not background that is negative and below it in a brain standardised to mean 0;
ringing at a brain's rim is less."""


def brain_mask(
    image: nb.spatialimages.SpatialImage,
    method: str,
    *,
    given: nb.spatialimages.SpatialImage | None = None,
    use_gpu: bool = False,
) -> tuple[nb.Nifti1Image, str]:
    """Find the brain by the method asked for.

    Parameters
    ----------
    image : image
        T1w scan.
    method : {"auto", "deepbet", "none"}
        ``auto`` is deepbet unless the scan is already stripped; ``none`` says that it is.
    given : image, optional
        A mask made elsewhere, which is used instead.
    use_gpu : bool
        Run deepbet on a GPU.

    Returns
    -------
    tuple
        Mask on the scan's grid, and what was done: ``none`` (the scan came stripped), ``given`` or
        ``deepbet``.
    """
    if given is not None:
        return mask_on_scan(given, image), "none" if already_stripped(image) else "given"
    if method == "none" or (method == "auto" and already_stripped(image)):
        return stripped_mask(image), "none"
    return deepbet_mask(image, use_gpu=use_gpu), "deepbet"


def already_stripped(image: nb.spatialimages.SpatialImage) -> bool:
    """Tell from its voxels whether a scan holds a brain only.

    A stripped scan has one exact background value, out to the faces of its box, around a body no
    larger than a brain. In a
    whole head air is noise, or the body inside the erased air is larger than any brain.

    Parameters
    ----------
    image : image
        A T1w scan.
    """
    step = np.maximum(np.round(2.0 / Grid.of(image).spacing), 1).astype(int)
    data = np.asanyarray(image.dataobj)[tuple(slice(None, None, s) for s in step)]
    background = _background(data)
    if background is None:
        return False
    foreground = _foreground(data, background)
    if 1 - foreground.mean() < SMALLEST_BACKGROUND:
        return False
    body = _body(foreground)
    voxel_ml = np.prod(Grid.of(image).spacing * step) / 1000
    return bool(body.sum() * voxel_ml < LARGEST_BRAIN_ML)


def stripped_mask(image: nb.spatialimages.SpatialImage) -> nb.Nifti1Image:
    """Give the mask of a scan that is already skull-stripped: its foreground, holes filled."""
    data = np.asanyarray(image.dataobj)
    background = _background(data)
    return like(_body(_foreground(data, 0.0 if background is None else background)), image)


def deepbet_mask(image: nb.spatialimages.SpatialImage, *, use_gpu: bool = False) -> nb.Nifti1Image:
    """Find the brain with deepbet.

    Parameters
    ----------
    image : image
        Whole head, any orientation and voxel size.
    use_gpu : bool
        Run on the first GPU rather than on the CPU.

    Returns
    -------
    nibabel.Nifti1Image
        Mask on the scan's grid, uint8.

    Raises
    ------
    ImageError
        If no brain is found.

    References
    ----------
    Fisch et al., deepbet: Fast brain extraction of T1-weighted MRI using convolutional neural
    networks, Computers in Biology and Medicine 179 (2024).
    """
    from deepbet.bet import BrainExtraction

    data = np.asarray(image.dataobj, dtype=np.float32)
    try:
        _, mask, _ = BrainExtraction(no_gpu=not use_gpu).run(nb.Nifti1Image(data, image.affine))
    except (AssertionError, ValueError) as error:
        raise ImageError(f"deepbet finds no brain in this scan ({error})") from error
    return like(np.asarray(mask.dataobj) > 0, image)


def mask_on_scan(
    mask: nb.spatialimages.SpatialImage, image: nb.spatialimages.SpatialImage
) -> nb.Nifti1Image:
    """Bring somebody else's mask to the scan's grid by their world coordinates.

    FreeSurfer's brainmask.mgz holds intensities, with 1 where an editor erased a voxel, so that
    anything above 1 is brain if they are intensities. A mask that was interpolated may exceed 1
    by a little.
    """
    data = np.asanyarray(mask.dataobj)
    inside = like(data > (1 if data.max() >= 2 else 0.5), mask)
    on_scan = resample(inside, Grid.of(image), np.eye(4), nearest=True)
    if not np.any(on_scan.dataobj):
        raise ImageError("the brain mask given does not overlap the image: is it of another one?")
    return on_scan


def _background(data: np.ndarray) -> float | None:
    """Give the largest value that is not tissue: the one that fills most of the outer faces.

    In whole numbers that fill with 0 it is 1, with which FreeSurfer marks voxels that were erased.
    None where no value fills half of the faces.
    """
    faces = [np.take(data, end, axis=axis).ravel() for axis in range(3) for end in (0, -1)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    if counts.max() < counts.sum() / 2:
        return None
    background = float(values[counts.argmax()])
    levels = np.unique(data)
    whole_numbers = len(levels) > 50 and levels[0] >= 0 and not (levels % 1).any()
    return 1.0 if background == 0 and whole_numbers else background


def _foreground(data: np.ndarray, background: float) -> np.ndarray:
    """Tell tissue by its values: above the background, or on both sides of it."""
    other = data != background
    below = data < min(background, 0.0)
    if np.count_nonzero(below) > MUCH_BELOW * np.count_nonzero(other):
        return other
    return data > background


def _body(foreground: np.ndarray) -> np.ndarray:
    """Give the largest connected part with its holes filled."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(foreground.astype(np.uint8))
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(image), sortByObjectSize=True)
    padded = sitk.ConstantPad(parts == 1, (1, 1, 1), (1, 1, 1), 0)
    filled = sitk.BinaryFillhole(padded)
    return sitk.GetArrayFromImage(sitk.Crop(filled, (1, 1, 1), (1, 1, 1))).astype(bool)
