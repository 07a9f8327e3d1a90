"""Points, rotations and interpolation of arrays."""

import nibabel as nib
import numpy as np
from scipy import ndimage


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply an affine (4, 4) to points (3, ...), keeping their precision."""
    matrix = matrix.astype(points.dtype)
    moved = np.tensordot(matrix[:3, :3], points, axes=1)
    return moved + matrix[:3, 3].reshape(3, *[1] * (points.ndim - 1))


def sample(image: np.ndarray, voxels: np.ndarray, *, order: int = 1) -> np.ndarray:
    """Interpolate an image at voxels (3, ...); beyond the border its edge goes on."""
    return ndimage.map_coordinates(image, voxels, order=order, mode="nearest")


def stretch(coarse: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolate an array linearly to a larger shape, ends on ends."""
    for axis, size in enumerate(shape):
        place = np.linspace(0, coarse.shape[axis] - 1, size, dtype=np.float32)
        low = np.minimum(place.astype(int), coarse.shape[axis] - 2)
        weight = np.expand_dims(place - low, [other for other in range(3) if other != axis])
        below, above = coarse.take(low, axis), coarse.take(low + 1, axis)
        coarse = below + weight * (above - below)
    return coarse


def turn(degrees: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) by angles about x, then y, then z."""
    return nib.eulerangles.euler2mat(*np.deg2rad(degrees)[::-1])
