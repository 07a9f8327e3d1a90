"""The scan as the network sees it."""

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import from_matvec

from vxmprep.preparation.conform import conform
from vxmprep.spatial.grid import Grid


@pytest.fixture(scope="module")
def scan() -> nb.Nifti1Image:
    data = np.random.default_rng(0).gamma(9, 100, size=(24, 26, 22)).astype(np.float32)
    return nb.Nifti1Image(data, from_matvec(np.diag([-1.0, 1.0, 1.0]), [11.0, -12.0, -10.0]))


@pytest.fixture(scope="module")
def mask(scan) -> nb.Nifti1Image:
    data = np.zeros(scan.shape, np.uint8)
    data[4:20, 5:21, 3:19] = 1
    return nb.Nifti1Image(data, scan.affine)


GRID = Grid((32, 32, 32), from_matvec(np.eye(3), [-16.0, -16.0, -15.0]))


@pytest.fixture(scope="module")
def conformed(scan, mask) -> nb.Nifti1Image:
    return conform(scan, mask, GRID, np.eye(4))


def in_ras(image: nb.Nifti1Image) -> tuple[np.ndarray, tuple[slice, ...]]:
    """The scan's voxels along R, A, S and where they lie on the grid."""
    data = np.asarray(image.dataobj)[::-1]
    first = np.array([-12, -12, -10]) - [-16, -16, -15]
    return data, tuple(slice(a, a + n) for a, n in zip(first, data.shape, strict=True))


def test_the_result_is_bytes_on_the_grid(conformed):
    assert conformed.shape == GRID.shape
    assert conformed.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(conformed.affine, GRID.affine)


def test_the_995th_percentile_of_the_brain_becomes_255(conformed, scan, mask):
    values, place = in_ras(scan)
    inside, _ = in_ras(mask)
    top = np.percentile(values[inside > 0], 99.5)
    expected = np.where(inside > 0, np.clip(values / top, 0, 1) * 255, 0)
    np.testing.assert_allclose(np.asarray(conformed.dataobj)[place], expected, atol=0.51)


def test_outside_the_brain_is_0(conformed, mask):
    inside, place = in_ras(mask)
    whole = np.zeros(GRID.shape, bool)
    whole[place] = inside > 0
    assert not np.asarray(conformed.dataobj)[~whole].any()
    assert np.asarray(conformed.dataobj)[whole].all()


def test_the_scale_of_the_scanner_does_not_matter(conformed, scan, mask):
    stretched = nb.Nifti1Image(np.asarray(scan.dataobj) * 0.001, scan.affine)
    again = np.asarray(conform(stretched, mask, GRID, np.eye(4)).dataobj).astype(int)
    assert np.abs(again - np.asarray(conformed.dataobj)).max() <= 1


def test_a_scan_standardised_to_mean_0_is_the_same_to_the_network(scan, mask):
    inside = np.asarray(mask.dataobj) > 0
    data = np.where(inside, np.asarray(scan.dataobj), 0)
    lowest = data[inside].min()
    data[inside] -= lowest
    shifted = np.where(inside, (data - data[inside].mean()) / data[inside].std(), 0)
    one, other = (
        np.asarray(conform(nb.Nifti1Image(d, scan.affine), mask, GRID, np.eye(4)).dataobj)
        for d in (data, shifted)
    )
    np.testing.assert_allclose(one.astype(int), other, atol=1)


def test_the_affine_takes_points_of_the_grid_to_the_scan(conformed, scan, mask):
    shift = from_matvec(np.eye(3), [0.0, 3.0, 0.0])
    moved = np.asarray(conform(scan, mask, GRID, shift).dataobj)
    np.testing.assert_array_equal(moved[:, :-3], np.asarray(conformed.dataobj)[:, 3:])


def test_a_brain_outside_the_grid_is_refused(scan, mask):
    with pytest.raises(ValueError, match="outside the atlas's grid"):
        conform(scan, mask, GRID, from_matvec(np.eye(3), [300.0, 0, 0]))
