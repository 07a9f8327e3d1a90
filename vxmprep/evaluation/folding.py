"""How written transforms treat volumes: Jacobian determinant, folding, inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nb
import numpy as np

from vxmprep.evaluation.surface import box_of
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import field_member
from vxmprep.spatial.jacobian import SLAB, field_along_axes
from vxmprep.spatial.jacobian import jacobian_determinant as determinant_of

if TYPE_CHECKING:
    import SimpleITK as sitk


PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

BORDER = 2
"""Voxels that Learn2Reg leaves out at each face of the volume."""


@dataclass(frozen=True)
class Folding:
    """How a map treats volumes inside a mask.

    Attributes
    ----------
    folded : int
        Voxels whose determinant is zero or negative.
    voxels : int
        Voxels of the mask.
    lowest, highest : float
        Extreme determinants inside the mask.
    percentiles : tuple of float
        Determinants at the percentiles of `PERCENTILES`.
    sdlogj : float
        Standard deviation of the logarithm of the positive determinants; NaN where none is.
    """

    folded: int
    voxels: int
    lowest: float
    highest: float
    percentiles: tuple[float, ...]
    sdlogj: float

    @property
    def percent(self) -> float:
        """Folded voxels as a percentage of the mask."""
        return 100 * self.folded / self.voxels


def jacobian_determinant(transform: sitk.Transform, grid: Grid) -> nb.Nifti1Image:
    """Give the determinant of a transform's deformable part on a grid.

    Parameters
    ----------
    transform : SimpleITK.Transform
        Composite of affines, which are left out, and displacement fields.
    grid : Grid
        Grid of the atlas. Derivatives are central differences between its voxels, mm to mm.

    Returns
    -------
    nibabel.Nifti1Image
        float32 on `grid`; above 1 where the scan is larger than the atlas.
    """
    return determinant_of(field_member(transform), grid)


def folding(determinant: np.ndarray, mask: np.ndarray) -> Folding:
    """Count the voxels of a mask at which the map folds, and describe the rest."""
    inside = determinant[mask]
    if not inside.size:
        raise ValueError("folding: the mask is empty")
    positive = inside[inside > 0].astype(np.float64)
    return Folding(
        int(np.count_nonzero(inside <= 0)),
        int(inside.size),
        float(inside.min()),
        float(inside.max()),
        tuple(float(value) for value in np.percentile(inside, PERCENTILES)),
        float(np.log(positive).std()) if positive.size else float("nan"),
    )


def learn2reg_sdlogj(determinant: np.ndarray) -> float:
    """Measure smoothness as the challenge Learn2Reg does.

    Parameters
    ----------
    determinant : (X, Y, Z) array
        Of the whole volume, background too.

    Returns
    -------
    float
        Standard deviation of log(clip(determinant + 3, 1e-9, 1e9)) without the two outermost
        voxels at each face. The 3 makes folds harmless: not to be compared with `Folding.sdlogj`.

    References
    ----------
    Hering et al., Learn2Reg: comprehensive multi-task medical image registration challenge, IEEE
    TMI 42(3) (2023), and its evaluation code.
    """
    inner = determinant[(slice(BORDER, -BORDER),) * 3].astype(np.float64)
    # In place: whole copies of a fine atlas's map take gigabytes.
    inner += 3
    np.clip(inner, 1e-9, 1e9, out=inner)
    return float(np.log(inner, out=inner).std())


def displacement_in_voxels(transform: sitk.Transform, grid: Grid) -> np.ndarray:
    """Give a transform's deformable part at the voxels of a grid.

    Returns
    -------
    (3, X, Y, Z) float32 array
        Displacement along the grid's axes in its voxels.
    """
    import SimpleITK as sitk

    deformable = field_member(transform)
    found = np.empty((3, *grid.shape), np.float32)
    for planes, slab, _ in grid.slabs(SLAB):
        field = sitk.GetArrayFromImage(field_along_axes(deformable, slab)) / grid.spacing
        found[..., planes] = field.transpose(3, 2, 1, 0)
    return found


def non_diffeomorphic_volume(displacement: np.ndarray, mask: np.ndarray) -> float:
    """Measure the volume of what a field turns inside out, between voxels too.

    The cubes between voxels are divided into five tetrahedra, in two ways; a map that is linear
    inside each is digitally diffeomorphic if it keeps the orientation of all of them.

    Parameters
    ----------
    displacement : (3, X, Y, Z) array
        Voxels.
    mask : (X, Y, Z) bool array
        Voxels whose tetrahedra count; not those at the border of the grid.

    Returns
    -------
    float
        Volume of the reversed tetrahedra in voxels, the mean of both divisions; 0 for a map
        without any.

    References
    ----------
    Liu et al., On finite difference Jacobian computation in deformable image registration,
    International Journal of Computer Vision 132 (2024), arXiv 2212.06060.
    """
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1, 1:-1] = mask[1:-1, 1:-1, 1:-1]
    if not inner.any():
        return 0.0
    box = box_of(inner)
    # A few planes of the first axis at a time.
    step = max(1, SLAB // inner[0].size)
    starts = range(box[0].start, box[0].stop, step)
    parts = (slice(first, min(first + step, box[0].stop)) for first in starts)
    return sum(_reversed(displacement, inner, (part, *box[1:])) for part in parts)


def _reversed(displacement: np.ndarray, inner: np.ndarray, box: tuple[slice, ...]) -> float:
    """Measure the volume of the reversed tetrahedra that leave the voxels of a box."""
    inner = inner[box]

    def edge(step: tuple[int, int, int]) -> np.ndarray:
        moved = tuple(slice(a.start + s, a.stop + s) for a, s in zip(box, step, strict=True))
        vector = np.array(step, np.float32)[:, None, None, None]
        return displacement[:, *moved] - displacement[:, *box] + vector

    reversed_volume = 0.0
    for steps in _tetrahedra():
        sign = np.sign(np.linalg.det(np.array(steps)))
        a, b, c = (edge(step) for step in steps)
        six_volumes = sign * (
            a[0] * (b[1] * c[2] - b[2] * c[1])
            - a[1] * (b[0] * c[2] - b[2] * c[0])
            + a[2] * (b[0] * c[1] - b[1] * c[0])
        )
        reversed_volume -= float(six_volumes[inner & (six_volumes < 0)].sum(dtype=np.float64)) / 6
    return reversed_volume / 2


def inverse_consistency(
    forward: sitk.Transform, inverse: sitk.Transform, mask: nb.spatialimages.SpatialImage
) -> tuple[float, float, float]:
    """Measure what is left of a point that goes to the scan and back, with the maps as written.

    Parameters
    ----------
    forward, inverse : SimpleITK.Transform
        Atlas points to scan points, and back.
    mask : image
        Brain mask of the atlas; every second voxel along each axis is tried.

    Returns
    -------
    tuple of float
        Mean, 99th percentile and largest distance in mm.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    import SimpleITK as sitk

    inside = np.asanyarray(mask.dataobj)[::2, ::2, ::2] > 0
    if not inside.any():
        raise ValueError("inverse_consistency: the mask is empty")
    coarse = Grid(inside.shape, Grid.of(mask).affine @ np.diag([2.0, 2.0, 2.0, 1.0]))
    # The last member acts first.
    there_and_back = sitk.CompositeTransform([inverse, forward])
    left = sitk.GetArrayFromImage(field_along_axes(there_and_back, coarse))
    far = np.linalg.norm(left.transpose(2, 1, 0, 3)[inside], axis=-1)
    return float(far.mean()), float(np.percentile(far, 99)), float(far.max())


def _tetrahedra() -> list[tuple[tuple[int, int, int], ...]]:
    """Give the three edges that leave a voxel of each of its ten tetrahedra."""
    corners = [
        ((x, 0, 0), (0, y, 0), (0, 0, z)) for x in (1, -1) for y in (1, -1) for z in (1, -1)
    ]
    middles = [((s, s, 0), (s, 0, s), (0, s, s)) for s in (1, -1)]
    return [*corners, *middles]
