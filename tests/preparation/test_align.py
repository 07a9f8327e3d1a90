"""The affine: a known one is found again, and a wrong one is noticed."""

import tempfile
from itertools import islice

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy import ndimage
from scipy.spatial.transform import Rotation

from vxmprep.preparation.align import (
    LEAST_OVERLAP,
    LEAST_SIMILARITY,
    TURNS,
    Alignment,
    align,
    coarse,
    greedy,
    judge,
)
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.resample import resample

SCAN_TO_ATLAS = from_matvec(
    Rotation.from_euler("xyz", [9, -6, 11], degrees=True).as_matrix()
    @ np.array([[1.06, 0.03, 0.0], [0.0, 0.94, -0.02], [0.0, 0.0, 1.03]]),
    [18.0, -25.0, 31.0],
)
"""Points of the scan to points of the atlas: turned, stretched, sheared and shifted."""

ATLAS_TO_SCAN = np.linalg.inv(SCAN_TO_ATLAS)


def foreground(image: nb.Nifti1Image) -> nb.Nifti1Image:
    filled = ndimage.binary_fill_holes(np.asarray(image.dataobj) > 0)
    return nb.Nifti1Image(filled.astype(np.uint8), image.affine)


def brain_points(brain: nb.Nifti1Image) -> np.ndarray:
    return apply_affine(brain.affine, np.argwhere(np.asarray(brain.dataobj) > 0)[::50])


@pytest.fixture(scope="module")
def mask(small_brain) -> nb.Nifti1Image:
    return foreground(small_brain)


@pytest.fixture(scope="module")
def scan(small_brain) -> nb.Nifti1Image:
    """The atlas's brain as a scan of a head lying otherwise, LIA, other voxels."""
    shape = np.array([72, 84, 88])
    axes = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) * [2.6, 2.9, 2.8]
    middle = apply_affine(ATLAS_TO_SCAN, brain_points(small_brain).mean(axis=0))
    grid = Grid(tuple(shape.tolist()), from_matvec(axes, middle - axes @ (shape - 1) / 2))
    return resample(small_brain, grid, SCAN_TO_ATLAS)


@pytest.fixture(scope="module")
def found(scan, small_brain, mask) -> Alignment:
    return align(scan, foreground(scan), small_brain, mask)


def test_a_known_affine_is_found_to_a_millimetre_on_the_brain(found, small_brain):
    points = brain_points(small_brain)
    error = apply_affine(found.atlas_to_scan, points) - apply_affine(ATLAS_TO_SCAN, points)
    assert np.linalg.norm(error, axis=1).max() < 1.0


def test_a_good_affine_is_not_doubted(found):
    assert found.flags == ()
    assert found.similarity > 0.8


def test_scales_and_turn_are_those_of_the_known_affine(found):
    scales = np.linalg.svd(ATLAS_TO_SCAN[:3, :3], compute_uv=False)
    np.testing.assert_allclose(found.scales, scales, atol=0.01)
    matrix = ATLAS_TO_SCAN[:3, :3]
    left, _, right = np.linalg.svd(matrix)
    turn = np.degrees(Rotation.from_matrix(left @ right).magnitude())
    assert found.turn == pytest.approx(turn, abs=1)


def test_the_same_scan_gives_the_same_bits(found, scan, small_brain, mask):
    again = align(scan, foreground(scan), small_brain, mask)
    np.testing.assert_array_equal(again.atlas_to_scan, found.atlas_to_scan)


def test_the_temporary_folder_may_hold_a_blank(small_brain, tmp_path, monkeypatch):
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a b"))
    np.testing.assert_allclose(next(greedy(small_brain, small_brain)), np.eye(4), atol=0.05)


@pytest.fixture(scope="module")
def turned(scan) -> nb.Nifti1Image:
    """The scan with a header that takes front for back and left for right."""
    return nb.Nifti1Image(np.asarray(scan.dataobj), np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine)


@pytest.fixture(scope="module")
def found_turned(turned, small_brain, mask) -> Alignment:
    return align(turned, foreground(turned), small_brain, mask)


def test_a_scan_turned_by_its_header_is_aligned_all_the_same(found_turned, small_brain):
    points = brain_points(small_brain)
    expected = apply_affine(np.diag([-1.0, -1.0, 1.0, 1.0]) @ ATLAS_TO_SCAN, points)
    error = apply_affine(found_turned.atlas_to_scan, points) - expected
    assert np.linalg.norm(error, axis=1).max() < 1.0


def test_there_is_a_start_for_every_way_that_a_header_can_take_the_axes():
    expected = Rotation.create_group("O").as_matrix().round() + 0.0
    assert len(TURNS) == 24
    assert {turn.tobytes() for turn in np.array(TURNS) + 0.0} == {m.tobytes() for m in expected}
    np.testing.assert_array_equal(TURNS[0], np.eye(3))


@pytest.mark.slow
def test_a_scan_whose_header_exchanges_axes_is_aligned_all_the_same(scan, small_brain, mask):
    axes = from_matvec(TURNS[4])  # the first that is not tried before
    wrong = nb.Nifti1Image(np.asarray(scan.dataobj), axes @ scan.affine)
    found = align(wrong, foreground(wrong), small_brain, mask)
    points = brain_points(small_brain)
    error = apply_affine(found.atlas_to_scan, points) - apply_affine(axes @ ATLAS_TO_SCAN, points)
    assert np.linalg.norm(error, axis=1).max() < 1.0
    assert "orientation" in found.flags[0]


def test_a_scan_turned_by_its_header_is_flagged_for_its_orientation(found_turned):
    assert found_turned.turn > 150
    assert len(found_turned.flags) == 1
    assert "orientation" in found_turned.flags[0]


def from_the_header(fixed, moving):
    """Search from one start, where all 24 would find as little."""
    return islice(greedy(fixed, moving), 1)


def test_what_is_no_brain_is_flagged_by_its_similarity(small_brain, mask):
    smooth = ndimage.gaussian_filter(np.asarray(mask.dataobj, dtype=np.float32), 3)
    blob = nb.Nifti1Image(np.where(smooth > 0.3, 100 * smooth, 0), small_brain.affine)
    found = align(blob, foreground(blob), small_brain, mask, search=from_the_header)
    assert found.similarity < LEAST_SIMILARITY
    assert any("local correlation" in flag for flag in found.flags)


def test_a_poor_affine_is_tried_again_from_other_starts_which_are_counted(small_brain, mask):
    turned, right, never = np.diag([-1.0, -1.0, 1.0, 1.0]), np.eye(4), np.eye(4)
    found = align(
        small_brain, mask, small_brain, mask, search=lambda *_: iter([turned, right, never])
    )
    np.testing.assert_allclose(found.atlas_to_scan, np.eye(4), atol=1e-6)
    assert found.starts == found.summary()["Starts"] == 2


def test_brains_that_are_alike_while_their_masks_are_not_are_turned_by_halves_only(
    small_brain, mask
):
    """As a mask that lacks the brain's outer parts: other turns of the head are no help."""
    inner = ndimage.binary_erosion(np.asarray(mask.dataobj), iterations=3)
    small = nb.Nifti1Image(inner.astype(np.uint8), mask.affine)
    found = align(small_brain, small, small_brain, mask, search=lambda *_: iter([np.eye(4)] * 24))
    assert found.overlap < LEAST_OVERLAP
    assert found.similarity >= LEAST_SIMILARITY
    assert found.starts == 4


def test_without_a_search_the_identity_is_judged(small_brain, mask):
    found = align(small_brain, mask, small_brain, mask, search=None)
    np.testing.assert_array_equal(found.atlas_to_scan, np.eye(4))
    assert found.similarity == pytest.approx(1, abs=1e-3)
    assert found.overlap == pytest.approx(1, abs=1e-3)
    assert found.turn == pytest.approx(0, abs=1e-3)


def test_where_the_world_of_the_atlas_begins_does_not_matter(found, scan, small_brain, mask):
    away = from_matvec(np.eye(3), [400.0, -300.0, 250.0])
    atlas, atlas_mask = (
        nb.Nifti1Image(np.asarray(image.dataobj), away @ image.affine)
        for image in (small_brain, mask)
    )
    again = align(scan, foreground(scan), atlas, atlas_mask)
    np.testing.assert_allclose(again.atlas_to_scan @ away, found.atlas_to_scan, atol=0.01)


def test_a_search_sees_both_brains_with_their_middle_at_0(scan, small_brain, mask):
    seen = []

    def search(fixed, moving):
        seen.extend([fixed, moving])
        return [np.eye(4)]

    found = align(scan, foreground(scan), small_brain, mask, search=search)
    for image in seen:
        np.testing.assert_allclose(brain_points(image).mean(axis=0), 0, atol=1.0)
    # So an affine that moves nothing brings middle to middle.
    middles = [
        apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) > 0)).mean(axis=0)
        for image in (mask, foreground(scan))
    ]
    expected = from_matvec(np.eye(3), middles[1] - middles[0])
    np.testing.assert_allclose(found.atlas_to_scan, expected, atol=1e-9)


def test_a_search_is_asked_for_no_more_once_an_affine_is_good(small_brain, mask):
    turned = np.diag([-1.0, -1.0, 1.0, 1.0])

    def search(fixed, moving):
        yield turned
        yield np.eye(4)
        raise AssertionError("asked for a third")

    found = align(small_brain, mask, small_brain, mask, search=search)
    np.testing.assert_allclose(found.atlas_to_scan, np.eye(4), atol=1e-9)


def test_of_poor_affines_the_most_similar_stands(small_brain, mask):
    poor = [from_matvec(np.eye(3), [shift, 0.0, 0.0]) for shift in (30.0, 7.0, 20.0)]
    found = align(small_brain, mask, small_brain, mask, search=lambda *_: poor)
    assert found.similarity < LEAST_SIMILARITY
    np.testing.assert_allclose(found.atlas_to_scan, poor[1], atol=1e-9)


@pytest.mark.parametrize(
    ("matrix", "word"),
    [
        (np.diag([1.5, 1.0, 1.0]), "scales"),
        (np.diag([1.0, 0.6, 1.0]), "scales"),
        (np.array([[1.0, 0.4, 0], [0, 1.0, 0], [0, 0, 1.0]]), "shear"),
        (Rotation.from_euler("z", 90, degrees=True).as_matrix(), "orientation"),
        (np.diag([0.75, 0.75, 0.75]), "overlap"),
    ],
)
def test_an_affine_beyond_its_bounds_is_flagged_with_the_reason(matrix, word, small_brain):
    found = judge(from_matvec(matrix, [0, 0, 0]), small_brain, small_brain)
    assert any(word in flag for flag in found.flags)


def test_overlap_is_the_dice_of_the_two_brains():
    data = np.zeros((20, 20, 20), np.float32)
    data[5:15, 5:15, 5:15] = 1
    image = nb.Nifti1Image(data, np.eye(4))
    found = judge(from_matvec(np.eye(3), [5.0, 0, 0]), image, image)
    assert found.overlap == pytest.approx(0.5)


def test_the_summary_holds_the_determinant_and_the_flags(small_brain):
    matrix = from_matvec(np.diag([1.5, 1.0, 1.1]), [0, 0, 0])
    summary = judge(matrix, small_brain, small_brain).summary()
    assert summary["Determinant"] == pytest.approx(1.65)
    assert len(summary["Flags"]) >= 1


@pytest.fixture(scope="module")
def ramp() -> tuple[nb.Nifti1Image, nb.Nifti1Image]:
    """An image whose intensity is 500 plus its place along R, A and S, and a mask of it."""
    affine = from_matvec(np.diag([-1.0, 1.0, 0.5]), [30.0, -30.0, -15.0])
    places = apply_affine(affine, np.argwhere(np.ones((60, 60, 60))))
    data = (500 + places @ [1.0, 2.0, 3.0]).reshape(60, 60, 60).astype(np.float32)
    mask = np.zeros(data.shape, np.uint8)
    mask[10:50, 10:50, 6:54] = 1
    return nb.Nifti1Image(data, affine), nb.Nifti1Image(mask, affine)


def test_the_coarse_brain_has_voxels_of_2_mm_and_no_surroundings(ramp):
    small = coarse(*ramp)
    np.testing.assert_allclose(np.abs(np.diag(small.affine)[:3]), 2.0)
    assert np.asarray(small.dataobj)[0, 0, 0] == pytest.approx(0, abs=1)
    assert np.asarray(small.dataobj).max() > 500


def test_the_coarse_brain_of_a_scan_standardised_to_mean_0_keeps_its_contrast(small_brain, mask):
    data = np.asarray(small_brain.dataobj, dtype=np.float32)
    inside = np.asarray(mask.dataobj) > 0
    scan = nb.Nifti1Image((data - data[inside].mean()) * inside, small_brain.affine)
    one, other = (np.asarray(coarse(image, mask).dataobj) for image in (small_brain, scan))
    assert np.corrcoef(one[one > 0], other[one > 0])[0, 1] > 0.99


def test_the_coarse_brain_stays_in_place(ramp):
    small = coarse(*ramp)
    index = np.array([[n // 2 for n in small.shape]])
    expected = 500 + apply_affine(small.affine, index) @ [1.0, 2.0, 3.0]
    assert np.asarray(small.dataobj)[tuple(index[0])] == pytest.approx(expected[0], abs=0.2)
