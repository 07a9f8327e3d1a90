"""Resampling: against scipy, and left stays left."""

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy import ndimage
from scipy.spatial.transform import Rotation

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.resample import resample

LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS = 17, 53
GRID = Grid((97, 115, 97), from_matvec(np.diag([2.0, 2.0, 2.0]), [-96.0, -132.0, -78.0]))
TURN = from_matvec(
    Rotation.from_euler("xyz", [14, -9, 23], degrees=True).as_matrix(), [8.0, -5.0, 3.0]
)


@pytest.fixture(scope="module")
def bert(freesurfer_dir) -> nb.Nifti1Image:
    """FreeSurfer's own segmentation of a real brain, LIA, cropped to whole columns."""
    image = nb.load(freesurfer_dir / "sub-bert" / "mri" / "aseg.mgz")
    cropped = image.slicer[20:236, 20:236, 20:236]
    return nb.Nifti1Image(np.asarray(cropped.dataobj).astype(np.int16), cropped.affine)


@pytest.fixture(scope="module")
def from_lia(bert) -> np.ndarray:
    return np.asarray(resample(bert, GRID, np.eye(4), nearest=True).dataobj)


def reoriented(image: nb.Nifti1Image, axes: str) -> nb.Nifti1Image:
    start = nb.orientations.io_orientation(image.affine)
    end = nb.orientations.axcodes2ornt(tuple(axes))
    return image.as_reoriented(nb.orientations.ornt_transform(start, end))


def test_the_left_hippocampus_stays_on_the_left(from_lia):
    for label, side in ((LEFT_HIPPOCAMPUS, -1), (RIGHT_HIPPOCAMPUS, 1)):
        places = GRID.world(np.argwhere(from_lia == label))
        assert len(places) > 200
        assert (np.sign(places[:, 0]) == side).all()


@pytest.mark.parametrize("axes", ["LAS", "RAS", "PIR"])
def test_the_order_of_the_axes_in_the_file_does_not_matter(axes, bert, from_lia):
    turned = reoriented(bert, axes)
    assert nb.aff2axcodes(turned.affine) == tuple(axes)
    result = resample(turned, GRID, np.eye(4), nearest=True)
    np.testing.assert_array_equal(np.asarray(result.dataobj), from_lia)


def test_an_oblique_head_is_brought_to_the_same_place_by_the_matrix_that_turned_it(bert, from_lia):
    oblique = nb.Nifti1Image(np.asarray(bert.dataobj), TURN @ bert.affine)
    result = np.asarray(resample(oblique, GRID, TURN, nearest=True).dataobj)
    # Voxels of the grid lie on the border of two voxels of the scan; rounding decides there.
    assert (result == from_lia).mean() > 0.999
    centre = GRID.world(np.argwhere(result == LEFT_HIPPOCAMPUS)).mean(axis=0)
    expected = GRID.world(np.argwhere(from_lia == LEFT_HIPPOCAMPUS)).mean(axis=0)
    np.testing.assert_allclose(centre, expected, atol=0.1)


@pytest.mark.parametrize("nearest", [False, True])
def test_values_are_those_of_scipy(nearest):
    generator = np.random.default_rng(0)
    data = generator.integers(0, 1000, size=(14, 12, 10)).astype(np.float32)
    axes = np.array([[-1.0, 0, 0], [0, 0, 1.25], [0, -1.5, 0]])
    centre = axes @ (np.array(data.shape) - 1) / 2
    image = nb.Nifti1Image(data, TURN @ from_matvec(axes, -centre))
    grid = Grid((21, 19, 17), from_matvec(np.diag([0.9, 1.1, 0.8]), [-1.3, -16.1, -4.2]))
    transform = from_matvec(np.diag([1.1, 0.9, 1.0]), [1.0, -1.0, 0.5])
    result = np.asarray(resample(image, grid, transform, nearest=nearest).dataobj).ravel()

    indices = np.argwhere(np.ones(grid.shape))
    chain = np.linalg.inv(image.affine) @ transform @ grid.affine
    positions = apply_affine(chain, indices)
    expected = ndimage.map_coordinates(data, positions.T, order=0 if nearest else 1)
    last = np.array(data.shape) - 1
    inside = ((positions >= 0) & (positions <= last)).all(axis=1)
    beyond = ((positions < -0.51) | (positions > last + 0.51)).any(axis=1)
    assert inside.sum() > 300
    assert beyond.sum() > 300
    np.testing.assert_allclose(result[inside], expected[inside], atol=0.05)
    assert not result[beyond].any()


def test_labels_keep_their_type_and_gain_no_value(bert):
    result = resample(bert, GRID, TURN, nearest=True)
    assert result.get_data_dtype() == np.int16
    assert set(np.unique(result.dataobj)) <= set(np.unique(bert.dataobj))


def test_the_result_lies_on_the_grid_asked_for(bert):
    result = resample(bert, GRID, np.eye(4), nearest=True)
    assert result.shape == GRID.shape
    np.testing.assert_array_equal(result.affine, GRID.affine)
