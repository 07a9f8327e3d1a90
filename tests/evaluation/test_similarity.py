"""Similarity: against scikit-learn and a plain loop over windows."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter

from vxmprep.evaluation.similarity import binned, local_correlation, mutual_information

GENERATOR = np.random.default_rng(3)


def image(seed: int = 0, shape=(30, 28, 26)) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = gaussian_filter(noise, 2)
    return ((smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.float32)


def middle(shape=(30, 28, 26)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[8:22, 8:20, 8:18] = True
    return mask


def test_local_correlation_is_the_mean_of_squared_correlations_of_windows():
    one, other, mask = image(0), 0.5 * image(0) + image(1), middle()

    def scaled(x):
        return np.clip(x.astype(float) / np.percentile(x[mask], 99.5), 0, 1)

    def mean(x):
        return uniform_filter(x, 9)

    a, b = scaled(one), scaled(other)
    cross = mean(a * b) - mean(a) * mean(b)
    squared = cross**2 / (
        (mean(a * a) - mean(a) ** 2 + 1e-5) * (mean(b * b) - mean(b) ** 2 + 1e-5)
    )
    assert local_correlation(one, other, mask) == pytest.approx(squared[mask].mean(), abs=1e-4)


def test_an_image_correlates_with_itself_in_any_contrast_and_not_with_another():
    one = image(0)
    assert local_correlation(one, 40 * one, middle()) > 0.99
    assert local_correlation(one, image(1), middle()) < 0.2


def test_mutual_information_is_that_of_scikit_learn():
    score = pytest.importorskip("sklearn.metrics").mutual_info_score
    one, other, mask = image(0), image(0) ** 2 + 0.1 * image(1), middle()
    expected = score(binned(one[mask]), binned(other[mask]))
    assert mutual_information(one, other, mask) == pytest.approx(expected, rel=1e-9)
    assert expected > 0.5


def test_mutual_information_with_a_constant_is_0():
    assert mutual_information(image(), np.ones(image().shape), middle()) < 1e-12


def test_bins_are_of_equal_width_between_the_percentiles():
    values = GENERATOR.uniform(size=5000)
    expected = np.digitize(values, np.linspace(*np.percentile(values, (0.5, 99.5)), 65)[1:-1])
    assert (binned(values) == expected).mean() > 0.999


def test_an_empty_mask_has_no_similarity():
    empty = np.zeros(image().shape, bool)
    assert np.isnan(local_correlation(image(), image(), empty))
    assert np.isnan(mutual_information(image(), image(), empty))
