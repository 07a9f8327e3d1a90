"""Whether to believe a scan's result: pass, warn or fail, with reasons in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

PASS, WARN, UNFINISHED, FAIL = "pass", "warn", "unfinished", "fail"
VERDICTS = (FAIL, UNFINISHED, WARN, PASS)
"""The worst first; a scan that is unfinished has no result to judge yet."""

FATAL = ("affine:", "mask:")
"""How flags begin after which nothing else can be trusted."""

LEAST_COHORT = 8
"""Scans from which the cohort tells what is usual."""

FAR = 4.0
"""Robust z-score from which a value is unusual."""


@dataclass(frozen=True)
class Rule:
    """A measure and what is acceptable of it.

    Attributes
    ----------
    name : str
        The measure in words.
    path : tuple of str
        Where it stands in the metrics.
    good : int
        1 if larger is better, -1 if smaller is.
    warn, fail : float
        From where, towards the worse, a value is doubtful or unacceptable.
    apart : float
        Distance from the cohort's median below which nothing is unusual, however alike the
        others are.
    form : str
        How its numbers are written.
    """

    name: str
    path: tuple[str, ...]
    good: int
    warn: float
    fail: float
    apart: float
    form: str = ".2f"


RULES = (
    Rule(
        "local correlation with the atlas", ("Similarity", "LocalCorrelation"), 1, 0.65, 0.5, 0.08
    ),
    Rule("Dice with the cohort's consensus", ("Consensus", "DiceMean"), 1, 0.65, 0.5, 0.05),
    Rule("Dice with the atlas's labels", ("Overlap", "DiceMean"), 1, 0.5, 0.35, 0.07),
    Rule("Dice by the affine alone", ("Consensus", "DiceMeanAffine"), 1, 0.4, 0.2, 0.12),
    Rule("similarity of the affine", ("Affine", "Similarity"), 1, 0.3, 0.25, 0.1),
    Rule("overlap of the brain masks", ("Affine", "MaskOverlap"), 1, 0.88, 0.85, 0.04),
    Rule("folded voxels (%)", ("Folding", "FoldedPercent"), -1, 0.1, 1.0, 0.1, ".3f"),
    Rule(
        "non-diffeomorphic volume (%)", ("Folding", "NonDiffeomorphicPercent"), -1, 0.1, 1.0, 0.1,
        ".3f",
    ),
    Rule("SD of the log Jacobian", ("Folding", "SDlogJ"), -1, 0.9, 1.5, 0.2),
    Rule("inverse's 99th percentile (mm)", ("InverseConsistency", "P99mm"), -1, 1.5, 4.0, 1.0),
    Rule("volume of the brain mask (ml)", ("Affine", "MaskMl"), 0, np.nan, np.nan, 300, ".0f"),
    Rule("volume change of the affine", ("Affine", "Determinant"), 0, np.nan, np.nan, 0.25),
)  # fmt: skip
"""All that is judged. Limits lie well outside of what the sound scans of three cohorts have: local
correlation 0.76 and more (half a brain: 0.47), SD of the log Jacobian up to 0.57, 99th percentile
of the inverse up to 0.62 mm."""

FLAGGED = {
    "similarity of the affine": "affine: local correlation",
    "overlap of the brain masks": "affine: brain masks overlap",
    "volume of the brain mask (ml)": "mask: the brain has",
}
"""Measures, and how the flags begin that say the same."""

LOSS = 0.02
"""Dice that the deformable part may lose against the affine."""


@dataclass(frozen=True)
class Quality:
    """The verdict on a scan.

    Attributes
    ----------
    verdict : {"pass", "warn", "unfinished", "fail"}
        The worst that any reason says.
    reasons : tuple of (str, str)
        Verdict and words of each reason, the worst first.
    """

    verdict: str
    reasons: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, reasons: Sequence[tuple[str, str]]) -> Quality:
        """Judge by reasons."""
        ordered = sorted(dict.fromkeys(reasons), key=lambda reason: VERDICTS.index(reason[0]))
        return cls(ordered[0][0] if ordered else PASS, tuple(ordered))

    @property
    def words(self) -> str:
        """All reasons in one line."""
        return "; ".join(words for _, words in self.reasons)

    @property
    def severity(self) -> tuple[int, int, int]:
        """What scans are put in order by: the verdict, then how many reasons there are."""
        verdicts = [verdict for verdict, _ in self.reasons]
        return VERDICTS.index(self.verdict), -verdicts.count(FAIL), -verdicts.count(WARN)

    def summary(self) -> dict:
        """Give the verdict for the metrics."""
        return {
            "Verdict": self.verdict,
            "Reasons": [{"Verdict": verdict, "Reason": words} for verdict, words in self.reasons],
        }


def judge(metrics: Mapping) -> Quality:
    """Judge a scan by what was measured of it alone.

    Parameters
    ----------
    metrics : mapping
        Content of ``_metrics.json``; what it lacks is not judged.
    """
    reasons = [
        (FAIL if flag.startswith(FATAL) else WARN, flag) for flag in metrics.get("Flags", [])
    ]
    for rule in RULES:
        value = _value(metrics, rule)
        if value is None or not rule.good:
            continue
        for verdict, limit in ((FAIL, rule.fail), (WARN, rule.warn)):
            if rule.good * (value - limit) < 0:
                side = "at least" if rule.good > 0 else "at most"
                reasons.append(
                    (verdict, f"{rule.name} is {value:{rule.form}}, expected {side} {limit:g}")
                )
                break
    overlap = metrics.get("Consensus" if _has_consensus(metrics) else "Overlap") or {}
    before, after = (overlap.get(key) for key in ("DiceMeanAffine", "DiceMean"))
    if before is not None and after is not None and after < before - LOSS:
        reasons.append(
            (FAIL, f"the deformable part made it worse: Dice {after:.2f} after {before:.2f}")
        )
    return Quality.of(_without_repeats(reasons))


def tries(metrics: Mapping) -> tuple[str, ...]:
    """Say what was tried again of a scan that did not do well at first, and whether it helped.

    Parameters
    ----------
    metrics : mapping
        Content of ``_metrics.json``.
    """
    found = []
    affine, deformable = (metrics.get(name) or {} for name in ("Affine", "Deformable"))
    if affine.get("Starts", 1) > 1:
        found.append(f"the affine is the best of {affine['Starts']} starts")
    if again := deformable.get("SecondTry"):
        kept = "better, and kept" if again["Kept"] else "no better, and not kept"
        found.append(
            f"the refinement was run again from zero with {sum(again['Iterations'])} iterations: "
            f"local correlation {again['LocalCorrelation']:.2f}, {kept}"
        )
    return tuple(found)


def judge_cohort(cohort: Mapping[str, Mapping]) -> dict[str, Quality]:
    """Judge every scan alone, and by what is usual in its cohort.

    Parameters
    ----------
    cohort : mapping
        Metrics by scan, all in one atlas space.

    Returns
    -------
    dict
        A quality for every scan. A value is unusual if its robust z-score (by median and median
        absolute deviation, Iglewicz and Hoaglin, 1993) is beyond 4 towards the worse side, or on
        any side where neither is worse.
    """
    unusual: dict[str, list[tuple[str, str]]] = {name: [] for name in cohort}
    for rule in RULES:
        values = {name: _value(metrics, rule) for name, metrics in cohort.items()}
        known = {name: value for name, value in values.items() if value is not None}
        if len(known) < LEAST_COHORT:
            continue
        middle, scores = robust_z(list(known.values()))
        for (name, value), score in zip(known.items(), scores, strict=True):
            worse = -rule.good * score if rule.good else abs(score)
            if worse > FAR and abs(value - middle) > rule.apart:
                unusual[name].append(
                    (
                        WARN,
                        f"{rule.name} is {value:{rule.form}}, in this cohort usually "
                        f"{middle:{rule.form}} (robust z {score:+.0f})",
                    )
                )
    return {
        name: Quality.of(_without_repeats([*judge(metrics).reasons, *unusual[name]]))
        for name, metrics in cohort.items()
    }


def robust_z(values: Sequence[float]) -> tuple[float, np.ndarray]:
    """Give the median of values, and how many robust standard deviations each is from it."""
    found = np.asarray(values, dtype=float)
    middle = float(np.median(found))
    spread = 1.4826 * float(np.median(np.abs(found - middle)))
    away = found - middle
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.where(away == 0, 0.0, away / spread)
    return middle, np.clip(scores, -99, 99)


def _has_consensus(metrics: Mapping) -> bool:
    return (metrics.get("Consensus") or {}).get("DiceMean") is not None


def _value(metrics: Mapping, rule: Rule) -> float | None:
    """Give a measure; the atlas's approximate labels count only where there is no consensus."""
    if rule.path[0] == "Overlap" and _has_consensus(metrics):
        return None
    found: object = metrics
    for key in rule.path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) and np.isfinite(found) else None


def _without_repeats(reasons: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what a flag of mask or affine, or an earlier reason, says of the same measure."""
    flags = " ".join(words for _, words in reasons if words.startswith(FATAL))
    said = {name for name, sign in FLAGGED.items() if sign in flags}
    kept = []
    for verdict, words in reasons:
        measure = words.partition(" is ")[0]
        if measure not in said:
            kept.append((verdict, words))
        if any(measure == rule.name for rule in RULES):
            said.add(measure)
    return kept
