"""The known map between a simulated subject and the atlas."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from vxmprep.simulate.anatomy import Anatomy
from vxmprep.simulate.sampling import apply, sample, turn

FIELD_SPACING_MM = 3.0
MAX_DISPLACEMENT_MM = 8.0
SMALLEST_JACOBIAN = 0.15
VELOCITY_SCALES_MM = {8: 1.0, 12: 2.0, 24: 1.8}  # each with its standard deviation, mm


class SimulationError(ValueError):
    """The subject that was asked for cannot be made."""


@dataclass(frozen=True)
class Deformation:
    """The map between a subject and the atlas: an affine and a smooth, invertible field.

    Parameters
    ----------
    affine : ndarray (4, 4)
        Takes undeformed atlas points to the scan, RAS mm.
    displacement : ndarray (3, X, Y, Z)
        What is added to a point, once the affine is undone, to reach the atlas; RAS mm.
    field_affine : ndarray (4, 4)
        From voxels of the displacement to RAS millimetres.
    """

    affine: np.ndarray
    displacement: np.ndarray
    field_affine: np.ndarray

    def displace(self, points: np.ndarray) -> np.ndarray:
        """Add the displacement to points (3, ...), RAS mm."""
        voxels = apply(np.linalg.inv(self.field_affine), points)
        return points + np.stack([sample(part, voxels) for part in self.displacement])

    def scan_to_atlas(self, points: np.ndarray) -> np.ndarray:
        """Take scan points (N, 3) to the atlas, RAS mm."""
        return self.displace(apply(np.linalg.inv(self.affine), points.T)).T

    def atlas_to_scan(self, points: np.ndarray) -> np.ndarray:
        """Take atlas points (N, 3) to the scan, RAS mm, to within 0.001 mm.

        Raises
        ------
        SimulationError
            Where the field cannot be inverted.
        """
        wanted = points.T.astype(float)
        found = wanted.copy()
        for _ in range(200):
            residual = self.displace(found) - wanted
            if np.abs(residual).max() < 5e-4:
                return apply(self.affine, found).T
            found -= 0.6 * residual
        raise SimulationError(
            f"the deformation could not be inverted to better than {np.abs(residual).max():.3f} mm"
        )


def draw_deformation(anatomy: Anatomy, rng: np.random.Generator) -> Deformation:
    """Draw a pose and an invertible change of shape of at most 8 mm.

    The shape is the flow of a stationary velocity, smoothed noise of three scales; it is
    weakened until its Jacobian determinant is well above 0 everywhere.

    Raises
    ------
    SimulationError
        If it folds however weak it is.
    """
    extent = np.asarray(anatomy.brain.shape) * nib.affines.voxel_sizes(anatomy.affine)
    shape = np.ceil(extent / FIELD_SPACING_MM).astype(int)
    field_affine = nib.affines.from_matvec(FIELD_SPACING_MM * np.eye(3), anatomy.affine[:3, 3])
    velocity = _draw_velocity(tuple(shape), rng)
    affine = _draw_affine(anatomy.brain_points[::211].mean(axis=0), rng)
    for _ in range(10):
        displacement = FIELD_SPACING_MM * _integrate(velocity / FIELD_SPACING_MM)
        if smallest_jacobian(displacement, FIELD_SPACING_MM) > SMALLEST_JACOBIAN:
            return Deformation(affine, displacement.astype(np.float32), field_affine)
        velocity *= 0.85
    raise SimulationError("no deformation without folds was found")


def smallest_jacobian(displacement: np.ndarray, spacing: float) -> float:
    """Return the smallest Jacobian determinant of a displacement (3, X, Y, Z), both in mm.

    Both one-sided differences are taken, which bound what linear interpolation does.
    """
    smallest = np.inf
    for side in (slice(None, -1), slice(1, None)):
        rows = []
        for axis in range(3):
            keep = [side] * 3
            keep[axis] = slice(None)
            rows.append(np.diff(displacement, axis=axis + 1)[(slice(None), *keep)] / spacing)
        jacobian = np.moveaxis(np.stack(rows, axis=1), (0, 1), (-2, -1)) + np.eye(3)
        smallest = min(smallest, float(np.linalg.det(jacobian).min()))
    return smallest


def _draw_velocity(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw a velocity (3, X, Y, Z) in mm per unit of time, below ``MAX_DISPLACEMENT_MM``."""
    velocity = np.zeros((3, *shape))
    for scale_mm, weight in VELOCITY_SCALES_MM.items():
        for part in velocity:
            noise = ndimage.gaussian_filter(
                rng.standard_normal(shape), scale_mm / FIELD_SPACING_MM, mode="reflect"
            )
            part += weight * noise / noise.std()
    speed = np.linalg.norm(velocity, axis=0)
    return velocity * MAX_DISPLACEMENT_MM * np.tanh(speed / MAX_DISPLACEMENT_MM) / speed


def _integrate(velocity: np.ndarray, steps: int = 6) -> np.ndarray:
    """Integrate a velocity (3, X, Y, Z) in voxels over unit time by scaling and squaring."""
    displacement = velocity / 2**steps
    identity = np.indices(velocity.shape[1:], dtype=float)
    for _ in range(steps):
        moved = identity + displacement
        displacement = displacement + np.stack([sample(part, moved) for part in displacement])
    return displacement


def _draw_affine(centre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a pose about a centre (3,): turns, scales, shears and a shift, RAS mm."""
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = rng.uniform(-0.03, 0.03, size=3)
    linear = turn(rng.uniform(-10, 10, size=3)) @ np.diag(rng.uniform(0.9, 1.1, size=3)) @ shear
    shift = rng.uniform(-20, 20, size=3)
    return nib.affines.from_matvec(linear, centre + shift - linear @ centre)
