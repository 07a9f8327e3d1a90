"""Two registrations of the same participants, compared structure by structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 5000
SEED = 0


@dataclass(frozen=True)
class Difference:
    """A paired difference over participants.

    Attributes
    ----------
    participants : int
        People whom both have.
    first, second : float
        Means of either.
    difference : float
        Mean of first less second.
    low, high : float
        Its 95 % interval, by the percentile bootstrap over participants; NaN for one.
    effect : float
        Matched-pairs rank-biserial correlation, -1 to 1: the share of ranks for the first less
        that for the second.
    p : float
        Of Wilcoxon's signed-rank test, two-sided; NaN for one participant.
    """

    participants: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    effect: float
    p: float


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two measures of the same participants.

    Parameters
    ----------
    first, second : sequence of float
        A value of each participant, in the same order; none NaN.

    Raises
    ------
    ValueError
        If they are not of the same participants, or of none.

    References
    ----------
    Wilcoxon, Biometrics Bulletin 1(6) (1945); Kerby, Comprehensive Psychology 3 (2014) for the
    effect size; Efron and Tibshirani, An introduction to the bootstrap (1993).
    """
    from scipy.stats import bootstrap, rankdata, wilcoxon

    one, other = (np.asarray(values, dtype=float) for values in (first, second))
    if one.shape != other.shape or not one.size:
        raise ValueError(f"paired_difference: {one.size} and {other.size} participants")
    away = np.round(one - other, 9)  # equal differences of decimals are ties
    moved = away[away != 0]
    ranks = rankdata(np.abs(moved))
    effect = float((ranks * np.sign(moved)).sum() / ranks.sum()) if moved.size else 0.0
    low = high = p = float("nan")
    if one.size > 1:
        p = float(wilcoxon(moved).pvalue) if moved.size else 1.0
        low = high = float(away.mean())
        if np.ptp(away) > 0:
            found = bootstrap(
                (away,),
                np.mean,
                n_resamples=RESAMPLES,
                method="percentile",
                rng=np.random.default_rng(SEED),
            )
            low, high = (float(end) for end in found.confidence_interval)
    means = (float(one.mean()), float(other.mean()), float(away.mean()))
    return Difference(int(one.size), *means, low, high, effect, p)


def compare(
    first: Mapping[str, Mapping[int, float]], second: Mapping[str, Mapping[int, float]]
) -> dict[int, Difference]:
    """Compare each structure over the participants in whom both registrations have it.

    Parameters
    ----------
    first, second : mapping
        Values by structure of each participant.

    Returns
    -------
    dict
        Differences by structure, ascending; 0 stands for the mean of a participant's structures,
        those that both have.
    """
    pairs: dict[int, list[tuple[float, float]]] = {}
    for person in sorted(first.keys() & second.keys()):
        common = sorted(first[person].keys() & second[person].keys())
        both = [(first[person][label], second[person][label]) for label in common]
        if both:
            pairs.setdefault(0, []).append(tuple(np.mean(both, axis=0)))
        for label, pair in zip(common, both, strict=True):
            pairs.setdefault(label, []).append(pair)
    return {
        label: paired_difference(*zip(*values, strict=True))
        for label, values in sorted(pairs.items())
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method; NaN stays and does not count.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
    Statistics 6(2) (1979).
    """
    values = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    corrected = np.full(len(values), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected.tolist()
