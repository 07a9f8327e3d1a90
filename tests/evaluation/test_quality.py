"""Verdicts and their reasons."""

import numpy as np
import pytest

from vxmprep.evaluation.quality import (
    FAIL,
    PASS,
    WARN,
    Quality,
    judge,
    judge_cohort,
    robust_z,
    tries,
)

SOUND = {
    "Flags": [],
    "Affine": {"Similarity": 0.5, "MaskOverlap": 0.96, "MaskMl": 1500.0, "Determinant": 0.75},
    "Folding": {"FoldedPercent": 0.0, "NonDiffeomorphicPercent": 0.0001, "SDlogJ": 0.5},
    "InverseConsistency": {"P99mm": 0.5},
    "Similarity": {"LocalCorrelation": 0.82},
    "Overlap": {"DiceMeanAffine": 0.67, "DiceMean": 0.73},
    "Consensus": {"DiceMeanAffine": 0.68, "DiceMean": 0.82},
}


def changed(section: str, **values) -> dict:
    return {**SOUND, section: {**SOUND[section], **values}}


def test_a_sound_scan_passes_without_a_reason():
    assert judge(SOUND) == Quality(PASS)


@pytest.mark.parametrize(
    ("section", "values", "verdict", "words"),
    [
        (
            "Similarity",
            {"LocalCorrelation": 0.6},
            WARN,
            "local correlation with the atlas is 0.60",
        ),
        ("Similarity", {"LocalCorrelation": 0.3}, FAIL, "expected at least 0.5"),
        ("Consensus", {"DiceMean": 0.4, "DiceMeanAffine": 0.41}, FAIL, "consensus is 0.40"),
        ("Folding", {"FoldedPercent": 0.5}, WARN, "folded voxels (%) is 0.500"),
        ("Folding", {"FoldedPercent": 3.0}, FAIL, "at most 1"),
        ("InverseConsistency", {"P99mm": 9.0}, FAIL, "inverse's 99th percentile"),
        ("Affine", {"MaskOverlap": 0.86}, WARN, "overlap of the brain masks is 0.86"),
        ("Consensus", {"DiceMean": 0.66, "DiceMeanAffine": 0.7}, FAIL, "made it worse"),
    ],
)
def test_what_is_doubtful_is_said_in_words(section, values, verdict, words):
    found = judge(changed(section, **values))
    assert found.verdict == verdict
    assert words in found.words


def test_what_was_tried_again_is_said_in_words():
    assert tries(SOUND) == ()
    again = {"Iterations": [80, 80, 40, 20], "LocalCorrelation": 0.42, "Kept": False}
    found = tries({**changed("Affine", Starts=24), "Deformable": {"SecondTry": again}})
    assert found == (
        "the affine is the best of 24 starts",
        "the refinement was run again from zero with 220 iterations: local correlation 0.42, "
        "no better, and not kept",
    )
    (helped,) = tries({"Deformable": {"SecondTry": {**again, "Kept": True}}})
    assert helped.endswith("better, and kept")


def test_flags_of_mask_and_affine_fail_and_others_warn():
    found = judge({**SOUND, "Flags": ["aseg.mgz: lies elsewhere", "affine: turned by 180"]})
    assert found.reasons == (
        (FAIL, "affine: turned by 180"),
        (WARN, "aseg.mgz: lies elsewhere"),
    )


def test_what_a_flag_says_is_not_said_twice():
    flag = "affine: local correlation with the atlas is 0.10, expected at least 0.25"
    assert judge({**changed("Affine", Similarity=0.1), "Flags": [flag]}).reasons == ((FAIL, flag),)


def test_the_cohort_does_not_say_again_what_a_limit_or_a_flag_says():
    flag = "mask: the brain has 109 ml, expected 566 to 2641"
    odd = {**changed("Affine", MaskMl=109.0), "Flags": [flag]}
    odd |= {"Consensus": {"DiceMeanAffine": 0.3, "DiceMean": 0.4}}
    words = judge_cohort({**cohort(), "sub-odd": odd})["sub-odd"].words
    assert words.count("Dice with the cohort's consensus") == 1
    assert "expected at least 0.5" in words
    assert "volume of the brain mask" not in words


def test_what_is_not_there_is_not_judged():
    assert judge({}).verdict == PASS
    assert judge({"Flags": [], "Overlap": {"DiceMean": None}, "Folding": None}).verdict == PASS


def cohort(n: int = 20) -> dict[str, dict]:
    generator = np.random.default_rng(0)
    return {
        f"sub-{i:02}": changed("Consensus", DiceMean=0.82 + 0.005 * generator.standard_normal())
        for i in range(n)
    }


def test_a_scan_unlike_its_cohort_is_told_with_what_is_usual():
    scans = {**cohort(), "sub-odd": changed("Consensus", DiceMean=0.7)}
    found = judge_cohort(scans)
    assert found["sub-odd"].verdict == WARN
    assert "0.70, in this cohort usually 0.82" in found["sub-odd"].words
    assert {q.verdict for name, q in found.items() if name != "sub-odd"} == {PASS}


def test_a_better_scan_is_not_unusual_but_a_larger_brain_is():
    scans = {**cohort(), "sub-good": changed("Consensus", DiceMean=0.95)}
    assert judge_cohort(scans)["sub-good"].verdict == PASS
    scans["sub-big"] = changed("Affine", MaskMl=2300.0)
    assert "2300, in this cohort usually 1500" in judge_cohort(scans)["sub-big"].words


def test_few_scans_do_not_tell_what_is_usual():
    scans = {**cohort(5), "sub-odd": changed("Consensus", DiceMean=0.7)}
    assert judge_cohort(scans)["sub-odd"].verdict == PASS


def test_differences_too_small_to_matter_are_not_unusual():
    scans = {f"sub-{i}": SOUND for i in range(20)} | {"x": changed("Consensus", DiceMean=0.80)}
    assert judge_cohort(scans)["x"].verdict == PASS


def test_robust_scores_are_those_of_median_and_mad():
    middle, scores = robust_z([1.0, 2.0, 3.0, 4.0, 100.0])
    assert middle == 3
    assert scores[3] == pytest.approx(1 / 1.4826)
    assert robust_z([2.0, 2.0, 2.0])[1].tolist() == [0, 0, 0]


def test_a_verdict_can_be_written_as_json():
    found = Quality.of([(WARN, "a"), (FAIL, "b"), (WARN, "a")])
    assert found.summary() == {
        "Verdict": "fail",
        "Reasons": [
            {"Verdict": "fail", "Reason": "b"},
            {"Verdict": "warn", "Reason": "a"},
        ],
    }


def test_the_atlass_approximate_labels_count_only_where_there_is_no_consensus():
    poor = changed("Overlap", DiceMeanAffine=0.6, DiceMean=0.3)
    assert judge(poor) == Quality(PASS)
    alone = judge({**poor, "Consensus": None})
    assert alone.verdict == FAIL
    assert "Dice with the atlas's labels is 0.30" in alone.words
    assert "made it worse: Dice 0.30 after 0.60" in alone.words
    others = {f"s{i}": changed("Overlap", DiceMean=0.7 + i / 1000) for i in range(9)}
    assert judge_cohort({**others, "odd": poor})["odd"] == Quality(PASS)
