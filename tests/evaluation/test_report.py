"""The table of Dice and the metrics."""

import csv

import numpy as np
import pytest

from vxmprep.evaluation.report import as_tsv, dice_table, gather, number, rounded

FIXED = np.array([[[17, 17, 17, 17, 53, 53, 1024, 0]]])
AFFINE = np.array([[[17, 17, 0, 0, 53, 3, 3, 10]]])
FULL = np.array([[[17, 17, 17, 0, 53, 53, 1030, 0]]])


@pytest.fixture(scope="module")
def table() -> tuple[list[dict], dict]:
    return dice_table(FIXED, AFFINE, FULL, reference="atlas (approximate)")


@pytest.fixture(scope="module")
def rows(table) -> dict[str, dict]:
    lines = as_tsv(table[0]).splitlines()
    return {row["label"]: row for row in csv.DictReader(lines, delimiter="\t")}


def test_the_columns_are_those_that_are_documented(table):
    header = as_tsv(table[0]).splitlines()[0].split("\t")
    assert header == [
        "label", "name", "reference", "voxels_fixed", "voxels_moving", "dice_affine", "dice",
        "hd95_mm", "average_distance_mm", "jaccard", "volume_difference_percent",
    ]  # fmt: skip


def test_there_is_a_row_for_every_structure_of_any_side(rows):
    assert list(rows) == ["3", "10", "17", "53"]


def test_a_row_holds_dice_with_the_affine_alone_and_with_all(rows):
    row = rows["17"]
    assert row["name"] == "Left-Hippocampus"
    assert row["reference"] == "atlas (approximate)"
    assert (row["voxels_fixed"], row["voxels_moving"]) == ("4", "3")
    assert float(row["dice_affine"]) == pytest.approx(2 * 2 / 6, abs=1e-4)
    assert float(row["dice"]) == pytest.approx(2 * 3 / 7, abs=1e-4)


def test_parcels_count_as_cortex(rows):
    assert float(rows["3"]["dice"]) == 1


def test_parcels_that_the_atlas_has_too_are_compared_one_by_one_beside_the_cortex():
    fixed = np.array([[[1024, 1024, 1030, 2024, 17]]])
    full = np.array([[[1024, 1030, 1030, 2024, 17]]])
    rows, summary = dice_table(fixed, fixed, full, reference="atlas")
    dice = {row["label"]: row["dice"] for row in rows}
    assert dice == {
        3: "1.0000", 17: "1.0000", 42: "1.0000", 1024: "0.6667", 1030: "0.6667", 2024: "1.0000",
    }  # fmt: skip
    assert {row["label"]: row["dice_affine"] for row in rows}[1024] == "1.0000"
    assert summary["Structures"] == 3, "means are over the paper's structures as ever"


def test_parcels_of_another_parcellation_count_as_cortex_alone():
    fixed = np.array([[[1024, 1024, 2030, 17]]])
    full = np.array([[[11102, 11175, 12101, 17]]])
    rows, _ = dice_table(fixed, full, full, reference="atlas")
    assert {row["label"]: row["dice"] for row in rows} == {
        3: "1.0000", 17: "1.0000", 42: "1.0000",
    }  # fmt: skip


def test_a_structure_absent_from_a_side_is_not_0_but_not_available(rows):
    assert (rows["10"]["dice_affine"], rows["10"]["dice"]) == ("n/a", "n/a")
    assert (rows["10"]["voxels_fixed"], rows["10"]["voxels_moving"]) == ("0", "0")


def test_a_row_holds_distance_union_and_volume(rows):
    row = rows["17"]
    # One voxel of four in a row is missing.
    assert 0 <= float(row["average_distance_mm"]) <= float(row["hd95_mm"]) <= 1
    assert float(row["jaccard"]) == pytest.approx(3 / 4, abs=1e-4)
    assert float(row["volume_difference_percent"]) == pytest.approx(-25)
    assert {rows["10"][name] for name in ("hd95_mm", "jaccard")} == {"n/a"}


def test_distances_are_in_millimetres():
    slab = np.zeros((20, 9, 9), int)
    slab[5:10] = 17
    rows, summary = dice_table(
        slab, slab, np.roll(slab, 2, 0), reference="atlas", spacing=(3, 1, 1)
    )
    assert float(rows[0]["hd95_mm"]) == pytest.approx(6)
    assert summary["HD95Meanmm"] == pytest.approx(6)


def test_the_summary_is_the_mean_and_counts_what_is_absent(table):
    _, summary = table
    assert summary["Structures"] == 3
    assert summary["StructuresAbsent"] == 27
    assert summary["DiceMean"] == pytest.approx((6 / 7 + 1 + 1) / 3, abs=1e-4)
    assert summary["DiceMeanAffine"] == pytest.approx((4 / 6 + 2 / 3 + 2 / 3) / 3, abs=1e-4)


def test_without_a_common_structure_the_mean_is_null():
    rows, summary = dice_table(FIXED, 0 * FIXED, 0 * FIXED, reference="atlas")
    assert summary["DiceMean"] is None
    assert {row["dice"] for row in rows} == {"n/a"}


def test_both_means_are_over_the_same_structures():
    worse, lost = np.where(FIXED == 53, 0, FIXED), FIXED.copy()
    worse[..., 5] = 53
    lost[FIXED == 53] = 0
    # 53 is poor with the affine and absent with all: compared like with like, nothing changed.
    _, summary = dice_table(FIXED, worse, lost, reference="atlas")
    assert summary["DiceMeanAffine"] == summary["DiceMean"]


def test_a_table_without_rows_has_its_header():
    assert as_tsv([]).count("\n") == 1


@pytest.mark.parametrize(("value", "text"), [(0.123456, "0.1235"), (float("nan"), "n/a")])
def test_numbers_of_tables(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("value", "expected"), [(0.123456, 0.1235), (float("nan"), None)])
def test_numbers_of_json(value, expected):
    assert rounded(value) == expected


def test_flags_of_all_sections_come_to_the_top():
    sections = {"Affine": {"Similarity": 0.2, "Flags": ["poor"]}, "Folding": {"FoldedVoxels": 0}}
    found = gather(sections, {"DiceMean": 0.8}, ["refused"])
    assert found.pop("Quality")["Verdict"] == "fail"
    assert found == {
        "Flags": ["poor", "refused"],
        "Affine": {"Similarity": 0.2},
        "Folding": {"FoldedVoxels": 0},
        "Overlap": {"DiceMean": 0.8},
    }
