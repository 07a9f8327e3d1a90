"""Transforms as what they do to points: affines and displacement fields, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nibabel.affines import apply_affine, from_matvec

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import (
    LPS,
    as_itk_affine,
    flattened,
    itk_frame,
    matrix_of,
    read_field,
    read_transform,
)

if TYPE_CHECKING:
    import SimpleITK as sitk

FLIP = np.diag(LPS)[:3]
BLOCK = 2**20
"""Points that are mapped at a time."""


@dataclass(frozen=True, eq=False)
class Field:
    """A displacement field.

    Attributes
    ----------
    displacement : (X, Y, Z, 3) array
        Displacement at each voxel of `grid` along R, A, S in mm; linear between the voxels, zero
        beyond the outer voxels' edges, as in ITK.
    grid : Grid
        Where the voxels lie.
    """

    displacement: np.ndarray
    grid: Grid

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Map points (n, 3), RAS mm."""
        from scipy.ndimage import map_coordinates

        inside = self.covers(points)
        moved = np.array(points, dtype=float)
        where = self.grid.indices(points)[inside].T
        for axis in range(3):
            values = self.displacement[..., axis]
            moved[inside, axis] += map_coordinates(
                values, where, output=float, order=1, mode="nearest"
            )
        return moved

    def covers(self, points: np.ndarray, room: float = 0.0) -> np.ndarray:
        """Say which points (n, 3), RAS mm, lie within the outer voxels' edges and `room` mm."""
        indices, edge = self.grid.indices(points), 0.5 + room / self.grid.spacing
        return ((indices >= -edge) & (indices < np.array(self.grid.shape) - 1 + edge)).all(axis=1)


@dataclass(frozen=True, eq=False)
class Transform:
    """A chain of maps of points, world to world.

    Attributes
    ----------
    members : tuple of (4, 4) arrays and Field
        The first acts on a point first. What resamples an image maps points of the grid wanted
        to points of the image.

    Examples
    --------
    >>> shift = np.eye(4)
    >>> shift[0, 3] = 2.0
    >>> Transform((shift, np.diag([3.0, 1.0, 1.0, 1.0])))(np.array([[1.0, 0.0, 0.0]]))
    array([[9., 0., 0.]])
    """

    members: tuple[np.ndarray | Field, ...]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Map points (n, 3), RAS mm."""
        if np.ndim(points) != 2 or np.shape(points)[1] != 3:
            raise ValueError(f"points: of shape {np.shape(points)}; give (n, 3), RAS mm")
        out = np.empty(np.shape(points))
        for start in range(0, len(out), BLOCK):
            block = np.asarray(points[start : start + BLOCK], dtype=float)
            for member in self.members:
                block = member(block) if isinstance(member, Field) else apply_affine(member, block)
            out[start : start + BLOCK] = block
        return out

    def then(self, other: Transform) -> Transform:
        """Give the chain in which `other` acts after this one."""
        return Transform(self.members + other.members)

    def reaches(self, points: np.ndarray, room: float = 0) -> bool:
        """Tell whether any point (n, 3), RAS mm, comes to within `room` mm of a field.

        Affines have no end: without a field every point is reached.
        """
        fields = [i for i, member in enumerate(self.members) if isinstance(member, Field)]
        return not fields or any(
            self.members[i].covers(Transform(self.members[:i])(points), room).any() for i in fields
        )

    @property
    def affine(self) -> np.ndarray | None:
        """The product of all members (4, 4), None if one of them is a field."""
        product = np.eye(4)
        for member in self.members:
            if isinstance(member, Field):
                return None
            product = member @ product
        return product

    def inverse(self) -> Transform:
        """Give the inverse of a chain of affines.

        Raises
        ------
        ValueError
            If a member is a field.
        """
        if self.affine is None:
            raise ValueError("holds a displacement field, whose inverse is a file of its own")
        return Transform((np.linalg.inv(self.affine),))

    def deformable(self) -> Transform:
        """Give the chain without its affines."""
        return Transform(tuple(m for m in self.members if isinstance(m, Field)))

    def displacements(self, grid: Grid) -> np.ndarray:
        """Give the whole map as displacements (X, Y, Z, 3) at a grid's voxels, RAS mm, float32."""
        out = np.empty((*grid.shape, 3), np.float32)
        for k, (_, points) in enumerate(grid.planes()):
            out[:, :, k] = (self(points) - points).reshape(*grid.shape[:2], 3)
        return out

    def as_itk(self) -> sitk.CompositeTransform:
        """Give the chain as an ITK transform."""
        import SimpleITK as sitk

        # ITK applies the last member first.
        chain = sitk.CompositeTransform(3)
        for member in reversed(self.members):
            chain.AddTransform(
                _itk_field(member) if isinstance(member, Field) else as_itk_affine(member)
            )
        return chain


def read_itk(path: str | Path) -> Transform:
    """Read an ITK transform (.h5, .txt, .mat, .tfm) or a displacement field (NIfTI, 5-D vector).

    Parameters
    ----------
    path : path
        Composite of affines and displacement fields, or one of them.

    Raises
    ------
    ValueError
        If it is none, or holds a transform of another kind, such as a B-spline.
    """
    import SimpleITK as sitk

    if str(path).endswith((".nii", ".nii.gz")):
        return Transform((Field(*read_field(path)),))
    members = []
    for member in reversed(flattened(read_transform(path))):
        if member.GetTransformEnum() == sitk.sitkDisplacementField:
            members.append(_own_field(sitk.DisplacementFieldTransform(member)))
        elif member.IsLinear():
            members.append(matrix_of(member))
        else:
            raise ValueError(
                f"{path}: holds a {member.GetName()}; only affines and displacement fields can be "
                "read"
            )
    return Transform(tuple(members))


def _own_field(transform: sitk.DisplacementFieldTransform) -> Field:
    import SimpleITK as sitk

    image = transform.GetDisplacementField()
    matrix = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    grid = Grid(image.GetSize(), LPS @ from_matvec(matrix, image.GetOrigin()))
    data = sitk.GetArrayViewFromImage(image).transpose(2, 1, 0, 3) * FLIP
    return Field(data.astype(np.float32), grid)


def _itk_field(field: Field) -> sitk.DisplacementFieldTransform:
    import SimpleITK as sitk

    vectors = (field.displacement * FLIP).transpose(2, 1, 0, 3).astype(np.float64)
    image = sitk.GetImageFromArray(vectors, isVector=True)
    direction, spacing, origin = itk_frame(field.grid)
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(origin.tolist())
    return sitk.DisplacementFieldTransform(image)
