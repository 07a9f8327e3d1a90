"""The Jacobian determinant: closed forms, numpy.gradient, and any orientation of the grid."""

import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import from_matvec
from scipy import ndimage
from scipy.spatial.transform import Rotation

from vxmprep.evaluation.folding import folding, jacobian_determinant
from vxmprep.evaluation.report import folding_summary
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import read_transform, write_composite

LIA = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
OBLIQUE = Rotation.from_euler("xyz", [25, -40, 60], degrees=True).as_matrix()
AXES = {"RAS": np.eye(3), "LAS": np.diag([-1.0, 1, 1]), "LIA": LIA, "oblique": OBLIQUE @ LIA}
SLOPE = np.array([[0.10, 0.35, -0.05], [-0.20, -0.15, 0.30], [0.25, 0.05, 0.20]])
ANY_AFFINE = from_matvec(np.diag([1.2, 0.9, 1.1]), [30.0, -20.0, 10.0])


def grid_of(axes: np.ndarray, n: int = 14, spacing=(1.0, 1.5, 2.0)) -> Grid:
    matrix = axes * np.array(spacing)
    return Grid((n, n + 1, n + 2), from_matvec(matrix, -matrix @ np.full(3, n / 2)))


def places(grid: Grid) -> np.ndarray:
    return grid.world(np.argwhere(np.ones(grid.shape))).reshape(*grid.shape, 3)


def written(path, displacement: np.ndarray, grid: Grid, *, first: bool = True) -> sitk.Transform:
    write_composite(
        path, affine=ANY_AFFINE, displacement=displacement, grid=grid, field_acts_first=first
    )
    return read_transform(path)


@pytest.mark.parametrize("field_axes", ["RAS", "oblique"])
@pytest.mark.parametrize("axes", AXES)
def test_a_linear_displacement_has_the_determinant_of_its_matrix(axes, field_axes, tmp_path):
    grid, field_grid = grid_of(AXES[axes], 8), grid_of(AXES[field_axes], 40)
    transform = written(tmp_path / "x.h5", places(field_grid) @ SLOPE.T, field_grid)
    found = np.asarray(jacobian_determinant(transform, grid).dataobj)
    expected = np.linalg.det(np.eye(3) + SLOPE)
    # Without regard to the orientation it would not be: the slope has no symmetry.
    assert abs(np.linalg.det(np.eye(3) + LIA @ SLOPE) - expected) > 0.1
    np.testing.assert_allclose(found[1:-1, 1:-1, 1:-1], expected, rtol=1e-4)


@pytest.mark.parametrize("axes", AXES)
def test_a_random_smooth_field_has_the_determinant_of_numpys_gradient(axes, tmp_path):
    grid = grid_of(AXES[axes], 20)
    noise = np.random.default_rng(0).standard_normal((3, *grid.shape))
    smooth = np.stack([ndimage.gaussian_filter(c, 3) for c in noise], axis=-1)
    # On a grid of steps that float32 holds.
    displacement = np.round(3000 * smooth) / 256
    transform = written(tmp_path / "x.h5", displacement, grid)
    found = np.asarray(jacobian_determinant(transform, grid).dataobj)

    along = np.stack(np.gradient(displacement, axis=(0, 1, 2)), axis=-1)
    jacobian = np.eye(3) + along @ np.linalg.inv(grid.affine[:3, :3])
    expected = np.linalg.det(jacobian)[1:-1, 1:-1, 1:-1]
    assert expected.std() > 0.05
    np.testing.assert_allclose(found[1:-1, 1:-1, 1:-1], expected, atol=1e-4)


def test_the_affine_has_no_part_in_it(tmp_path):
    grid = grid_of(AXES["LAS"])
    for first in (True, False):
        transform = written(tmp_path / "x.h5", np.zeros((*grid.shape, 3)), grid, first=first)
        np.testing.assert_allclose(np.asarray(jacobian_determinant(transform, grid).dataobj), 1)


def test_it_is_above_1_where_the_scan_is_larger(tmp_path):
    grid = grid_of(AXES["RAS"])
    transform = written(tmp_path / "x.h5", 0.1 * places(grid), grid)
    assert np.asarray(jacobian_determinant(transform, grid).dataobj)[7, 7, 7] > 1.3


def test_it_lies_on_the_grid_asked_for(tmp_path):
    grid, other = grid_of(AXES["RAS"]), grid_of(AXES["LIA"], 9)
    transform = written(tmp_path / "x.h5", np.zeros((*grid.shape, 3)), grid)
    found = jacobian_determinant(transform, other)
    assert found.shape == other.shape
    np.testing.assert_array_equal(found.affine, other.affine)


def test_a_mirrored_axis_folds_every_voxel(tmp_path):
    grid = grid_of(AXES["oblique"])
    transform = written(tmp_path / "x.h5", places(grid) * [-2.0, 0, 0], grid)
    values = np.asarray(jacobian_determinant(transform, grid).dataobj)[2:-2, 2:-2, 2:-2]
    assert folding(values, np.ones(values.shape, bool)).percent == 100


def test_folding_counts_determinants_of_0_and_less_inside_the_mask():
    values = np.array([[[-1.0, 0.0, 0.5, 2.0, -3.0]]])
    found = folding(values, np.array([[[True, True, True, True, False]]]))
    assert (found.folded, found.voxels) == (2, 4)
    assert (found.lowest, found.highest) == (-1.0, 2.0)
    assert found.percent == 50


def test_the_summary_of_folding_holds_its_denominator():
    found = folding(np.array([[[-0.5, 1.0, 1.25, 1.5]]]), np.ones((1, 1, 4), bool))
    assert folding_summary(found) == {
        "FoldedVoxels": 1,
        "MaskVoxels": 4,
        "FoldedPercent": 25.0,
        "JacobianMin": -0.5,
        "JacobianMax": 1.5,
    }


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="mask is empty"):
        folding(np.ones((2, 2, 2)), np.zeros((2, 2, 2), bool))
