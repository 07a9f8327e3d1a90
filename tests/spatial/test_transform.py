"""Chains of maps: every point goes where ITK takes it."""

import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import write_affine, write_composite, write_field
from vxmprep.spatial.transform import Field, Transform, read_itk

FLIP = np.array([-1.0, -1.0, 1.0])
TURN = Rotation.from_euler("xyz", [12, -20, 31], degrees=True).as_matrix()
AFFINE = from_matvec(TURN @ np.diag([1.1, 0.9, 1.2]), [5.0, -3.0, 2.0])
GRID = Grid((10, 12, 9), from_matvec(TURN.T * [2.0, 1.5, 2.5], [-10.0, -6.0, 4.0]))
POINTS = np.random.default_rng(0).uniform(-30, 30, (400, 3))


@pytest.fixture
def vectors() -> np.ndarray:
    field = np.random.default_rng(1).normal(scale=2, size=(*GRID.shape, 3))
    return field.astype(np.float32)


def by_itk(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(p) for p in (points * FLIP).tolist()]) * FLIP


@pytest.mark.parametrize("first", [True, False])
def test_a_composite_maps_points_as_itk_does_also_beyond_its_field(vectors, first, tmp_path):
    path = tmp_path / "a.h5"
    write_composite(path, affine=AFFINE, displacement=vectors, grid=GRID, field_acts_first=first)
    expected = by_itk(sitk.ReadTransform(str(path)), POINTS)
    assert np.abs(expected - apply_affine(AFFINE, POINTS)).max() > 1
    np.testing.assert_allclose(read_itk(path)(POINTS), expected, atol=1e-5)


def test_a_chain_as_itks_maps_the_same_points(vectors):
    chain = Transform((AFFINE, Field(vectors, GRID), np.linalg.inv(AFFINE)))
    np.testing.assert_allclose(by_itk(chain.as_itk(), POINTS), chain(POINTS), atol=1e-5)


def test_itk_reads_a_field_written_to_nifti(vectors, tmp_path):
    write_field(tmp_path / "warp.nii.gz", vectors, GRID)
    image = sitk.ReadImage(str(tmp_path / "warp.nii.gz"), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(image)
    np.testing.assert_allclose(by_itk(transform, POINTS), Field(vectors, GRID)(POINTS), atol=1e-4)


def test_a_field_that_itk_wrote_to_nifti_is_read(vectors, tmp_path):
    member = sitk.DisplacementFieldTransform(
        sitk.CompositeTransform(Transform((Field(vectors, GRID),)).as_itk()).GetNthTransform(0)
    )
    sitk.WriteImage(member.GetDisplacementField(), str(tmp_path / "w.nii.gz"))
    np.testing.assert_allclose(
        read_itk(tmp_path / "w.nii.gz")(POINTS), Field(vectors, GRID)(POINTS), atol=1e-4
    )


def test_an_affine_keeps_its_centre(tmp_path):
    transform = sitk.Euler3DTransform((4.0, 5.0, 6.0), 0.1, 0.2, -0.3, (7.0, 8.0, 9.0))
    sitk.WriteTransform(transform, str(tmp_path / "a.txt"))
    np.testing.assert_allclose(
        read_itk(tmp_path / "a.txt")(POINTS), by_itk(transform, POINTS), atol=1e-9
    )


def test_displacements_are_what_the_map_adds(vectors):
    chain = Transform((Field(vectors, GRID), AFFINE))
    wanted = Grid((4, 5, 6), from_matvec(np.diag([3.0, 2.0, 2.0]), [-8.0, -4.0, -2.0]))
    moved = chain.displacements(wanted)
    points = wanted.world(np.array([[1, 2, 3], [3, 4, 5]]))
    np.testing.assert_allclose(moved[[1, 3], [2, 4], [3, 5]], chain(points) - points, atol=1e-5)


def test_points_are_reached_where_any_field_of_a_chain_lies():
    small, large = (
        Field(np.zeros((*shape, 3)), Grid(shape, np.eye(4))) for shape in ((4, 4, 4), (40, 40, 40))
    )
    point = np.array([[30.0, 30.0, 30.0]])
    assert not Transform((small,)).reaches(point)
    assert Transform((small,)).reaches(point, 27)
    assert Transform((small, large)).reaches(point)
    assert not Transform((small, np.diag([2.0, 2.0, 2.0, 1.0]), large)).reaches(point)
    assert Transform((np.eye(4),)).reaches(point), "affines have no end"


def test_a_chain_of_affines_can_be_inverted_and_one_with_a_field_not(vectors, tmp_path):
    chain = Transform((AFFINE, np.diag([2.0, 1, 1, 1])))
    np.testing.assert_allclose(chain.inverse()(chain(POINTS)), POINTS, atol=1e-9)
    with pytest.raises(ValueError, match="a file of its own"):
        Transform((Field(vectors, GRID),)).inverse()


@pytest.mark.parametrize("name", ["b.tfm", "b.nii.gz"])
def test_what_is_no_affine_or_field_is_refused(name, tmp_path):
    path = tmp_path / name
    if name == "b.tfm":
        sitk.WriteTransform(sitk.BSplineTransform(3), str(path))
    else:
        sitk.WriteImage(sitk.Image(5, 5, 5, sitk.sitkFloat32), str(path))
    with pytest.raises(ValueError, match=name):
        read_itk(path)


def test_a_written_affine_is_read(tmp_path):
    write_affine(tmp_path / "a.txt", AFFINE)
    np.testing.assert_allclose(read_itk(tmp_path / "a.txt").affine, AFFINE, atol=1e-9)


@pytest.mark.parametrize("shape", [(3,), (5, 2), (2, 2, 3)])
def test_what_are_no_points_is_named(shape):
    with pytest.raises(ValueError, match=r"points: of shape \(.*; give \(n, 3\), RAS mm"):
        Transform((AFFINE,))(np.zeros(shape))
