"""Window sums and Gaussian smoothing against scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from vxmprep.morph import blocks
from vxmprep.morph.smooth import box_sum, gaussian, largest_around


def test_the_largest_around_a_voxel_is_that_of_max_pooling_also_below_zero_and_at_the_border():
    volume = torch.randn((2, 1, 9, 1, 7), generator=torch.Generator().manual_seed(0)) - 3
    expected = torch.nn.functional.max_pool3d(volume, 3, stride=1, padding=1)
    assert torch.equal(largest_around(volume), expected)


@pytest.mark.parametrize("values", [10**6, 500])
@pytest.mark.parametrize("window", [1, 3, 5, 7, 9, 11, 31])
def test_box_sum_adds_the_voxels_of_the_window(window, values, monkeypatch):
    monkeypatch.setitem(blocks.CACHED_VALUES, "cpu", values)  # one slab, or many
    volume = np.random.default_rng(0).random((2, 12, 15, 13))
    expected = volume
    for axis in range(1, 4):
        expected = ndimage.correlate1d(expected, np.ones(window), axis, mode="constant")
    np.testing.assert_allclose(box_sum(torch.from_numpy(volume), window).numpy(), expected)


def test_box_sum_of_a_view_reads_its_own_voxels():
    volume = torch.rand(9, 8, 7, dtype=torch.float64).permute(2, 0, 1)
    torch.testing.assert_close(box_sum(volume, 3), box_sum(volume.contiguous(), 3))


def test_box_sum_refuses_a_window_without_a_centre():
    with pytest.raises(ValueError, match="box_sum: window is 4"):
        box_sum(torch.ones(5, 5, 5), 4)


def test_gaussian_smooths_as_scipy_does_away_from_the_border():
    volume = np.random.default_rng(1).random((24, 25, 26))
    expected = ndimage.gaussian_filter(volume, 1.3)
    inside = (slice(6, -6),) * 3
    result = gaussian(torch.from_numpy(volume), 1.3).numpy()
    np.testing.assert_allclose(result[inside], expected[inside], atol=1e-4)


def test_gaussian_leaves_a_constant_as_it_is_up_to_the_border():
    constant = torch.full((1, 3, 9, 8, 7), 2.5)
    torch.testing.assert_close(gaussian(constant, 2.0), constant)
