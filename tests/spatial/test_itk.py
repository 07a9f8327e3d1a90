"""ITK's files and images: SimpleITK must find every point where we say it is."""

import nibabel as nb
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import (
    affine_members,
    field_member,
    from_sitk,
    read_affine,
    read_transform,
    to_sitk,
    write_affine,
    write_composite,
)

FLIP = np.array([-1.0, -1.0, 1.0])
OBLIQUE = Rotation.from_euler("xyz", [20, -13, 35], degrees=True).as_matrix()
AXES = {
    "RAS": np.eye(3),
    "LAS": np.diag([-1.0, 1.0, 1.0]),
    "LIA": np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "oblique": OBLIQUE,
    "oblique LIA": OBLIQUE @ np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}
SHAPE = (9, 11, 13)
AFFINE = from_matvec(
    Rotation.from_euler("xyz", [5, 12, -8], degrees=True).as_matrix() @ np.diag([1.1, 0.9, 1.05]),
    [31.0, -22.0, 14.0],
)
SLOPE = np.array([[0.02, 0.01, -0.03], [0.0, -0.04, 0.02], [0.03, 0.01, 0.01]])
SHIFT = np.array([1.5, -2.5, 0.75])


def grid_of(axes: np.ndarray, shape: tuple[int, ...] = SHAPE) -> Grid:
    matrix = axes * np.array([2.0, 1.5, 3.0])
    centre = np.array([12.0, -7.0, 25.0])
    return Grid(shape, from_matvec(matrix, centre - matrix @ (np.array(shape) - 1) / 2))


def voxels(grid: Grid) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3)


def linear_field(grid: Grid) -> np.ndarray:
    """A displacement that is linear in the world, which interpolation leaves exact."""
    return (grid.world(voxels(grid)) @ SLOPE.T + SHIFT).reshape(*grid.shape, 3)


def points_inside(grid: Grid) -> np.ndarray:
    generator = np.random.default_rng(0)
    return grid.world(generator.uniform(1, np.array(grid.shape) - 2, size=(40, 3)))


def by_itk(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(p) for p in (points * FLIP).tolist()]) * FLIP


def write(path, grid: Grid, field: np.ndarray, *, first: bool = True):
    write_composite(path, affine=AFFINE, displacement=field, grid=grid, field_acts_first=first)
    return path


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES.keys())
def test_itk_displaces_a_point_and_then_maps_it_by_the_affine(axes, tmp_path):
    grid = grid_of(axes)
    transform = sitk.ReadTransform(str(write(tmp_path / "x.h5", grid, linear_field(grid))))
    points = points_inside(grid)
    expected = apply_affine(AFFINE, points + points @ SLOPE.T + SHIFT)
    np.testing.assert_allclose(by_itk(transform, points), expected, atol=1e-5)


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES.keys())
def test_itk_maps_a_point_by_the_affine_and_then_displaces_it_in_the_other_order(axes, tmp_path):
    grid = grid_of(axes)
    path = write(tmp_path / "x.h5", grid, linear_field(grid), first=False)
    reached = points_inside(grid)
    points = apply_affine(np.linalg.inv(AFFINE), reached)
    expected = reached + reached @ SLOPE.T + SHIFT
    np.testing.assert_allclose(by_itk(sitk.ReadTransform(str(path)), points), expected, atol=1e-5)


def test_a_float32_field_reads_back_to_the_bit(tmp_path):
    grid = grid_of(AXES["oblique"])
    field = np.random.default_rng(1).normal(size=(*SHAPE, 3)).astype(np.float32)
    transform = sitk.CompositeTransform(
        sitk.ReadTransform(str(write(tmp_path / "x.h5", grid, field)))
    )
    members = [transform.GetNthTransform(i) for i in range(transform.GetNumberOfTransforms())]
    stored = [m for m in members if m.GetTransformEnum() == sitk.sitkDisplacementField]
    image = sitk.DisplacementFieldTransform(stored[0]).GetDisplacementField()
    read = sitk.GetArrayFromImage(image).transpose(2, 1, 0, 3) * FLIP
    np.testing.assert_array_equal(read, field.astype(float))


def test_the_field_lies_where_its_grid_lies(tmp_path):
    grid = grid_of(AXES["oblique LIA"])
    field = np.zeros((*SHAPE, 3))
    field[3, 4, 5] = 7.0
    transform = sitk.ReadTransform(str(write(tmp_path / "x.h5", grid, field)))
    places = grid.world(np.array([[3, 4, 5], [4, 4, 5], [3, 3, 5]]))
    moved = apply_affine(np.linalg.inv(AFFINE), by_itk(transform, places)) - places
    np.testing.assert_allclose(moved, [[7.0] * 3, [0.0] * 3, [0.0] * 3], atol=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_a_composite_has_two_members(first, tmp_path):
    grid = grid_of(AXES["LAS"])
    path = write(tmp_path / "x.h5", grid, linear_field(grid), first=first)
    transform = sitk.CompositeTransform(sitk.ReadTransform(str(path)))
    kinds = [transform.GetNthTransform(i).GetTransformEnum() for i in range(2)]
    assert transform.GetNumberOfTransforms() == 2
    # ITK applies the last member to a point first.
    assert kinds.index(sitk.sitkDisplacementField) == (1 if first else 0)


def test_a_smooth_field_is_stored_compressed(tmp_path):
    grid = grid_of(AXES["RAS"], (32, 32, 32))
    centre = (grid.world(voxels(grid)) - [12, -7, 25]).reshape(*grid.shape, 3)
    field = np.round(256 * np.exp(-((centre / 20) ** 2).sum(-1, keepdims=True)) * [1, 2, 3]) / 256
    path = write(tmp_path / "x.h5", grid, field)
    assert path.stat().st_size < field.size * 4 / 2


def test_a_written_affine_maps_points_as_itk_does(tmp_path):
    write_affine(tmp_path / "x.txt", AFFINE)
    points = np.random.default_rng(2).uniform(-80, 80, size=(20, 3))
    transform = sitk.ReadTransform(str(tmp_path / "x.txt"))
    np.testing.assert_allclose(by_itk(transform, points), apply_affine(AFFINE, points), atol=1e-9)


def test_an_affine_of_itk_with_a_centre_is_read_as_it_maps_points(tmp_path):
    transform = sitk.AffineTransform(3)
    transform.SetCenter((11.0, -20.0, 33.0))
    transform.SetMatrix([1.1, 0.1, 0.0, -0.2, 0.9, 0.1, 0.0, 0.05, 1.2])
    transform.SetTranslation((4.0, 5.0, -6.0))
    sitk.WriteTransform(transform, str(tmp_path / "x.txt"))
    points = np.random.default_rng(3).uniform(-80, 80, size=(20, 3))
    matrix = read_affine(tmp_path / "x.txt")
    np.testing.assert_allclose(apply_affine(matrix, points), by_itk(transform, points), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    scales=st.tuples(*[st.floats(0.5, 2)] * 3),
    shift=st.tuples(*[st.floats(-300, 300)] * 3),
)
def test_an_affine_survives_writing_and_reading(angles, scales, shift, tmp_path_factory):
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix = from_matvec(rotation @ np.diag(scales), shift)
    path = tmp_path_factory.mktemp("affine") / "x.txt"
    write_affine(path, matrix)
    np.testing.assert_allclose(read_affine(path), matrix, atol=1e-9)


def test_affine_members_leave_the_field_out(tmp_path):
    grid = grid_of(AXES["LIA"])
    transform = read_transform(write(tmp_path / "x.h5", grid, linear_field(grid)))
    points = points_inside(grid)
    np.testing.assert_allclose(
        by_itk(affine_members(transform), points), apply_affine(AFFINE, points), atol=1e-9
    )


def test_affine_members_of_a_field_alone_are_the_identity():
    field = sitk.DisplacementFieldTransform(sitk.Image([4, 4, 4], sitk.sitkVectorFloat64))
    assert affine_members(field).TransformPoint((1.0, 2.0, 3.0)) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("first", [True, False])
def test_the_field_member_is_the_displacement_alone(first, tmp_path):
    grid = grid_of(AXES["oblique"])
    path = write(tmp_path / "x.h5", grid, linear_field(grid), first=first)
    points = points_inside(grid)
    moved = by_itk(field_member(read_transform(path)), points)
    np.testing.assert_allclose(moved, points + points @ SLOPE.T + SHIFT, atol=1e-5)


def test_an_affine_has_no_field_member():
    with pytest.raises(ValueError, match="no displacement field"):
        field_member(sitk.AffineTransform(3))


@pytest.mark.parametrize("content", [b"", b"not a transform\n"])
def test_a_file_that_is_no_transform_is_named(content, tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.h5: ITK cannot read this") as caught:
        read_transform(path)
    assert "\n" not in str(caught.value)


def test_a_transform_of_a_plane_is_named(tmp_path):
    sitk.WriteTransform(sitk.AffineTransform(2), str(tmp_path / "flat.txt"))
    with pytest.raises(ValueError, match=r"flat\.txt: of 2 dimensions; give one of 3"):
        read_transform(tmp_path / "flat.txt")


def test_a_field_is_not_read_as_an_affine(tmp_path):
    grid = grid_of(AXES["RAS"])
    path = write(tmp_path / "x.h5", grid, linear_field(grid), first=False)
    with pytest.raises(ValueError, match="not an affine"):
        read_affine(path)


orientations = st.sampled_from(sorted(AXES))
spacings = st.tuples(*[st.floats(0.3, 4)] * 3)
origins = st.tuples(*[st.floats(-200, 200)] * 3)
turns = st.tuples(*[st.floats(-40, 40)] * 3)


@settings(max_examples=60, deadline=None)
@given(axes=orientations, spacing=spacings, origin=origins, turn=turns)
def test_itk_sees_every_voxel_of_an_image_at_its_place(axes, spacing, origin, turn):
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    affine = from_matvec(rotation @ AXES[axes] * np.array(spacing), origin)
    data = np.random.default_rng(4).integers(0, 2000, size=(3, 4, 5)).astype(np.int16)
    image = to_sitk(nb.Nifti1Image(data, affine))
    for index in ((0, 0, 0), (2, 0, 0), (0, 3, 0), (0, 0, 4), (2, 3, 1)):
        place = np.array(image.TransformIndexToPhysicalPoint(index)) * FLIP
        np.testing.assert_allclose(place, apply_affine(affine, index), atol=1e-8)
        assert image.GetPixel(index) == data[index]


@settings(max_examples=60, deadline=None)
@given(axes=orientations, spacing=spacings, origin=origins, turn=turns)
def test_an_image_comes_back_from_itk_with_its_affine_and_voxels(axes, spacing, origin, turn):
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    affine = from_matvec(rotation @ AXES[axes] * np.array(spacing), origin)
    data = np.random.default_rng(5).normal(size=(3, 4, 5)).astype(np.float32)
    back = from_sitk(to_sitk(nb.Nifti1Image(data, affine)))
    np.testing.assert_allclose(back.affine, affine, atol=1e-8)
    np.testing.assert_array_equal(np.asarray(back.dataobj), data)


def test_itk_reads_a_nifti_file_where_we_see_it(tmp_path):
    affine = from_matvec(AXES["oblique LIA"] * np.array([1.0, 1.25, 2.0]), [30.0, -40.0, 50.0])
    data = np.random.default_rng(6).integers(0, 200, size=(6, 5, 4)).astype(np.int16)
    image = nb.Nifti1Image(data, affine)
    nb.save(image, tmp_path / "x.nii")
    ours, theirs = to_sitk(image), sitk.ReadImage(str(tmp_path / "x.nii"))
    np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(ours.GetSpacing(), theirs.GetSpacing(), atol=1e-4)
    np.testing.assert_allclose(ours.GetDirection(), theirs.GetDirection(), atol=1e-5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
