"""Which slices of a brain are shown, and how they are laid out on one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nb
import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.resample import resample

if TYPE_CHECKING:
    import SimpleITK as sitk

PLANES = ("sagittal", "coronal", "axial")
"""Names of the planes that are cut along the world's first, second and third axis."""

SLICES = 7
"""Slices of each plane."""

MARGIN = 5.0
"""Millimetres around the brain."""

HEAD = 8
"""Pixels above each row, for where its slices lie."""

OUTERMOST = 0.12
"""Share of the brain's extent that is left out at either end: there is little to see."""


@dataclass(frozen=True)
class Plane:
    """Slices of one plane through the brain, 1 mm in the plane.

    Attributes
    ----------
    name : str
        ``sagittal``, ``coronal`` or ``axial``.
    axis : int
        Number of the world axis along which the slices lie.
    grid : Grid
        The slices, axes along R, A and S.
    """

    name: str
    axis: int
    grid: Grid

    @property
    def places(self) -> list[float]:
        """Where the slices lie along their axis, RAS mm."""
        start, step = self.grid.affine[self.axis, 3], self.grid.affine[self.axis, self.axis]
        return [float(start + step * i) for i in range(self.grid.shape[self.axis])]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        columns, rows = (n for axis, n in enumerate(self.grid.shape) if axis != self.axis)
        return rows, columns

    def tiles(self, values: np.ndarray) -> np.ndarray:
        """Turn values on the grid (X, Y, Z, ...) into pictures (slices, rows, columns, ...).

        Left is left, front is right in sagittal ones, up is superior or anterior.
        """
        across = [axis for axis in range(3) if axis != self.axis]
        order = (self.axis, across[1], across[0], *range(3, values.ndim))
        return values.transpose(order)[:, ::-1]


@dataclass(frozen=True)
class Mosaic:
    """Slices of all planes on one picture: a row for each plane.

    Attributes
    ----------
    planes : tuple of Plane
        The planes, in the order of the rows.
    """

    planes: tuple[Plane, ...]

    @classmethod
    def of(cls, mask: nb.spatialimages.SpatialImage, slices: int = SLICES) -> Mosaic:
        """Choose equally spaced slices through a brain.

        Parameters
        ----------
        mask : image
            Brain mask in any orientation.
        slices : int
            Slices of each plane.

        Raises
        ------
        ValueError
            If the mask is empty.
        """
        inside = np.asanyarray(mask.dataobj) > 0
        columns = np.argwhere(inside.any(axis=2))
        if not len(columns):
            raise ValueError("the brain mask is empty")
        # What lies farthest in any direction is an end of a column.
        lines = inside[tuple(columns.T)]
        ends = lines.argmax(axis=1), lines.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)
        voxels = np.concatenate([np.column_stack([columns, end]) for end in ends])
        corners = nb.affines.apply_affine(mask.affine, voxels)
        low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
        planes = []
        for axis, name in enumerate(PLANES):
            start, end = low - MARGIN, high + MARGIN
            shape, step = (end - start + 1).astype(int), np.ones(3)
            first, last = low[axis], high[axis]
            skipped = OUTERMOST * (last - first)
            shape[axis] = slices
            start[axis] = first + skipped
            step[axis] = (last - first - 2 * skipped) / (slices - 1)
            affine = nb.affines.from_matvec(np.diag(step), start)
            planes.append(Plane(name, axis, Grid(tuple(map(int, shape)), affine)))
        return cls(tuple(planes))

    @property
    def cell(self) -> int:
        """Width of a slice's place on the picture, in pixels of 1 mm."""
        return max(plane.size[1] for plane in self.planes)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture, in pixels of 1 mm."""
        most = max(plane.grid.shape[plane.axis] for plane in self.planes)
        rows = sum(HEAD + plane.size[0] for plane in self.planes)
        return rows, most * self.cell

    def corners(self) -> Iterator[tuple[Plane, int, int, int]]:
        """Give each slice's plane and number, and the row and column of its upper left pixel."""
        top = 0
        for plane in self.planes:
            rows, columns = plane.size
            inset = (self.cell - columns) // 2
            for number in range(plane.grid.shape[plane.axis]):
                yield plane, number, top + HEAD, number * self.cell + inset
            top += HEAD + rows

    def sample(
        self,
        image: nb.spatialimages.SpatialImage,
        transform: np.ndarray | sitk.Transform | None = None,
        *,
        nearest: bool = False,
    ) -> list[np.ndarray]:
        """Interpolate an image once, at the pixels of the slices alone.

        Parameters
        ----------
        image : image
            3-D image.
        transform : (4, 4) array or SimpleITK.Transform, optional
            Maps points of the slices to points of the image; they are the same by default.
        nearest : bool
            Nearest neighbour, for labels.

        Returns
        -------
        list of array
            A stack (slices, rows, columns) for each plane.
        """
        transform = np.eye(4) if transform is None else transform
        found = []
        for plane in self.planes:
            values = resample(image, plane.grid, transform, nearest=nearest)
            found.append(plane.tiles(np.asarray(values.dataobj)))
        return found

    def picture(self, stacks: Sequence[np.ndarray], fill: float = 0.0) -> np.ndarray:
        """Lay the slices out on one picture (rows, columns)."""
        out = np.full(self.shape, fill, dtype=np.float32)
        by_plane = dict(zip((plane.name for plane in self.planes), stacks, strict=True))
        for plane, number, top, left in self.corners():
            tile = by_plane[plane.name][number]
            out[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        return out
