"""Paired comparisons: against scipy, closed forms, and simulated cohorts."""

import numpy as np
import pytest
from scipy import stats

from vxmprep.evaluation.compare import compare, holm, paired_difference

GENERATOR = np.random.default_rng(5)


def test_p_is_that_of_wilcoxons_test_and_means_are_means():
    one = GENERATOR.normal(0.8, 0.02, 30)
    other = one - GENERATOR.normal(0.01, 0.02, 30)
    found = paired_difference(one, other)
    assert found.p == pytest.approx(stats.wilcoxon(one, other).pvalue)
    assert (found.first, found.second) == pytest.approx((one.mean(), other.mean()))
    assert found.difference == pytest.approx((one - other).mean())
    assert found.participants == 30


def test_the_effect_is_1_if_everyone_is_better_and_of_the_other_sign_turned_round():
    one = GENERATOR.normal(0.8, 0.02, 12)
    assert paired_difference(one, one - 0.01).effect == 1
    other = one + GENERATOR.normal(0, 0.02, 12)
    assert paired_difference(one, other).effect == pytest.approx(
        -paired_difference(other, one).effect
    )


def test_the_effect_is_the_difference_of_the_shares_of_ranks():
    # Differences 3, 2, -1: ranks 3 and 2 for, 1 against.
    assert paired_difference([3, 2, 0], [0, 0, 1]).effect == pytest.approx((5 - 1) / 6)


def test_the_interval_covers_the_mean_of_the_population_as_often_as_it_says():
    covered = 0
    for _ in range(60):
        away = GENERATOR.normal(0.01, 0.02, 40)
        found = paired_difference(away, np.zeros(40))
        covered += found.low <= 0.01 <= found.high
    assert covered >= 50


def test_the_interval_is_the_same_every_time():
    one, other = GENERATOR.normal(0.8, 0.02, (2, 20))
    assert paired_difference(one, other) == paired_difference(one, other)


def test_equal_differences_of_decimals_are_ties():
    thousandths = np.array([[813, 803], [727, 717], [655, 645], [902, 912], [801, 790]])
    found, whole = (paired_difference(*values.T) for values in (thousandths / 1000, thousandths))
    assert (found.p, found.effect) == (whole.p, whole.effect)


def test_equal_registrations_do_not_differ():
    found = paired_difference([0.7, 0.8, 0.9], [0.7, 0.8, 0.9])
    assert (found.difference, found.low, found.high, found.effect, found.p) == (0, 0, 0, 0, 1)


def test_one_participant_tells_no_p():
    found = paired_difference([0.8], [0.7])
    assert found.difference == pytest.approx(0.1)
    assert np.isnan([found.p, found.low, found.high]).all()


def test_different_participants_are_refused():
    with pytest.raises(ValueError, match="2 and 1 participants"):
        paired_difference([1, 2], [1])


def test_structures_are_paired_over_the_participants_that_both_have():
    first = {"a": {17: 0.8, 53: 0.9}, "b": {17: 0.7}, "c": {17: 0.6}}
    second = {"a": {17: 0.7, 53: 0.6, 2: 0.5}, "b": {17: 0.6, 53: 0.4}, "d": {17: 0.1}}
    found = compare(first, second)
    assert list(found) == [0, 17, 53]
    assert found[17].participants == 2
    assert found[17].difference == pytest.approx(0.1)
    assert found[53].participants == 1
    assert found[0].first == pytest.approx((0.85 + 0.7) / 2)


def test_holm_is_the_step_down_method():
    # statsmodels' multipletests(method="holm") of these gives the same.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.02, float("nan"), 0.03]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)
    assert holm([]) == []
