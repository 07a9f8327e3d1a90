"""ITK images and transform files.

The only place that knows LPS: everything that enters or leaves these functions is RAS+ mm.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import nibabel as nb
import numpy as np

from vxmprep.spatial.files import replacing, there
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.opening import open_series

if TYPE_CHECKING:
    import SimpleITK as sitk

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS to LPS and back."""


def to_sitk(image: nb.spatialimages.SpatialImage, dtype: type | None = None) -> sitk.Image:
    """Give a nibabel image as a SimpleITK image in the same place of the world.

    Parameters
    ----------
    image : image
        3-D image, world in RAS mm.
    dtype : numpy type, optional
        Type of the voxels; by default the image's own.
    """
    import SimpleITK as sitk

    data = np.asarray(image.dataobj, dtype=dtype)
    if data.dtype == bool or data.dtype == np.float16:
        data = data.astype(np.uint8 if data.dtype == bool else np.float32)
    out = sitk.GetImageFromArray(data.T)
    direction, spacing, origin = itk_frame(Grid.of(image))
    out.SetDirection(direction.ravel().tolist())
    out.SetSpacing(spacing.tolist())
    out.SetOrigin(origin.tolist())
    return out


def from_sitk(image: sitk.Image) -> nb.Nifti1Image:
    """Give a SimpleITK image as a nibabel image in the same place of the world."""
    import SimpleITK as sitk

    matrix = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = LPS @ nb.affines.from_matvec(matrix, np.array(image.GetOrigin()))
    return nb.Nifti1Image(sitk.GetArrayFromImage(image).T, affine)


def as_itk_affine(matrix: np.ndarray) -> sitk.AffineTransform:
    """Give a 4 x 4 matrix (points to points, RAS mm) as an ITK transform."""
    import SimpleITK as sitk

    lps = LPS @ matrix @ LPS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    return transform


def read_transform(path: str | Path) -> sitk.Transform:
    """Read any ITK transform file.

    Raises
    ------
    ValueError
        If there is no such file, ITK cannot read it, or it is not of three dimensions.
    """
    import SimpleITK as sitk

    there(path)  # ITK would print how its libraries found out
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise ValueError(
            f"{path}: ITK cannot read this as a transform; give .h5, .txt, .mat or .tfm of ITK, "
            "vxmprep-convert writes them"
        ) from error
    if transform.GetDimension() != 3:
        raise ValueError(f"{path}: of {transform.GetDimension()} dimensions; give one of 3")
    return transform


def affine_members(transform: sitk.Transform) -> sitk.CompositeTransform:
    """Give a composite without its displacement fields."""
    import SimpleITK as sitk

    members = flattened(transform)
    kept = [m for m in members if m.GetTransformEnum() != sitk.sitkDisplacementField]
    return sitk.CompositeTransform(kept or [sitk.Transform(3, sitk.sitkIdentity)])


def field_member(transform: sitk.Transform) -> sitk.Transform:
    """Give the displacement field of a composite, by itself; of several, their composite."""
    import SimpleITK as sitk

    members = flattened(transform)
    fields = [m for m in members if m.GetTransformEnum() == sitk.sitkDisplacementField]
    if not fields:
        raise ValueError("the transform holds no displacement field")
    return fields[0] if len(fields) == 1 else sitk.CompositeTransform(fields)


def write_affine(path: str | Path, affine: np.ndarray) -> None:
    """Write a 4 x 4 matrix (points to points, RAS mm) as an ITK text transform."""
    import SimpleITK as sitk

    with replacing(path) as temporary:
        sitk.WriteTransform(as_itk_affine(affine), str(temporary))


def read_affine(path: str | Path) -> np.ndarray:
    """Read an ITK affine (text or .mat) as a 4 x 4 matrix, points to points, RAS mm.

    Raises
    ------
    ValueError
        If the file is no transform, or not of affines alone.
    """
    product = np.eye(4)
    for member in flattened(read_transform(path)):
        if not member.IsLinear():
            raise ValueError(f"{path}: not an affine alone; give the affine's own file")
        product = product @ matrix_of(member)
    return product


def flattened(transform: sitk.Transform) -> list[sitk.Transform]:
    """Give the members of a composite, of composites in it too; the last one acts first."""
    import SimpleITK as sitk

    if transform.GetTransformEnum() != sitk.sitkComposite:
        return [transform]
    composite = sitk.CompositeTransform(transform)
    members = [composite.GetNthTransform(i) for i in range(composite.GetNumberOfTransforms())]
    return [each for member in members for each in flattened(member)]


def matrix_of(transform: sitk.Transform) -> np.ndarray:
    """Give a linear transform as a 4 x 4 matrix, points to points, RAS mm."""
    offset = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(e))) - offset for e in np.eye(3)]
    return LPS @ nb.affines.from_matvec(np.stack(columns, 1), offset) @ LPS


def write_composite(
    path: str | Path,
    *,
    affine: np.ndarray,
    displacement: np.ndarray,
    grid: Grid,
    field_acts_first: bool,
) -> None:
    """Write an affine and a displacement field as an ITK composite transform (.h5).

    SimpleITK refuses to write single precision and does not compress, so the file is laid out
    here as ``itk::HDF5TransformIO`` lays it out; ITK applies the last member to a point first.

    Parameters
    ----------
    path : path
        File to write.
    affine : (4, 4) array
        Points to points, RAS mm.
    displacement : (X, Y, Z, 3) array
        Displacement in mm along R, A, S at each voxel of `grid`.
    grid : Grid
        Grid of the field.
    field_acts_first : bool
        Whether a point is displaced and then mapped by the affine (atlas to scan), or the other
        way round (scan to atlas).
    """
    linear = np.array(as_itk_affine(affine).GetParameters())
    members = [
        ("AffineTransform_double_3_3", np.zeros(3), linear),
        ("DisplacementFieldTransform_float_3_3", *_field_parameters(displacement, grid)),
    ]
    if not field_acts_first:
        members.reverse()
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        _write_text(file, "ITKVersion", "5.4.0")
        _write_text(file, "HDFVersion", h5py.version.hdf5_version)
        group = file.create_group("TransformGroup")
        _write_text(group.create_group("0"), "TransformType", "CompositeTransform_double_3_3")
        for number, (kind, fixed, parameters) in enumerate(members, start=1):
            member = group.create_group(str(number))
            _write_text(member, "TransformType", kind)
            member.create_dataset("TransformFixedParameters", data=fixed)
            member.create_dataset(
                "TransformParameters", data=parameters, **_compression(parameters)
            )


def write_field(path: str | Path, displacement: np.ndarray, grid: Grid) -> None:
    """Write a displacement field as ITK's NIfTI: five axes, vectors along L, P and S in mm.

    Parameters
    ----------
    path : path
        ``.nii`` or ``.nii.gz``.
    displacement : (X, Y, Z, 3) array
        Displacement in mm along R, A, S at each voxel of `grid`.
    grid : Grid
        Grid of the field.
    """
    vectors = (displacement * np.diag(LPS)[:3]).astype(np.float32)
    image = nb.Nifti1Image(vectors[:, :, :, None], None)
    image.header.set_intent("vector")
    image.header.set_xyzt_units("mm")
    image.set_sform(grid.affine, code="scanner")
    image.set_qform(grid.affine, code="scanner")
    with replacing(path) as temporary:
        image.to_filename(temporary)


def read_field(path: str | Path) -> tuple[np.ndarray, Grid]:
    """Read a displacement field as ITK and ANTs write it to NIfTI.

    Returns
    -------
    tuple
        Displacement (X, Y, Z, 3) along R, A, S in mm, float32, and its grid.

    Raises
    ------
    ValueError
        If the file is no image, or one without vectors.
    """
    image = open_series(path)
    if image.shape[3:] != (1, 3):
        raise ValueError(
            f"{path}: not a displacement field of ITK, whose five axes end with 1 and 3, but "
            f"{'x'.join(map(str, image.shape))}; vxmprep-convert writes one, of FSL's too"
        )
    vectors = np.asarray(image.dataobj, dtype=np.float32)[:, :, :, 0]
    return vectors * np.diag(LPS)[:3].astype(np.float32), Grid.of(image)


def itk_frame(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give direction (3, 3), spacing (3,) and origin (3,) of a grid as ITK has them, LPS mm."""
    affine = LPS @ grid.affine
    spacing = grid.spacing
    return affine[:3, :3] / spacing, spacing, affine[:3, 3]


def _field_parameters(displacement: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    direction, spacing, origin = itk_frame(grid)
    fixed = np.concatenate([grid.shape, origin, spacing, direction.ravel()]).astype(float)
    vectors = displacement * np.diag(LPS)[:3]
    # ITK runs through x fastest and keeps the three components of a voxel together.
    return fixed, vectors.transpose(2, 1, 0, 3).astype(np.float32).ravel()


def _compression(parameters: np.ndarray) -> dict:
    if parameters.size < 1000:
        return {}
    chunk = min(parameters.size, 3 * 2**16)
    return {"chunks": (chunk,), "compression": "gzip", "compression_opts": 4, "shuffle": True}


def _write_text(group: h5py.Group, name: str, text: str) -> None:
    kind = h5py.string_dtype(encoding="ascii")
    group.create_dataset(name, data=np.array([text], dtype=object), dtype=kind)
