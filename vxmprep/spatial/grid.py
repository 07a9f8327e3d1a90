"""A grid of voxels that knows where it lies in the world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import nibabel as nb
import numpy as np


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular 3-D grid of voxel centres.

    Attributes
    ----------
    shape : tuple of int
        Number of voxels along each array axis.
    affine : (4, 4) array
        Voxel indices to world coordinates, RAS+ millimetres.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    @classmethod
    def of(cls, image: nb.spatialimages.SpatialImage) -> Grid:
        """Give the grid of a nibabel image."""
        shape = tuple(int(n) for n in image.shape[:3])
        return cls(shape, np.asarray(image.affine, dtype=float))

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size along each array axis in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def matches(self, other: Grid) -> bool:
        """Tell whether two grids have the same voxels, to a hundredth of a millimetre."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*((0, n - 1) for n in self.shape))).reshape(3, -1).T
        return bool(np.abs(self.world(corners) - other.world(corners)).max() < 0.01)

    def world(self, indices: np.ndarray) -> np.ndarray:
        """Map voxel indices (n, 3) to world coordinates (n, 3), RAS mm."""
        return nb.affines.apply_affine(self.affine, indices)

    def indices(self, points: np.ndarray) -> np.ndarray:
        """Map world points (n, 3), RAS mm, to continuous voxel indices (n, 3)."""
        return nb.affines.apply_affine(np.linalg.inv(self.affine), points)

    def planes(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give the voxels plane by plane along the last axis: indices and world points (n, 3).

        Within a plane the second axis runs faster.
        """
        plane = np.stack(np.mgrid[: self.shape[0], : self.shape[1], :1], -1).reshape(-1, 3)
        for k in range(self.shape[2]):
            indices = plane + np.array([0, 0, k])
            yield indices, self.world(indices)

    def slabs(self, voxels: int, margin: int = 0) -> Iterator[tuple[slice, Grid, slice]]:
        """Divide the grid along its last axis, so that work on it needs no memory for the whole.

        Parameters
        ----------
        voxels : int
            About as many in a slab; a grid that has no more is a slab as it is.
        margin : int
            Planes more at either side of a slab, where the grid goes on.

        Yields
        ------
        tuple of slice, Grid, slice
            The planes of the grid, the slab with its margins, and the same planes of the slab.
        """
        depth = self.shape[2]
        step = max(1, voxels // (self.shape[0] * self.shape[1]))
        for first in range(0, depth, step):
            last = min(first + step, depth)
            low, high = max(first - margin, 0), min(last + margin, depth)
            shift = nb.affines.from_matvec(np.eye(3), [0, 0, low])
            slab = Grid((*self.shape[:2], high - low), self.affine @ shift if low else self.affine)
            yield slice(first, last), slab, slice(first - low, last - low)

    def halved(self) -> Grid:
        """Give the grid of n // 2 + 1 voxels whose voxel i lies on this grid's voxel 2 i."""
        shape = tuple(n // 2 + 1 for n in self.shape)
        return Grid(shape, self.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))

    def padded(self, margin: int) -> Grid:
        """Give the grid with `margin` voxels more on each of its six sides."""
        shape = tuple(n + 2 * margin for n in self.shape)
        shift = nb.affines.from_matvec(np.eye(3), -margin * np.ones(3))
        return Grid(shape, self.affine @ shift)


def network_grid(mask: nb.spatialimages.SpatialImage, margin: float = 8.0) -> Grid:
    """Give the network's grid for an atlas: 1 mm, RAS, the brain's box plus a margin.

    Parameters
    ----------
    mask : image
        Brain mask of the atlas, in any orientation and voxel size.
    margin : float
        Millimetres around the box of the brain; each side is then extended to a multiple of 16,
        the stride of the U-Net.

    Returns
    -------
    Grid
        Axes along R, A and S, whole-millimetre origin.
    """
    inside = np.argwhere(np.asanyarray(mask.dataobj) > 0)
    if not len(inside):
        raise ValueError("the atlas mask is empty: give an atlas image with a brain in it")
    corners = nb.affines.apply_affine(mask.affine, inside)
    low = np.floor(corners.min(axis=0) - margin)
    high = np.ceil(corners.max(axis=0) + margin)
    size = (high - low + 1).astype(int)
    shape = (np.ceil(size / 16) * 16).astype(int)
    origin = low - (shape - size) // 2
    return Grid(tuple(int(n) for n in shape), nb.affines.from_matvec(np.eye(3), origin))
