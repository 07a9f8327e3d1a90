"""One simulated subject: a scan on a grid of its own and its segmentation."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff
from scipy import ndimage

from vxmprep.simulate.anatomy import Anatomy, draw_contrast
from vxmprep.simulate.deformation import Deformation, draw_deformation
from vxmprep.simulate.sampling import apply, sample, stretch, turn

ORIENTATIONS = ("LAS", "LIA", "PSR")
VOXEL_SIZES_MM = (1.0, 1.1, 1.2)


@dataclass(frozen=True)
class Subject:
    """A simulated subject: a skull-stripped scan, its segmentation and the truth."""

    scan: nib.Nifti1Image
    segmentation: nib.MGHImage
    deformation: Deformation


def simulate_subject(anatomy: Anatomy, *, seed: int, number: int = 0) -> Subject:
    """Make one subject; the same seed and number give the same subject.

    Parameters
    ----------
    anatomy : Anatomy
        The atlas.
    seed, number : int
        The cohort's seed, and which subject of the cohort; grids differ between neighbours.

    Returns
    -------
    Subject
        An int16 scan on an oblique grid of unequal voxels, background 0, and FreeSurfer's
        numbers on FreeSurfer's grid (256 x 256 x 256, 1 mm, LIA).
    """
    rng = np.random.default_rng([seed, number])
    deformation = draw_deformation(anatomy, rng)
    contrast = draw_contrast(anatomy, rng)
    brain = deformation.atlas_to_scan(anatomy.brain_points[::211])
    shape, affine = _draw_grid(brain, rng, number)
    to_atlas = _atlas_voxels(anatomy, deformation, shape, affine)
    signal = sample(contrast, to_atlas)
    mask = sample(anatomy.brain.astype(np.float32), to_atlas) > 0.5
    scan = nib.Nifti1Image(_acquire(signal, mask, rng), affine)
    scan.header.set_xyzt_units("mm", "sec")
    return Subject(scan, _segment(anatomy, deformation, scan, brain), deformation)


def _draw_grid(
    brain: np.ndarray, rng: np.random.Generator, number: int
) -> tuple[tuple[int, ...], np.ndarray]:
    """Draw a scan's shape and affine: oblique, unequal voxels, 8 mm or more about the brain."""
    sizes = rng.permutation(VOXEL_SIZES_MM)
    axes = turn(rng.choice([-1, 1], size=3) * rng.uniform(2, 8, size=3)) @ np.diag(sizes)
    along = brain @ np.linalg.inv(axes).T
    start = along.min(axis=0) - rng.uniform(8, 14, size=3) / sizes
    stop = along.max(axis=0) + rng.uniform(8, 14, size=3) / sizes
    shape = np.ceil(stop - start).astype(int)
    ornt = axcodes2ornt(ORIENTATIONS[number % len(ORIENTATIONS)])
    affine = nib.affines.from_matvec(axes, axes @ start) @ _reorder(ornt, shape)
    return tuple(int(size) for size in shape[ornt[:, 0].astype(int)]), affine


def _reorder(ornt: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return the matrix (4, 4) from voxels in an orientation to voxels of the RAS grid."""
    inverse = nib.orientations.ornt_transform(axcodes2ornt("RAS"), ornt)
    return inv_ornt_aff(inverse, tuple(shape))


def _acquire(signal: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add a bias field and Rician noise inside the mask, in int16; 0 outside."""
    coarse = ndimage.gaussian_filter(rng.standard_normal((6, 6, 6)), 1.2).astype(np.float32)
    bias = np.exp(stretch(0.12 * coarse / coarse.std(), mask.shape)[mask])
    sigma = rng.uniform(2.0, 3.5)
    real, imaginary = sigma * rng.standard_normal((2, bias.size), dtype=np.float32)
    measured = np.hypot(signal[mask] * bias + real, imaginary) * rng.uniform(3, 12)
    image = np.zeros(mask.shape, dtype=np.int16)
    image[mask] = np.maximum(np.rint(measured), 1)
    return image


def _segment(
    anatomy: Anatomy, deformation: Deformation, scan: nib.Nifti1Image, brain: np.ndarray
) -> nib.MGHImage:
    """Deform the labels to FreeSurfer's grid about the scan's centre, nearest neighbour."""
    centre = nib.affines.apply_affine(scan.affine, np.asarray(scan.shape) / 2)
    axes = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    affine = nib.affines.from_matvec(axes, centre - axes @ (128, 128, 128))
    voxels = nib.affines.apply_affine(np.linalg.inv(affine), brain)
    low = np.floor(voxels.min(axis=0) - 6).clip(0, 255).astype(int)
    high = np.ceil(voxels.max(axis=0) + 6).clip(1, 256).astype(int)
    corner = affine @ nib.affines.from_matvec(np.eye(3), low)
    to_atlas = _atlas_voxels(anatomy, deformation, tuple(high - low), corner)
    labels = np.zeros((256, 256, 256), dtype=np.int32)
    box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    labels[box] = sample(anatomy.labels, to_atlas, order=0)
    return nib.MGHImage(labels, affine)


def _atlas_voxels(
    anatomy: Anatomy, deformation: Deformation, shape: tuple[int, ...], affine: np.ndarray
) -> np.ndarray:
    """Return the atlas voxel (3, X, Y, Z) that each voxel of a scan's grid shows."""
    voxels = np.indices(shape, dtype=np.float32)
    undone = apply(np.linalg.inv(deformation.affine) @ affine, voxels)
    return apply(np.linalg.inv(anatomy.affine), deformation.displace(undone))
