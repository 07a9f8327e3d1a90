"""The atlas as an anatomy: which tissue and which structure each voxel holds, and its contrast."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from scipy import ndimage

from vxmprep.simulate.sampling import stretch

MARGIN_MM = 12.0

# Intensities of the T1 template at which one tissue becomes another, in percent of its maximum,
# and the widths of the transitions.
CSF_TO_GREY, GREY_TO_WHITE = (43.0, 5.0), (80.0, 3.0)

# Grey nuclei stand between grey (0) and white matter (1) in T1-weighted images.
NUCLEUS_WHITENESS = {
    **dict.fromkeys((10, 49), 0.45),
    **dict.fromkeys((11, 50), 0.1),
    **dict.fromkeys((12, 51), 0.3),
    **dict.fromkeys((13, 52), 0.7),
    **dict.fromkeys((17, 18, 26, 53, 54, 58), 0.0),
    **dict.fromkeys((28, 60), 0.65),
}


@dataclass(frozen=True)
class Anatomy:
    """An atlas cut down to its brain.

    Parameters
    ----------
    tissue : ndarray (3, X, Y, Z)
        Shares of cerebrospinal fluid, grey and white matter; their sum is 0 outside the brain.
    labels : ndarray (X, Y, Z)
        FreeSurfer's numbers, 0 where there is none.
    affine : ndarray (4, 4)
        From voxels to RAS millimetres.
    """

    tissue: np.ndarray
    labels: np.ndarray
    affine: np.ndarray

    @cached_property
    def brain(self) -> np.ndarray:
        """The brain mask (X, Y, Z)."""
        return self.tissue.sum(axis=0) > 0.5

    @cached_property
    def brain_points(self) -> np.ndarray:
        """The centres of the brain's voxels (N, 3), RAS mm."""
        return nib.affines.apply_affine(self.affine, np.argwhere(self.brain))


def read_anatomy(t1_file: Path, labels_file: Path) -> Anatomy:
    """Read a skull-stripped T1-weighted atlas and its labels, which may have another grid."""
    t1 = nib.as_closest_canonical(nib.load(t1_file))
    labels = resample_from_to(nib.load(labels_file), t1, order=0)
    intensity = np.asarray(t1.dataobj, dtype=np.float32)
    inside = np.argwhere(intensity > 0)
    margin = np.ceil(MARGIN_MM / np.asarray(t1.header.get_zooms()[:3])).astype(int)
    low = np.maximum(inside.min(axis=0) - margin, 0)
    high = np.minimum(inside.max(axis=0) + margin + 1, intensity.shape)
    box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    affine = t1.affine @ nib.affines.from_matvec(np.eye(3), low)
    cut = np.asarray(labels.dataobj)[box].astype(np.int16)
    tissue = _classify(intensity[box] * np.float32(100 / intensity.max()))
    return Anatomy(tissue=tissue, labels=np.where(tissue.sum(axis=0) > 0, cut, 0), affine=affine)


def draw_contrast(anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Draw T1-like intensities (X, Y, Z), white matter near 100, per tissue and per structure."""
    fluid, grey, white = rng.uniform(18, 28), rng.uniform(58, 70), rng.uniform(96, 106)
    image = np.tensordot(np.float32([fluid, grey, white]), anatomy.tissue, axes=1)
    highest = int(anatomy.labels.max()) + 1
    whiteness = np.full(highest, np.nan, dtype=np.float32)
    for label, value in NUCLEUS_WHITENESS.items():
        if label < highest:
            whiteness[label] = value + rng.uniform(-0.08, 0.08)
    nucleus = whiteness[anatomy.labels]
    # Where the labels overshoot into the fluid, the template is right.
    filled = ~np.isnan(nucleus) & (anatomy.tissue[0] < 0.3)
    image = np.where(filled, grey + nucleus * (white - grey), image)
    offset = rng.normal(0, 2.5, size=highest).clip(-5, 5).astype(np.float32)
    solid = 1 - anatomy.tissue[0]
    image += offset[anatomy.labels] * solid + 2.0 * _texture(image.shape, rng) * solid
    return ndimage.gaussian_filter(np.where(anatomy.brain, image, 0), 0.6, truncate=3)


def _classify(intensity: np.ndarray) -> np.ndarray:
    """Share each voxel of the brain between fluid, grey and white matter by its intensity."""
    not_fluid, white = (
        1 / (1 + np.exp((middle - intensity) / (width / 2)))
        for middle, width in (CSF_TO_GREY, GREY_TO_WHITE)
    )
    shares = np.stack([1 - not_fluid, not_fluid - white * not_fluid, white * not_fluid])
    return shares * (intensity > 0)


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth field of standard deviation 1 that varies over about 1 cm."""
    coarse = ndimage.gaussian_filter(
        rng.standard_normal([-(-size // 4) + 1 for size in shape], dtype=np.float32), 1.0
    )
    return stretch(coarse / coarse.std(), shape)
