"""Overlap: against scikit-learn and geometry."""

import time

import nibabel as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vxmprep.evaluation.overlap import joined_dice, mean_dice, overlaps

f1_score = pytest.importorskip("sklearn.metrics").f1_score


@pytest.fixture(scope="module")
def aseg(freesurfer_dir) -> np.ndarray:
    image = nb.load(freesurfer_dir / "sub-bert" / "mri" / "aseg.mgz")
    return np.asarray(image.dataobj).astype(np.int32)[40:216:2, 40:216:2, 40:216:2]


def ball(radius: float, shift: int = 0) -> np.ndarray:
    x, y, z = np.meshgrid(*[np.arange(80) - 39.5] * 3, indexing="ij")
    return ((x - shift) ** 2 + y**2 + z**2 <= radius**2).astype(np.int16)


def test_dice_of_real_labels_is_the_f1_score_of_scikit_learn(aseg):
    moved = np.roll(aseg, (2, -1, 1), axis=(0, 1, 2))
    found = overlaps(aseg, moved)
    labels = sorted(found)
    expected = f1_score(aseg.ravel(), moved.ravel(), labels=labels, average=None)
    assert len(labels) > 30
    np.testing.assert_allclose([found[k].dice for k in labels], expected, rtol=1e-12)


def test_voxels_of_real_labels_are_counted_on_both_sides(aseg):
    moved = aseg.copy()
    moved[:44] = 0
    found = overlaps(aseg, moved)
    for label in (10, 17, 49, 53):
        assert found[label].voxels_fixed == np.count_nonzero(aseg == label)
        assert found[label].voxels_moving == np.count_nonzero(moved == label)


def test_shifted_balls_overlap_as_geometry_says():
    # Two spheres of radius r at distance d share 1 - 3d/(4r) + d^3/(16 r^3) of their volume.
    radius, shift = 25.0, 14
    share = 1 - 3 * shift / (4 * radius) + shift**3 / (16 * radius**3)
    found = overlaps(ball(radius), ball(radius, shift))
    assert found[1].dice == pytest.approx(share, abs=0.003)


def test_a_ball_inside_another_overlaps_as_geometry_says():
    share = 2 * 20**3 / (20**3 + 30**3)
    assert overlaps(ball(30), ball(20))[1].dice == pytest.approx(share, abs=0.003)


def test_structures_that_do_not_touch_have_dice_0():
    fixed, moving = np.array([[[5, 5, 0, 0]]]), np.array([[[0, 0, 5, 5]]])
    assert overlaps(fixed, moving)[5].dice == 0


def test_a_structure_absent_from_one_side_has_no_dice():
    fixed, moving = np.array([[[5, 5, 0]]]), np.array([[[0, 7, 0]]])
    found = overlaps(fixed, moving)
    assert np.isnan(found[5].dice)
    assert np.isnan(found[7].dice)
    assert (found[5].voxels_fixed, found[5].voxels_moving) == (2, 0)
    assert (found[7].voxels_fixed, found[7].voxels_moving) == (0, 1)


def test_the_background_is_no_structure():
    assert 0 not in overlaps(np.array([[[0, 1]]]), np.array([[[0, 1]]]))


label_maps = arrays(np.int16, (4, 5, 6), elements=st.integers(0, 6))


@settings(max_examples=60, deadline=None)
@given(fixed=label_maps, moving=label_maps)
def test_dice_is_symmetric(fixed, moving):
    one, other = overlaps(fixed, moving), overlaps(moving, fixed)
    assert one.keys() == other.keys()
    for label, found in one.items():
        np.testing.assert_equal(found.dice, other[label].dice)
        assert found.voxels_fixed == other[label].voxels_moving


@settings(max_examples=60, deadline=None)
@given(labels=label_maps)
def test_a_map_overlaps_itself_fully(labels):
    assert all(found.dice == 1 for found in overlaps(labels, labels).values())


def test_the_time_does_not_grow_with_the_number_of_structures():
    generator = np.random.default_rng(0)
    few = generator.integers(0, 3, size=(90, 90, 90))
    many = generator.integers(0, 400, size=(90, 90, 90))
    seconds = []
    for labels in (few, many):
        start = time.process_time()
        overlaps(labels, labels)
        seconds.append(time.process_time() - start)
    # A pass over the voxels for every structure would take more than a hundred times as long.
    assert seconds[1] < 20 * seconds[0]


def test_maps_on_different_grids_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 2, 2\) and \(2, 2, 3\)"):
        overlaps(np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int))


def test_the_mean_is_over_structures_present_on_both_sides():
    fixed = np.array([[[1, 1, 2, 2, 3, 9]]])
    moving = np.array([[[1, 1, 2, 0, 0, 9]]])
    mean, structures = mean_dice(overlaps(fixed, moving), (1, 2, 3, 4))
    assert structures == 2
    assert mean == pytest.approx((1 + 2 / 3) / 2)


def test_the_mean_over_no_structure_is_none():
    mean, structures = mean_dice({}, (1, 2))
    assert np.isnan(mean)
    assert structures == 0


def test_jaccard_is_that_of_scikit_learn(aseg):
    score = pytest.importorskip("sklearn.metrics").jaccard_score
    moved = np.roll(aseg, (2, -1, 1), axis=(0, 1, 2))
    found = overlaps(aseg, moved)
    expected = score(aseg.ravel(), moved.ravel(), labels=sorted(found), average=None)
    np.testing.assert_allclose([found[k].jaccard for k in sorted(found)], expected, rtol=1e-9)


def test_a_volume_difference_is_in_percent_of_the_fixed_one():
    found = overlaps(np.array([[[5, 5, 5, 5, 6]]]), np.array([[[5, 5, 5, 0, 0]]]))
    assert found[5].volume_difference == -25
    assert np.isnan(found[6].volume_difference)


def test_dice_agrees_with_monai(aseg):
    monai = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    moved = np.roll(aseg, 2, axis=0)
    labels = [10, 17, 53]
    one, other = (
        torch.stack([torch.from_numpy(x == k) for k in labels])[None].float()
        for x in (aseg, moved)
    )
    theirs = monai.compute_dice(one, other, include_background=True)[0].numpy()
    found = overlaps(aseg, moved)
    np.testing.assert_allclose([found[k].dice for k in labels], theirs, rtol=1e-5)


def test_dice_joined_from_parts_that_do_not_meet_is_that_of_the_union():
    generator = np.random.default_rng(4)
    fixed, moving = generator.choice([0, 1], size=(2, 9, 8, 7), p=[0.4, 0.6])
    # Two halves, each a label of its own: no voxel of one lies on the other.
    half = np.where(np.arange(9) < 5, 1, 2)[:, None, None]
    found = overlaps(fixed * half, moving * half)
    parts = [(one.dice, one.voxels_fixed, one.voxels_moving) for one in found.values()]
    assert len({round(dice, 3) for dice, *_ in parts}) == 2
    expected = 2 * (fixed & moving).sum() / (fixed.sum() + moving.sum())
    assert joined_dice(parts) == pytest.approx(expected, abs=1e-12)


def test_a_part_that_one_map_lacks_counts_as_missed():
    assert joined_dice([(0.5, 10, 10), (float("nan"), 20, 0)]) == pytest.approx(2 * 5 / 40)
    assert np.isnan(joined_dice([(float("nan"), 20, 0), (float("nan"), 5, 0)]))


def test_fractions_are_no_labels():
    with pytest.raises(ValueError, match="labels are float64; give whole numbers"):
        overlaps(np.zeros((2, 2, 2), int), np.full((2, 2, 2), 0.5))


def test_ids_of_billions_are_counted_like_any_others():
    fixed, moving = np.array([[[7, 2_000_000_000, 0]]]), np.array([[[7, 2_000_000_000, 5]]])
    found = overlaps(fixed, moving)
    assert {label: one.dice for label, one in found.items() if label != 5} == {
        7: 1.0, 2_000_000_000: 1.0,
    }  # fmt: skip


def test_negative_labels_are_refused():
    with pytest.raises(ValueError, match="holds a negative label, -1"):
        overlaps(np.array([[[-1, 2]]]), np.array([[[1, 2]]]))
