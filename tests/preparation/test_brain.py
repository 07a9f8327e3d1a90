"""Where the brain is: real stripped scans, real heads, masks of other programs."""

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy import ndimage
from scipy.spatial.transform import Rotation

from vxmprep.preparation.brain import (
    already_stripped,
    brain_mask,
    deepbet_mask,
    mask_on_scan,
    stripped_mask,
)
from vxmprep.spatial.images import ImageError, load

STRIPPED = (
    "freesurfer-cohort/sub-bert/anat/sub-bert_T1w.nii.gz",
    "freesurfer-cohort/sub-scan/anat/sub-scan_T1w.nii.gz",
    "freesurfer-cohort/derivatives/freesurfer/sub-bert/mri/norm.mgz",
    "freesurfer-cohort/derivatives/freesurfer/sub-bert/mri/brainmask.mgz",
    "freesurfer-cohort/derivatives/freesurfer/fsaverage/mri/brain.mgz",
    "labelled-cohort/sub-1001/anat/sub-1001_T1w.nii.gz",
    "labelled-cohort/sub-1017/anat/sub-1017_T1w.nii.gz",
    "training-cohort/sub-01/anat/sub-01_T1w.nii.gz",
    "training-cohort/sub-20/anat/sub-20_T1w.nii.gz",
)


def head_file(number: int) -> str:
    return f"whole-head-cohort/sub-0{number}/anat/sub-0{number}_T1w.nii.gz"


@pytest.fixture(scope="module")
def head(shared_data) -> nb.Nifti1Image:
    return load(shared_data / head_file(1))


def ellipsoid(spacing: float, radii: tuple[float, ...]) -> nb.Nifti1Image:
    """A body of 1 in a field of 0, centred at the world's origin."""
    size = int(2 * max(radii) / spacing) + 20
    affine = from_matvec(np.eye(3) * spacing, [-spacing * (size - 1) / 2] * 3)
    index = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)
    inside = ((nb.affines.apply_affine(affine, index) / radii) ** 2).sum(axis=-1) <= 1
    return nb.Nifti1Image(inside.astype(np.float32), affine)


@pytest.mark.parametrize("path", STRIPPED)
def test_a_stripped_scan_is_seen_as_one(path, shared_data):
    assert already_stripped(load(shared_data / path))


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_whole_head_is_not_taken_for_a_brain(number, shared_data):
    assert not already_stripped(load(shared_data / head_file(number)))


@pytest.mark.parametrize("threshold", [10, 20])
def test_a_whole_head_whose_air_was_erased_is_not_taken_for_a_brain(threshold, head):
    data = np.asarray(head.dataobj)
    air = ndimage.gaussian_filter(data, 2) < threshold
    assert 0.3 < air.mean() < 0.9
    assert not already_stripped(nb.Nifti1Image(np.where(air, 0, data), head.affine))


def test_a_stripped_scan_of_the_default_atlas_is_seen_as_one(small_brain):
    assert already_stripped(small_brain)


def test_a_body_as_large_as_a_head_is_not_a_brain():
    # 4 pi / 3 * 8 * 10 * 11 cm is 3.7 l; a brain has 1.0 to 1.8 l.
    texture = np.random.default_rng(0).uniform(50, 100, size=(124, 124, 124))
    body = ellipsoid(2.1, (80, 100, 110))
    size = body.shape[0]
    data = np.asarray(body.dataobj) * texture[:size, :size, :size]
    assert not already_stripped(nb.Nifti1Image(data.astype(np.float32), body.affine))


def test_the_mask_of_a_stripped_scan_has_no_holes():
    body = ellipsoid(3.0, (60, 75, 60))
    data = np.asarray(body.dataobj).copy()
    middle = data.shape[0] // 2
    data[middle - 3 : middle + 3, middle - 3 : middle + 3, middle - 3 : middle + 3] = 0
    mask = stripped_mask(nb.Nifti1Image(100 * data, body.affine))
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(body.dataobj))


def test_the_mask_of_a_stripped_scan_leaves_crumbs_out():
    body = ellipsoid(3.0, (60, 75, 60))
    data = np.asarray(body.dataobj).copy()
    data[:2, :2, :2] = 1
    mask = stripped_mask(nb.Nifti1Image(100 * data, body.affine))
    assert not np.asarray(mask.dataobj)[:2, :2, :2].any()


def test_the_mask_of_a_stripped_scan_is_its_foreground(shared_data):
    scan = load(shared_data / STRIPPED[5])
    mask = np.asarray(stripped_mask(scan).dataobj) > 0
    filled = ndimage.binary_fill_holes(np.asarray(scan.dataobj) > 0)
    assert 2 * (mask & filled).sum() / (mask.sum() + filled.sum()) > 0.999


def test_a_hole_of_a_brain_that_touches_the_border_is_filled():
    data = np.random.default_rng(1).uniform(50, 100, size=(12, 12, 12)).astype(np.float32)
    data[5:7, 5:7, 5:7] = 0
    data[:, :, 9:] = 0
    mask = np.asarray(stripped_mask(nb.Nifti1Image(data, np.eye(4))).dataobj)
    assert mask[:, :, :9].all()
    assert not mask[:, :, 9:].any()


def test_voxels_that_freesurfer_marks_as_erased_are_no_foreground():
    data = np.zeros((20, 20, 20), np.float32)
    data[4:16, 4:16, 4:16] = 1
    data[6:14, 6:14, 6:14] = np.random.default_rng(2).integers(20, 200, size=(8, 8, 8))
    mask = np.asarray(stripped_mask(nb.Nifti1Image(data, np.eye(4))).dataobj)
    np.testing.assert_array_equal(mask > 0, data > 1)


def test_a_stripped_scan_that_was_standardised_to_mean_0_keeps_its_brain(small_brain):
    data = np.asarray(small_brain.dataobj, dtype=np.float32)
    inside = data > 0
    data = np.where(inside, (data - data[inside].mean()) / data[inside].std(), 0)
    scan = nb.Nifti1Image(data, small_brain.affine)
    assert (data[inside] < 0).mean() > 0.3
    assert brain_mask(scan, "auto")[1] == "none"
    whole = np.asarray(stripped_mask(small_brain).dataobj)
    np.testing.assert_array_equal(np.asarray(stripped_mask(scan).dataobj), whole)


def test_a_rim_below_the_background_is_no_foreground():
    data = np.zeros((40, 40, 40), np.float32)
    data[4:35, 4:35, 4:35] = -2
    data[5:35, 5:35, 5:35] = np.random.default_rng(3).uniform(50, 100, size=(30, 30, 30))
    mask = np.asarray(stripped_mask(nb.Nifti1Image(data, np.eye(4))).dataobj)
    np.testing.assert_array_equal(mask > 0, data > 0)


def test_a_block_of_a_head_without_air_is_not_taken_for_a_stripped_brain(head):
    block = np.asarray(head.dataobj)[38:128, 57:117, 60:120]
    assert (block <= 1).mean() < 0.01
    assert not already_stripped(nb.Nifti1Image(block, head.affine))


@pytest.mark.slow
def test_deepbet_finds_one_brain_of_a_plausible_size_in_a_head(head):
    mask = deepbet_mask(head)
    inside = np.asarray(mask.dataobj) > 0
    litres = inside.sum() * abs(np.linalg.det(mask.affine[:3, :3])) / 1e6
    assert 1.0 < litres < 1.8
    parts, _ = ndimage.label(inside)
    sizes = np.bincount(parts.ravel())[1:]
    assert sizes.max() / inside.sum() > 0.999
    np.testing.assert_array_equal(mask.affine, head.affine)
    assert mask.shape == head.shape


def test_auto_takes_a_stripped_scan_as_it_is(small_brain):
    mask, method = brain_mask(small_brain, "auto")
    assert method == "none"
    np.testing.assert_array_equal(
        np.asarray(mask.dataobj), np.asarray(stripped_mask(small_brain).dataobj)
    )


def test_auto_asks_deepbet_for_a_head(head, monkeypatch):
    marker = nb.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    monkeypatch.setattr("vxmprep.preparation.brain.deepbet_mask", lambda *_, **__: marker)
    assert brain_mask(head, "auto") == (marker, "deepbet")


def test_a_mask_given_goes_before_every_method(small_brain):
    data = np.zeros(small_brain.shape, np.uint8)
    data[30, 30, 30] = 1
    mask, method = brain_mask(
        small_brain, "deepbet", given=nb.Nifti1Image(data, small_brain.affine)
    )
    assert method == "none"
    np.testing.assert_array_equal(np.asarray(mask.dataobj), data)


def test_a_mask_on_another_grid_is_placed_by_its_world():
    mask = ellipsoid(1.0, (12, 16, 14))
    axes = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) * [1.5, 1.0, 2.0]
    turn = Rotation.from_euler("xyz", [10, 20, -15], degrees=True).as_matrix()
    shape = np.array([40, 44, 30])
    affine = from_matvec(turn @ axes, -turn @ axes @ (shape - 1) / 2)
    scan = nb.Nifti1Image(np.zeros(shape, np.float32), affine)
    placed = mask_on_scan(mask, scan)
    places = nb.affines.apply_affine(affine, np.argwhere(np.asarray(placed.dataobj)))
    distance = np.sqrt(((places / [12, 16, 14]) ** 2).sum(axis=1))
    assert distance.max() < 1.1
    assert len(places) * 3.0 == pytest.approx(4 / 3 * np.pi * 12 * 16 * 14, rel=0.03)
    np.testing.assert_array_equal(placed.affine, affine)


def test_freesurfer_marks_erased_voxels_with_1_which_are_not_brain():
    data = np.zeros((6, 6, 6), np.uint8)
    data[1:5, 1:5, 1:5] = 90
    data[4, 1:5, 1:5] = 1
    image = nb.Nifti1Image(data, np.eye(4))
    np.testing.assert_array_equal(np.asarray(mask_on_scan(image, image).dataobj), data > 1)


def test_1_is_brain_in_a_mask_of_0_and_1():
    data = np.zeros((6, 6, 6), np.uint8)
    data[1:5, 1:5, 1:5] = 1
    image = nb.Nifti1Image(data, np.eye(4))
    np.testing.assert_array_equal(np.asarray(mask_on_scan(image, image).dataobj), data)


def test_a_mask_that_exceeds_1_by_interpolation_is_halved_at_a_half():
    data = np.zeros((6, 6, 6), np.float32)
    data[1:5, 1:5, 1:5] = 0.9
    data[2:4, 2:4, 2:4] = 1.15
    image = nb.Nifti1Image(data, np.eye(4))
    np.testing.assert_array_equal(np.asarray(mask_on_scan(image, image).dataobj), data > 0.5)


def test_freesurfers_brainmask_lies_on_the_scan_it_was_made_from(shared_data):
    scan = load(shared_data / STRIPPED[0])
    mask = np.asarray(mask_on_scan(load(shared_data / STRIPPED[3]), scan).dataobj) > 0
    inside = np.asarray(scan.dataobj) > 1
    assert 2 * (mask & inside).sum() / (mask.sum() + inside.sum()) > 0.95


def test_a_mask_of_another_scan_is_refused():
    mask = ellipsoid(2.0, (12, 16, 14))
    elsewhere = nb.Nifti1Image(np.zeros((8, 8, 8)), from_matvec(np.eye(3), [500.0, 0, 0]))
    with pytest.raises(ImageError, match="does not overlap"):
        mask_on_scan(mask, elsewhere)
