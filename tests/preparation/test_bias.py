"""The slow gradient that coils leave: a known one, on a real brain, must go."""

import nibabel as nb
import numpy as np
import pytest

from vxmprep.preparation.bias import correct_bias, lifted
from vxmprep.spatial.images import load


@pytest.fixture(scope="module")
def brain(freesurfer_dir) -> nb.Nifti1Image:
    """A real brain whose own bias FreeSurfer has removed, at 2 mm, with air around it."""
    image = load(freesurfer_dir / "sub-bert" / "mri" / "norm.mgz").slicer[40:216, 40:216, 40:216]
    data = np.asarray(image.dataobj)[::2, ::2, ::2]
    return nb.Nifti1Image(data, image.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.fixture(scope="module")
def mask(brain) -> nb.Nifti1Image:
    return nb.Nifti1Image((np.asarray(brain.dataobj) > 5).astype(np.uint8), brain.affine)


@pytest.fixture(scope="module")
def field(brain) -> np.ndarray:
    """A multiplicative field that doubles the intensity from one corner to the other."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in brain.shape], indexing="ij")
    return np.exp(0.35 * x - 0.3 * y + 0.25 * z - 0.2 * x * y).astype(np.float32)


@pytest.fixture(scope="module")
def scan(brain, field) -> nb.Nifti1Image:
    return nb.Nifti1Image(np.asarray(brain.dataobj) * field, brain.affine)


@pytest.fixture(scope="module")
def corrected(scan, mask) -> nb.Nifti1Image:
    return correct_bias(scan, mask)


def variation(ratio: np.ndarray) -> float:
    return float(ratio.std() / ratio.mean())


def test_a_known_field_is_removed_from_a_real_brain(corrected, brain, field, mask):
    inside = np.asarray(mask.dataobj) > 0
    left = np.asarray(corrected.dataobj)[inside] / np.asarray(brain.dataobj)[inside]
    assert variation(field[inside]) > 0.15
    assert variation(left) < 0.5 * variation(field[inside])


def test_the_mean_in_the_brain_is_kept(corrected, scan, mask):
    inside = np.asarray(mask.dataobj) > 0
    before = np.asarray(scan.dataobj)[inside].mean()
    assert np.asarray(corrected.dataobj)[inside].mean() == pytest.approx(before, rel=1e-4)


def test_the_corrected_scan_is_not_stripped_and_stays_in_place(corrected, scan, mask):
    outside = (np.asarray(mask.dataobj) == 0) & (np.asarray(scan.dataobj) > 0)
    assert outside.any()
    assert (np.asarray(corrected.dataobj)[outside] > 0).all()
    np.testing.assert_array_equal(corrected.affine, scan.affine)
    assert corrected.get_data_dtype() == np.float32


def test_intensities_below_0_count_as_0():
    data = np.random.default_rng(0).uniform(50, 100, size=(12, 12, 12)).astype(np.float32)
    data[0] = -5
    image = nb.Nifti1Image(data, np.diag([6.0, 6.0, 6.0, 1.0]))
    mask = nb.Nifti1Image(np.ones(data.shape, np.uint8), image.affine)
    result = np.asarray(correct_bias(image, mask).dataobj)
    assert not result[0].any()
    assert (result[1:] > 0).all()


def test_a_scan_without_negative_intensities_is_not_lifted():
    data = np.random.default_rng(1).uniform(0, 100, size=(6, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(lifted(data, data > 20), data)


def test_a_scan_with_negative_intensities_is_lifted_and_its_background_stays_0():
    data = np.float32([0, -3, 2, 0, -1])
    brain = np.array([False, True, True, True, False])
    np.testing.assert_array_equal(lifted(data, brain), [0, 0, 5, 3, 2])
