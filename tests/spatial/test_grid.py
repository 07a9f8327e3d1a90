"""Grids: where voxels lie, and the grid of the network."""

import nibabel as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from vxmprep.spatial.grid import Grid, network_grid

LIA = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
OBLIQUE = Rotation.from_euler("xyz", [17, -11, 29], degrees=True).as_matrix()


@settings(max_examples=80, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 5)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    index=st.tuples(*[st.floats(-50, 300)] * 3),
)
def test_indices_invert_world(angles, spacing, origin, index):
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    grid = Grid((5, 6, 7), from_matvec(rotation * np.array(spacing), origin))
    points = grid.world(np.array([index]))
    np.testing.assert_allclose(
        points[0], rotation @ (np.array(spacing) * index) + origin, 1e-9, 1e-9
    )
    np.testing.assert_allclose(grid.indices(points), [index], atol=1e-7)


def test_spacing_is_the_voxel_size_along_the_axes_of_the_array():
    grid = Grid((4, 4, 4), from_matvec(OBLIQUE @ LIA * np.array([1.0, 2.0, 3.0]), [0, 0, 0]))
    np.testing.assert_allclose(grid.spacing, [1.0, 2.0, 3.0])


def test_the_grid_of_an_image_of_one_volume_in_four_dimensions_has_three():
    grid = Grid.of(nb.Nifti1Image(np.zeros((4, 5, 6, 1), np.float32), np.eye(4)))
    assert grid.shape == (4, 5, 6)
    assert all(type(n) is int for n in grid.shape)


@pytest.mark.parametrize("shape", [(8, 9, 10), (16, 16, 15)])
def test_voxel_i_of_the_halved_grid_lies_on_voxel_2i(shape):
    grid = Grid(shape, from_matvec(OBLIQUE * np.array([1.0, 1.5, 2.0]), [3.0, -4.0, 5.0]))
    half = grid.halved()
    index = np.array([[0, 0, 0], [1, 2, 3], [3, 3, 3]])
    np.testing.assert_allclose(half.world(index), grid.world(2 * index))
    np.testing.assert_allclose(half.spacing, 2 * grid.spacing)


@pytest.mark.parametrize("shape", [(8, 9, 10), (16, 16, 15)])
def test_the_halved_grid_covers_the_whole_one(shape):
    last = np.array(Grid(shape, np.eye(4)).halved().shape) - 1
    assert (2 * last >= np.array(shape) - 1).all()


def test_a_padded_grid_keeps_its_voxels_in_place():
    grid = Grid((5, 6, 7), from_matvec(OBLIQUE @ LIA * np.array([1.0, 1.5, 2.0]), [3, -4, 5]))
    padded = grid.padded(4)
    assert padded.shape == (13, 14, 15)
    index = np.array([[0, 0, 0], [4, 5, 6]])
    np.testing.assert_allclose(padded.world(index + 4), grid.world(index))


@pytest.mark.parametrize(
    "axes",
    [np.eye(3), LIA * [1.5, 1.0, 2.0], OBLIQUE * [1.0, 1.2, 0.8]],
    ids=["RAS", "LIA", "oblique"],
)
def test_the_network_grid_is_1_mm_ras_and_holds_the_brain_with_8_mm_around_it(axes):
    data = np.zeros((60, 70, 50), np.uint8)
    data[12:48, 9:58, 11:37] = 1
    mask = nb.Nifti1Image(data, from_matvec(axes, [20.3, -40.7, 11.1]))
    grid = network_grid(mask)
    np.testing.assert_array_equal(grid.affine[:3, :3], np.eye(3))
    assert all(n % 16 == 0 for n in grid.shape)
    brain = apply_affine(mask.affine, np.argwhere(data))
    first, last = grid.affine[:3, 3], grid.affine[:3, 3] + np.array(grid.shape) - 1
    assert (first <= brain.min(axis=0) - 8).all()
    assert (last >= brain.max(axis=0) + 8).all()


@pytest.mark.parametrize("margin", [0, 1, 3])
@pytest.mark.parametrize("voxels", [1, 60, 10_000])
def test_slabs_hold_every_plane_once_in_its_place(voxels, margin):
    grid = Grid((5, 4, 11), from_matvec(OBLIQUE * 2, [3, 4, 5]))
    seen = []
    for planes, slab, inner in grid.slabs(voxels, margin):
        numbers = range(11)[planes]
        seen += numbers
        assert len(range(slab.shape[2])[inner]) == len(numbers)
        places = [np.array([[1, 2, first]]) for first in (inner.start, planes.start)]
        np.testing.assert_allclose(slab.world(places[0]), grid.world(places[1]))
        assert slab.shape[2] <= len(numbers) + 2 * margin
    assert seen == list(range(11))


def test_the_network_grid_is_no_larger_than_it_must_be():
    data = np.zeros((60, 70, 50), np.uint8)
    data[10:42, 10:51, 10:43] = 1
    # 32, 41 and 33 voxels with twice 8 mm: 48, 57 and 49.
    assert network_grid(nb.Nifti1Image(data, np.eye(4))).shape == (48, 64, 64)


def test_the_brain_lies_in_the_middle_of_the_network_grid():
    data = np.zeros((60, 70, 50), np.uint8)
    data[10:41, 10:51, 10:42] = 1
    grid = network_grid(nb.Nifti1Image(data, np.eye(4)))
    middle = grid.affine[:3, 3] + (np.array(grid.shape) - 1) / 2
    np.testing.assert_allclose(middle, [25, 30, 25.5], atol=0.5)


def test_an_empty_mask_has_no_network_grid():
    with pytest.raises(ValueError, match="empty"):
        network_grid(nb.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)))
