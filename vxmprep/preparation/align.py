"""Affine registration of a brain to the atlas, and whether to believe it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nb
import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter

from vxmprep.preparation.bias import lifted
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import like
from vxmprep.spatial.itk import from_sitk, to_sitk
from vxmprep.spatial.resample import resample
from vxmprep.spatial.silence import silenced

LEAST_SIMILARITY = 0.25
"""Between what aligned scans reach (0.42 and more) and what turned ones do (0.08)."""

LEAST_OVERLAP = 0.85
SCALES = (0.7, 1.4)
LARGEST_SHEAR = 0.2
LARGEST_TURN = 60.0
"""Degrees; a head in a scanner is never turned so far, a wrong header is."""

DARKEST = 1e-6
"""Intensity of the darkest voxel of a coarse brain."""

HALF_TURNS = (
    np.eye(3),
    np.diag([-1.0, -1.0, 1.0]),
    np.diag([-1.0, 1.0, -1.0]),
    np.diag([1.0, -1.0, -1.0]),
)

TURNS = (
    *HALF_TURNS,
    *(
        half @ np.eye(3)[list(axes)] * sign
        for axes, sign in (
            ((0, 2, 1), -1), ((1, 0, 2), -1), ((2, 1, 0), -1), ((1, 2, 0), 1), ((2, 0, 1), 1),
        )
        for half in HALF_TURNS
    ),
)  # fmt: skip
"""The header's word, half turns about the three axes, then the other ways of putting three axes
onto three, for headers that are wrong: the 24 turns of a cube. Nothing is mirrored."""

Search = Callable[[nb.Nifti1Image, nb.Nifti1Image], Iterable[np.ndarray]]
"""From two brains, atlas and scan, both with their middle at 0 mm, to affines (4, 4) of 12 degrees
of freedom, atlas points to scan points; the likeliest first, each only computed when asked for."""


@dataclass(frozen=True)
class Alignment:
    """An affine registration with what speaks for and against it.

    Attributes
    ----------
    atlas_to_scan : (4, 4) array
        Atlas points to scan points, RAS mm.
    similarity : float
        Correlation with the atlas of what is left of the intensities after subtracting their
        average over about 14 mm, 4 mm inside both brains: edges count, not the brain's outline.
    overlap : float
        Dice of the two brain masks.
    scales : tuple of float
        Scan per atlas, along the principal axes.
    shear : float
        Largest cosine between the images of two axes.
    turn : float
        Rotation in degrees.
    flags : tuple of str
        Reasons to distrust it; empty if there is none.
    starts : int
        From how many starts it was searched: poor ones are tried again from others.
    """

    atlas_to_scan: np.ndarray
    similarity: float
    overlap: float
    scales: tuple[float, float, float]
    shear: float
    turn: float
    flags: tuple[str, ...] = field(default=())
    starts: int = 1

    @property
    def poor(self) -> bool:
        """Whether another start may do better."""
        return self.similarity < LEAST_SIMILARITY or self.overlap < LEAST_OVERLAP

    def summary(self) -> dict:
        """Give the numbers for a JSON file."""
        return {
            "Similarity": round(self.similarity, 4),
            "MaskOverlap": round(self.overlap, 4),
            "Scales": [round(s, 4) for s in self.scales],
            "Shear": round(self.shear, 4),
            "RotationDegrees": round(self.turn, 2),
            "Determinant": round(float(np.linalg.det(self.atlas_to_scan[:3, :3])), 4),
            "Starts": self.starts,
            "Flags": list(self.flags),
        }


def greedy(fixed: nb.Nifti1Image, moving: nb.Nifti1Image) -> Iterator[np.ndarray]:
    """Search with greedy: first from the header's orientation, then from other turns of it.

    References
    ----------
    Yushkevich et al., Fast automatic segmentation of hippocampal subfields and medial temporal
    lobe subregions, Alzheimer's & Dementia 12(7) (2016); https://greedy.readthedocs.io
    """
    for turn in TURNS:
        yield _greedy(fixed, moving, nb.affines.from_matvec(turn, np.zeros(3)))


def align(
    brain: nb.spatialimages.SpatialImage,
    mask: nb.spatialimages.SpatialImage,
    atlas: nb.spatialimages.SpatialImage,
    atlas_mask: nb.spatialimages.SpatialImage,
    *,
    search: Search | None = greedy,
) -> Alignment:
    """Find the affine of 12 degrees of freedom from an atlas to a scan.

    The search starts from the centres of mass of the two masks, never from the header's origin,
    which means nothing in many datasets. The first affine that it gives stands, or, as long as
    they are poor, the most similar one of those from other turns.

    Parameters
    ----------
    brain, mask : image
        Scan (what lies outside the mask is ignored) and its brain mask, on one grid.
    atlas, atlas_mask : image
        Skull-stripped atlas and its mask, on one grid.
    search : function, optional
        What finds the affine; with None the identity is judged: they share a world already.
    """
    fixed, moving = coarse(atlas, atlas_mask), coarse(brain, mask)
    if search is None:
        return judge(np.eye(4), moving, fixed)
    to_middle = _shift(-_centre_of_mass(atlas_mask))
    from_middle = _shift(_centre_of_mass(mask))
    best, starts = None, 0
    # Where a world is far from its brain, the steps of an optimiser are lost in the lever.
    for affine in search(_moved(fixed, to_middle), _moved(moving, np.linalg.inv(from_middle))):
        found = judge(from_middle @ affine @ to_middle, moving, fixed)
        starts += 1
        if best is None or found.similarity >= best.similarity:
            best = found
        # Where the brains are alike and only the masks are not, few turns can be the reason.
        if not best.poor or (best.similarity >= LEAST_SIMILARITY and starts >= len(HALF_TURNS)):
            break
    return replace(best, starts=starts)


def judge(
    atlas_to_scan: np.ndarray,
    brain: nb.spatialimages.SpatialImage,
    atlas: nb.spatialimages.SpatialImage,
) -> Alignment:
    """Judge an affine by similarity, overlap, scales, shear and rotation.

    Parameters
    ----------
    atlas_to_scan : (4, 4) array
        Atlas points to scan points, RAS mm.
    brain, atlas : image
        Skull-stripped, background 0.
    """
    warped = np.asarray(resample(brain, Grid.of(atlas), atlas_to_scan).dataobj)
    target = np.asanyarray(atlas.dataobj)
    mask = like(np.asanyarray(brain.dataobj) > 0, brain)
    covered = resample(mask, Grid.of(atlas), atlas_to_scan, nearest=True)
    inside, covered = target > 0, np.asarray(covered.dataobj) > 0
    overlap = 2 * np.count_nonzero(inside & covered) / (inside.sum() + covered.sum())
    similarity = _similarity(warped, target, inside & covered)
    matrix = atlas_to_scan[:3, :3]
    left, scales, right = np.linalg.svd(matrix)
    rotation = left @ right
    turn = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    axes = matrix / np.linalg.norm(matrix, axis=0)
    shear = float(np.abs(axes.T @ axes - np.eye(3)).max())
    found = Alignment(
        atlas_to_scan, similarity, float(overlap), tuple(scales.tolist()), shear, float(turn)
    )
    return replace(found, flags=tuple(_doubts(found)))


def coarse(
    image: nb.spatialimages.SpatialImage, mask: nb.spatialimages.SpatialImage
) -> nb.Nifti1Image:
    """Give the brain, cropped to its mask, at about 2 mm, which is all that an affine needs."""
    import SimpleITK as sitk

    inside = np.asanyarray(mask.dataobj) > 0
    box = np.argwhere(inside)
    grid = Grid.of(image)
    margin = np.ceil(8.0 / grid.spacing).astype(int)
    low = np.maximum(box.min(axis=0) - margin, 0)
    high = np.minimum(box.max(axis=0) + 1 + margin, inside.shape)
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    intensities = np.asarray(image.dataobj, dtype=np.float32)[window]
    data = np.where(inside[window], lifted(intensities, inside[window]), 0)
    affine = image.affine @ nb.affines.from_matvec(np.eye(3), low)
    step = np.maximum(np.round(2.0 / grid.spacing), 1)
    smooth = sitk.DiscreteGaussian(
        to_sitk(nb.Nifti1Image(data, affine)),
        variance=((step - 1.0) ** 2).tolist(),
        useImageSpacing=False,
    )
    shape = tuple(int(n) for n in np.ceil(np.array(data.shape) / step))
    coarser = Grid(shape, affine @ np.diag([*step, 1.0]))
    smaller = np.asarray(resample(from_sitk(smooth), coarser, np.eye(4)).dataobj)
    brain = nb.Nifti1Image(inside[window].astype(np.uint8), affine)
    kept = np.asarray(resample(brain, coarser, np.eye(4), nearest=True).dataobj) > 0
    # Above 0 in the mask, even where the scan is dark, and 0 outside of it.
    return nb.Nifti1Image(np.where(kept, np.maximum(smaller, DARKEST), 0), coarser.affine)


def _similarity(warped: np.ndarray, target: np.ndarray, common: np.ndarray) -> float:
    core = binary_erosion(common, iterations=2)
    if np.count_nonzero(core) < 1000:
        return 0.0
    weight = np.maximum(gaussian_filter(core.astype(np.float32), 3.0), 0.05)
    warped, target = (x - gaussian_filter(x * core, 3.0) / weight for x in (warped, target))
    return float(np.nan_to_num(np.corrcoef(warped[core], target[core])[0, 1]))


def _doubts(found: Alignment) -> list[str]:
    doubts = []
    if found.similarity < LEAST_SIMILARITY:
        doubts.append(
            f"affine: local correlation with the atlas is {found.similarity:.2f}, "
            f"expected at least {LEAST_SIMILARITY}"
        )
    if found.overlap < LEAST_OVERLAP:
        doubts.append(
            f"affine: brain masks overlap by {found.overlap:.2f}, "
            f"expected at least {LEAST_OVERLAP}"
        )
    if min(found.scales) < SCALES[0] or max(found.scales) > SCALES[1]:
        sizes = ", ".join(f"{s:.2f}" for s in found.scales)
        doubts.append(f"affine: scales {sizes} lie outside {SCALES[0]} to {SCALES[1]}")
    if found.shear > LARGEST_SHEAR:
        doubts.append(f"affine: shear {found.shear:.2f} is above {LARGEST_SHEAR}")
    if found.turn > LARGEST_TURN:
        doubts.append(
            f"affine: the head is turned by {found.turn:.0f} degrees; the orientation in the "
            "header looks wrong, so left and right may be exchanged"
        )
    return doubts


def _centre_of_mass(mask: nb.spatialimages.SpatialImage) -> np.ndarray:
    inside = np.argwhere(np.asanyarray(mask.dataobj) > 0)
    return nb.affines.apply_affine(mask.affine, inside.mean(axis=0))


def _shift(vector: np.ndarray) -> np.ndarray:
    return nb.affines.from_matvec(np.eye(3), vector)


def _moved(image: nb.Nifti1Image, matrix: np.ndarray) -> nb.Nifti1Image:
    return nb.Nifti1Image(np.asanyarray(image.dataobj), matrix @ image.affine)


def _greedy(fixed: nb.Nifti1Image, moving: nb.Nifti1Image, start: np.ndarray) -> np.ndarray:
    """Run greedy; its matrix maps fixed points to moving points, RAS mm."""
    from picsl_greedy import Greedy3D

    greedy = Greedy3D()
    with tempfile.TemporaryDirectory() as folder, silenced():
        start_file = Path(folder) / "start.mat"
        np.savetxt(start_file, start)
        # One thread and a seed: otherwise the noise that its metric adds differs in every run.
        greedy.execute(
            f"-i fixed moving -a -dof 12 -m NCC 2x2x2 -n 60x20 -ia '{start_file}' "
            "-threads 1 -seed 1 -jitter 0 -o found -V 0",
            fixed=to_sitk(fixed, np.float32),
            moving=to_sitk(moving, np.float32),
            found=None,
        )
        return np.array(greedy["found"])
