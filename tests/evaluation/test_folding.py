"""The Jacobian determinant: closed forms, numpy.gradient, and any orientation of the grid."""

import nibabel as nb
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import from_matvec
from scipy import ndimage
from scipy.spatial.transform import Rotation

from vxmprep.evaluation import folding as folding_module
from vxmprep.evaluation.folding import (
    displacement_in_voxels,
    folding,
    inverse_consistency,
    jacobian_determinant,
    learn2reg_sdlogj,
    non_diffeomorphic_volume,
)
from vxmprep.evaluation.report import folding_summary
from vxmprep.spatial import jacobian
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
        "JacobianPercentiles": {
            "1": -0.455, "5": -0.275, "25": 0.625, "50": 1.125, "75": 1.3125, "95": 1.4625,
            "99": 1.4925,
        },
        "SDlogJ": 0.1658,
    }  # fmt: skip


def test_smoothness_is_that_of_positive_determinants_inside_the_mask():
    values = np.array([[[0.5, 2.0, -1.0, 7.0]]])
    found = folding(values, np.array([[[True, True, True, False]]]))
    assert found.sdlogj == pytest.approx(np.log(2))


def test_smoothness_as_learn2reg_measures_it():
    # Its evaluation: correlate with (-1/2, 0, 1/2), crop by 2, log of the determinant plus 3.
    shape = (12, 13, 14)
    noise = np.random.default_rng(1).standard_normal((3, *shape))
    field = np.stack([4 * ndimage.gaussian_filter(c, 2) for c in noise])
    slopes = np.stack(
        [
            [ndimage.correlate1d(c, [-0.5, 0, 0.5], axis=axis, mode="constant") for c in field]
            for axis in range(3)
        ]
    )
    jacobian = slopes.transpose(2, 3, 4, 0, 1) + np.eye(3)
    determinant = np.linalg.det(jacobian)
    inner = determinant[2:-2, 2:-2, 2:-2]
    expected = np.log((inner + 3).clip(1e-9, 1e9)).std()
    assert learn2reg_sdlogj(determinant) == pytest.approx(expected)
    assert expected > 0.01


def tetrahedra_of_cubes(points: np.ndarray) -> float:
    """Sum the reversed volume of the five tetrahedra of every cube, in both divisions, halved.

    Independent of the code under test: it goes from cube to cube, not from voxel to voxel.
    """
    corners = np.array(list(np.ndindex(2, 2, 2)))
    total = 0.0
    for parity in (0, 1):
        odd = [c for c in corners if c.sum() % 2 == parity]
        even = [c for c in corners if c.sum() % 2 != parity]
        pieces = [np.array(odd)]  # the middle one, and four at the corners that it leaves
        pieces += [np.array([c, *[o for o in odd if np.abs(o - c).sum() == 1]]) for c in even]
        for piece in pieces:
            sign = np.sign(np.linalg.det((piece[1:] - piece[0]).astype(float)))
            shape = np.array(points.shape[1:]) - 1
            at = [
                points[:, *(slice(int(o), int(o + n)) for o, n in zip(c, shape, strict=True))]
                for c in piece
            ]
            edges = np.stack([a - at[0] for a in at[1:]], axis=-1)
            volume = sign * np.linalg.det(np.moveaxis(edges, 0, -2)) / 6
            total -= volume[volume < 0].sum()
    return total / 2


def test_the_volume_turned_inside_out_is_that_of_the_tetrahedra_of_all_cubes():
    shape = (14, 13, 12)
    noise = np.random.default_rng(2).standard_normal((3, *shape))
    field = np.stack([16 * ndimage.gaussian_filter(c, 1.2) for c in noise])
    # Still at the border: tetrahedra there belong to voxels that do not count.
    still = np.zeros(shape)
    still[3:-3, 3:-3, 3:-3] = 1
    field *= still
    points = field + np.indices(shape)
    expected = tetrahedra_of_cubes(points)
    found = non_diffeomorphic_volume(field.astype(np.float32), np.ones(shape, bool))
    assert expected > 1
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_smooth_map_turns_nothing_inside_out():
    shape = (10, 10, 10)
    assert non_diffeomorphic_volume(0.3 * np.indices(shape), np.ones(shape, bool)) == 0
    assert non_diffeomorphic_volume(-3.0 * np.indices(shape), np.zeros(shape, bool)) == 0


def test_a_mirrored_axis_turns_every_voxel_inside_out():
    shape = (8, 9, 10)
    field = np.zeros((3, *shape), np.float32)
    field[0] = -2 * np.arange(8)[:, None, None]
    inner = np.prod(np.array(shape) - 2)
    assert non_diffeomorphic_volume(field, np.ones(shape, bool)) == pytest.approx(inner)


def test_a_fold_between_voxels_that_central_differences_miss_is_found():
    shape = (11, 11, 11)
    field = np.zeros((3, *shape), np.float32)
    field[0, 5, 5, 5] = 1.5  # beyond its neighbour
    assert non_diffeomorphic_volume(field, np.ones(shape, bool)) > 0.1
    central = 1 + np.gradient(field[0], axis=0)
    assert (central > 0).all()


@pytest.mark.parametrize("axes", AXES)
def test_a_displacement_in_voxels_runs_along_the_axes_of_the_grid(axes, tmp_path):
    grid = grid_of(AXES[axes])
    displacement = places(grid) @ SLOPE.T
    transform = written(tmp_path / "x.h5", displacement, grid)
    found = displacement_in_voxels(transform, grid)
    expected = displacement @ np.linalg.inv(grid.affine[:3, :3]).T
    np.testing.assert_allclose(found.transpose(1, 2, 3, 0), expected, atol=1e-4)


@pytest.mark.parametrize("axes", AXES)
def test_a_fine_grid_is_measured_slab_by_slab_with_the_same_result(axes, tmp_path, monkeypatch):
    grid, field_grid = grid_of(AXES[axes], 30), grid_of(AXES[axes], 20)
    noise = np.random.default_rng(3).standard_normal((*field_grid.shape, 3))
    field = ndimage.gaussian_filter(noise, (1.5, 1.5, 1.5, 0)) * 60
    transform, inside = written(tmp_path / "x.h5", field, field_grid), np.ones(grid.shape, bool)

    def measured() -> tuple[np.ndarray, np.ndarray, float]:
        displacement = displacement_in_voxels(transform, grid)
        determinant = np.asarray(jacobian_determinant(transform, grid).dataobj)
        return determinant, displacement, non_diffeomorphic_volume(displacement, inside)

    whole = measured()
    assert whole[2] > 1
    sizes = []
    field_of = jacobian.field_along_axes
    for module in (jacobian, folding_module):
        monkeypatch.setattr(module, "SLAB", 4 * 30 * 31)
        monkeypatch.setattr(
            module,
            "field_along_axes",
            lambda transform, slab: sizes.append(slab.shape[2]) or field_of(transform, slab),
        )
    for found, expected in zip(measured(), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert max(sizes) == 4 + 2, "planes at a time, with their neighbours"


def test_a_point_that_comes_back_elsewhere_is_measured_in_millimetres(tmp_path):
    grid = grid_of(np.eye(3), 20)
    still, moved = np.zeros((*grid.shape, 3)), np.zeros((*grid.shape, 3))
    moved[..., 1] = 2.0
    forward = written(tmp_path / "a.h5", still, grid)
    write_composite(
        tmp_path / "b.h5",
        affine=np.linalg.inv(ANY_AFFINE),
        displacement=still,
        grid=grid,
        field_acts_first=False,
    )
    mask = np.zeros(grid.shape, np.uint8)
    mask[6:14, 6:14, 6:14] = 1
    image = nb.Nifti1Image(mask, grid.affine)
    exact = inverse_consistency(forward, read_transform(tmp_path / "b.h5"), image)
    assert max(exact) < 1e-4
    forward = written(tmp_path / "c.h5", moved, grid)
    off = inverse_consistency(forward, read_transform(tmp_path / "b.h5"), image)
    np.testing.assert_allclose(off, 2, atol=1e-4)


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="mask is empty"):
        folding(np.ones((2, 2, 2)), np.zeros((2, 2, 2), bool))
