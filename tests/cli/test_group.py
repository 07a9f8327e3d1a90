"""The level group, on outputs made of small files."""

import csv
import json
import re
import shutil
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from vxmprep.bids.records import Record, Stage
from vxmprep.cli.run import main

SPACE = "tiny"
SHAPE = (18, 17, 16)
ORDER = {"brain": "", "align": "brain", "labels": "align", "register": "align"}


def labels_of(number: int, off: int = 0, spread: int = 2) -> np.ndarray:
    generator = np.random.default_rng(number)
    labels = np.zeros(SHAPE, np.int16)
    for i, label in enumerate((17, 53, 10)):
        y, z = generator.integers(0, spread, 2)
        low = (1 + 5 * i, 4 + off + y, 4 + z)
        labels[tuple(slice(a, a + 5) for a in low)] = label
    return labels


def metrics_of(number: int, **more) -> dict:
    jitter = 0.003 * np.sin(number)
    return {
        "Flags": [],
        "Affine": {"Similarity": 0.5 + jitter, "MaskOverlap": 0.96, "MaskMl": 1500.0},
        "Similarity": {"LocalCorrelation": 0.8 + jitter, "MutualInformation": 0.9},
        "Folding": {"FoldedVoxels": 0, "FoldedPercent": 0.0, "SDlogJ": 0.4,
                    "JacobianPercentiles": {"1": 0.4, "5": 0.5, "25": 0.8, "50": 1.0, "75": 1.2,
                                            "95": 1.6, "99": 2.0}},
        "InverseConsistency": {"Meanmm": 0.1, "P99mm": 0.4},
        "Overlap": {"Reference": "atlas (x)", "DiceMeanAffine": 0.6, "DiceMean": 0.7},
        **more,
    }  # fmt: skip


DICE = """\
label\tname\treference\tvoxels_fixed\tvoxels_moving\tdice_affine\tdice\thd95_mm
17\tLeft-Hippocampus\tatlas (approximate)\t100\t125\t0.6000\t0.7000\t2.0000
53\tRight-Hippocampus\tatlas (approximate)\t100\t125\t0.6200\t0.7200\t3.0000
"""


def add_scan(out: Path, name: str, number: int, *, off: int = 0, **more) -> None:
    """Leave what a finished run leaves of a scan."""
    anat = out / name.split("_")[0] / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    files = {
        "labels_in_atlas": anat / f"{name}_space-{SPACE}_desc-aseg_dseg.nii.gz",
        "labels_in_atlas_affine": anat / f"{name}_space-{SPACE}_desc-asegaffine_dseg.nii.gz",
        "dice": anat / f"{name}_space-{SPACE}_desc-registration_dice.tsv",
        "metrics": anat / f"{name}_space-{SPACE}_desc-registration_metrics.json",
    }
    own = labels_of(number, off)
    nb.save(nb.Nifti1Image(own, np.eye(4)), files["labels_in_atlas"])
    worse = labels_of(number + 1000, spread=4)
    nb.save(nb.Nifti1Image(worse, np.eye(4)), files["labels_in_atlas_affine"])
    files["dice"].write_text(DICE)
    files["metrics"].write_text(json.dumps(metrics_of(number, **more)))
    side = {"Sources": ["bids:raw:x_T1w.nii.gz", "aseg.mgz"]}
    (anat / f"{name}_space-{SPACE}_desc-aseg_dseg.json").write_text(json.dumps(side))
    record = Record.of(out, name)
    for stage, after in ORDER.items():
        space = "" if stage == "brain" else SPACE
        record.finish(Stage(stage, space, {}, after=after), files={}, checksums={})
    record.took("register", seconds=40 + number, cpu_seconds=40, peak_gb=2.5)
    evaluate = Stage("evaluate", SPACE, {}, after="register")
    record.finish(evaluate, files=files, checksums={})


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Ten scans of nine participants, and one that failed."""
    out = tmp_path_factory.mktemp("cohort") / "out"
    for i in range(1, 9):
        add_scan(out, f"sub-{i:02}", i)
    for session in (1, 2):
        add_scan(out, f"sub-09_ses-{session}", 9)
    Record.of(out, "sub-10").fail(step="strip", cause="no brain is found in this scan")
    return out


@pytest.fixture
def out(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "elsewhere" / "mōved"))


def group(out: Path, *more: str) -> int:
    return main(
        [str(out.parent / "gone"), str(out), "group", "-w", str(out.parent / "w"),
         "--nprocs", "1", *more]
    )  # fmt: skip


def test_it_needs_nothing_but_the_output_folder_wherever_it_is(out, capsys):
    assert group(out) == 0
    rows = {row["scan"]: row for row in read(out / "group_registration.tsv")}
    assert len(rows) == 11
    row = rows["sub-01"]
    assert row["quality"] == "pass"
    assert row["reference"] == "leave-one-out consensus of 8 others"
    assert row["segmentation"] == "aseg.mgz"
    assert row["atlas_reference"] == "atlas (approximate)"
    assert float(row["atlas_dice"]) == pytest.approx(0.71)
    assert float(row["dice"]) > float(row["dice_affine"]) > 0
    assert row["seconds"] == "41"
    assert "10 pass, 0 warn, 1 fail" in capsys.readouterr().out
    assert not (out.parent / "w").exists()


def test_among_many_participants_what_sticks_out_is_found(tmp_path):
    """They lie in 16 ways, so that each has others who lie alike."""
    out = tmp_path / "out"
    for i in range(1, 151):
        add_scan(out, f"sub-{i:03}", 1 + i % 16, off=7 if i == 100 else 0)
    assert group(out) == 0
    rows = read(out / "group_registration.tsv")
    assert len(rows) == 150
    assert rows[0]["scan"] == "sub-100"
    assert [row["scan"] for row in rows if row["quality"] == "fail"] == ["sub-100"]
    assert rows[0]["reference"] == "leave-one-out consensus of 149 others"


def test_what_failed_stands_first_with_its_reason(out):
    group(out)
    first = read(out / "group_registration.tsv")[0]
    assert (first["scan"], first["quality"]) == ("sub-10", "fail")
    assert first["why"] == "failed at the step strip: no brain is found in this scan"
    assert first["dice"] == "n/a"


def test_of_what_failed_the_worst_stands_first(out):
    add_scan(out, "sub-11", 11, Flags=["affine: odd"])
    add_scan(out, "sub-12", 12, Flags=["affine: odd", "mask: odd"])
    group(out)
    rows = read(out / "group_registration.tsv")
    assert [row["scan"] for row in rows[:3]] == ["sub-10", "sub-12", "sub-11"]
    assert rows[3]["quality"] == "pass"


def test_the_table_of_structures_names_both_references(out):
    group(out)
    rows = read(out / "group_overlap.tsv")
    assert len(rows) == 3 * 10
    row = next(r for r in rows if (r["scan"], r["label"]) == ("sub-03", "17"))
    assert row["name"] == "Left-Hippocampus"
    assert row["reference"].startswith("leave-one-out consensus")
    assert row["atlas_reference"] == "atlas (approximate)"
    assert (row["atlas_dice_affine"], row["atlas_dice"], row["atlas_hd95_mm"]) == (
        "0.6000", "0.7000", "2.0000",
    )  # fmt: skip
    assert 0 < float(row["dice"]) <= 1
    thalamus = next(r for r in rows if r["label"] == "10")
    assert thalamus["atlas_dice"] == "n/a"
    assert json.loads((out / "group_overlap.json").read_text())["dice"]["Description"]


def test_a_scan_that_is_not_done_yet_is_unfinished_and_has_not_failed(out, capsys):
    turned = "affine: the head is turned by 178 degrees"
    for name, count in (("sub-11", 2), ("sub-12", 3), ("sub-13", 4), ("sub-14", 3)):
        for stage, after in list(ORDER.items())[:count]:
            done = Stage(stage, "" if stage == "brain" else SPACE, {}, after=after)
            flags = [turned] if (name, stage) == ("sub-14", "align") else []
            Record.of(out, name).finish(done, files={}, checksums={}, flags=flags)
    assert group(out) == 0
    rows = {row["scan"]: row for row in read(out / "group_registration.tsv")}
    more = "; run the level participant to go on"
    found = {name: (rows[name]["quality"], rows[name]["why"]) for name in rows if name > "sub-10"}
    known = f"{turned}; prepared, not yet registered{more}"
    assert found.pop("sub-14") == ("fail", known), "told before it is registered"
    assert found == {
        "sub-11": ("unfinished", f"not yet prepared{more}"),
        "sub-12": ("unfinished", f"prepared, not yet registered{more}"),
        "sub-13": ("unfinished", f"registered, not yet evaluated{more}"),
    }
    assert [*rows][:5] == ["sub-10", "sub-14", "sub-11", "sub-12", "sub-13"]
    said = capsys.readouterr().out
    assert "10 pass, 0 warn, 3 unfinished, 2 fail" in said
    assert "without 1 that failed" not in said


def test_the_mean_of_a_scan_is_over_its_structures(out):
    group(out)
    structures = [r for r in read(out / "group_overlap.tsv") if r["scan"] == "sub-02"]
    row = next(r for r in read(out / "group_registration.tsv") if r["scan"] == "sub-02")
    for name in ("dice", "dice_affine", "hd95_mm"):
        mean = np.mean([float(r[name]) for r in structures])
        assert float(row[name]) == pytest.approx(mean, rel=1e-4)
    assert row["structures"] == "3"


def test_a_wrong_scan_is_told_with_the_right_reason(out):
    turned = "affine: the head is turned by 178 degrees"
    add_scan(out, "sub-11", 11, Flags=[turned])
    add_scan(out, "sub-12", 12, off=4)
    group(out)
    rows = {row["scan"]: row for row in read(out / "group_registration.tsv")}
    assert rows["sub-11"]["quality"] == "fail"
    assert turned in rows["sub-11"]["why"]
    assert rows["sub-12"]["quality"] == "fail"
    assert "Dice with the cohort's consensus" in rows["sub-12"]["why"]


def test_the_verdicts_are_there_for_the_pages_of_the_participants(out):
    add_scan(out, "sub-12", 12, off=4)
    group(out)
    text = (out / "assets" / "cohort.js").read_text(encoding="utf-8")
    found = json.loads(text.removeprefix("window.vxmprepCohort = ").removesuffix(";\n"))
    assert len(found) == 11, "the scan that failed has no result to judge"
    row = next(r for r in read(out / "group_registration.tsv") if r["scan"] == "sub-12")
    (said,) = (one for key, one in found.items() if key.startswith(f"sub-12 {SPACE} "))
    assert said["verdict"] == "fail"
    assert "; ".join(said["reasons"]) == row["why"]


def test_files_that_are_gone_are_told_and_the_others_judged(out):
    (out / "sub-02" / "anat" / f"sub-02_space-{SPACE}_desc-aseg_dseg.nii.gz").unlink()
    shutil.rmtree(out / "sub-03")
    gone = {"figure_full": out / "sub-05" / "figures" / "gone.webp"}
    report = Stage("report", SPACE, {}, after="evaluate")
    Record.of(out, "sub-05").finish(report, files=gone, checksums={})
    assert group(out) == 0
    rows = {row["scan"]: row for row in read(out / "group_registration.tsv")}
    assert rows["sub-02"]["why"].endswith(
        "_dseg.nii.gz is not there any more; run the level participant again"
    )
    assert rows["sub-03"]["quality"] == "warn"
    assert re.search(r" and \d+ more are not there any more; run", rows["sub-03"]["why"])
    assert rows["sub-05"]["quality"] == "pass", "a picture is no result"
    assert rows["sub-04"]["reference"] == "leave-one-out consensus of 6 others"


def test_a_single_participant_has_a_table_without_a_consensus(tmp_path, capsys):
    out = tmp_path / "out"
    add_scan(out, "sub-01", 1)
    assert group(out) == 0
    (row,) = read(out / "group_registration.tsv")
    assert (row["dice"], row["atlas_dice"]) == ("n/a", "0.71")
    said = capsys.readouterr().out
    assert "too few for a consensus" in said
    assert "mean Dice with the atlas's labels: 0.610, 0.710 (affine, full) of 1 scan" in said


def test_a_scan_that_failed_neither_votes_nor_counts_in_the_mean(out, capsys):
    group(out)
    before = capsys.readouterr().out
    add_scan(out, "sub-11", 11, off=4)
    Record.of(out, "sub-11").fail(step="register", cause="the input has changed")
    group(out)
    said = capsys.readouterr().out
    rows = {row["scan"]: row for row in read(out / "group_registration.tsv")}
    assert rows["sub-11"]["quality"] == "fail"
    assert rows["sub-11"]["dice"] != "n/a"
    assert rows["sub-01"]["reference"] == "leave-one-out consensus of 8 others"
    mean = "mean Dice with the consensus of the others"
    (old,), (new,) = ([x for x in text.splitlines() if mean in x] for text in (before, said))
    assert new == f"{old}, without 1 that failed"


def test_label_sets_and_lists(out, tmp_path):
    group(out, "--labels", "common")
    saved = read(out / "group_labels.tsv")
    assert [row["index"] for row in saved] == ["10", "17", "53"]
    listed = tmp_path / "ids.txt"
    listed.write_text("17, 53  # hippocampi\n", encoding="utf-8-sig")
    assert group(out, "--labels", str(listed)) == 0
    assert {row["label"] for row in read(out / "group_overlap.tsv")} == {"17", "53"}
    # The list that was saved can be given to another cohort.
    again = Path(shutil.copy(out / "group_labels.tsv", tmp_path / "again.tsv"))
    again.write_text(again.read_text() + "a row cut short\n")
    assert group(out, "--labels", str(again)) == 0
    assert {row["label"] for row in read(out / "group_overlap.tsv")} == {"17", "53"}


def test_left_and_right_are_joined_on_request(out):
    assert group(out, "--join-hemispheres") == 0
    named = {(row["label"], row["name"]) for row in read(out / "group_overlap.tsv")}
    assert named == {("10", "Thalamus-Proper"), ("17", "Hippocampus")}
    labels = read(out / "group_labels.tsv")
    assert len(labels) == 17
    assert ("3", "Cerebral-Cortex") in {(row["index"], row["name"]) for row in labels}
    # Every map votes but the own, the second session of a person as little as the first.
    people = {f"sub-{i:02}": np.isin(labels_of(i), (17, 53)) for i in range(1, 10)}
    others = sum(m.astype(int) for name, m in people.items() if name != "sub-04") > 4
    own = people["sub-04"]
    rows = {row["scan"]: row for row in read(out / "group_overlap.tsv") if row["label"] == "17"}
    expected = 2 * (others & own).sum() / (others.sum() + own.sum())
    assert float(rows["sub-04"]["dice"]) == pytest.approx(expected, abs=1e-4)
    assert rows["sub-04"]["voxels_moving"] == "250"


def test_the_atlas_columns_are_joined_from_the_counts_of_both_sides(out):
    anat = out / "sub-01" / "anat"
    table = DICE.replace("53\tRight-Hippocampus\tatlas (approximate)\t100\t125",
                         "53\tRight-Hippocampus\tatlas (approximate)\t300\t75")  # fmt: skip
    (anat / f"sub-01_space-{SPACE}_desc-registration_dice.tsv").write_text(table)
    affine = np.zeros(SHAPE, np.int16)
    affine[:4, :5, :5], affine[6:8, :5, :5] = 17, 53  # 100 and 50 voxels
    path = anat / f"sub-01_space-{SPACE}_desc-asegaffine_dseg.nii.gz"
    nb.save(nb.Nifti1Image(affine, np.eye(4)), path)
    assert group(out, "--join-hemispheres") == 0
    row = next(
        r for r in read(out / "group_overlap.tsv") if (r["scan"], r["label"]) == ("sub-01", "17")
    )
    full = 0.7 * (100 + 125) / 2 + 0.72 * (300 + 75) / 2
    assert float(row["atlas_dice"]) == pytest.approx(2 * full / (400 + 200), abs=1e-4)
    before = 0.6 * (100 + 100) / 2 + 0.62 * (300 + 50) / 2
    assert float(row["atlas_dice_affine"]) == pytest.approx(2 * before / (400 + 150), abs=1e-4)
    assert row["atlas_hd95_mm"] == "n/a"
    scan = next(r for r in read(out / "group_registration.tsv") if r["scan"] == "sub-01")
    assert (scan["atlas_dice"], scan["atlas_hd95_mm"]) == (row["atlas_dice"], "n/a")


def test_the_page_shows_what_the_joined_table_says(out):
    group(out, "--join-hemispheres")
    rows = read(out / "group_overlap.tsv")
    text = (out / "group.html").read_text(encoding="utf-8")
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert sorted(data["structures"]) == ["Hippocampus", "Thalamus Proper"]
    own = next(row for row in rows if (row["scan"], row["label"]) == ("sub-03", "17"))
    drawn = next(scan for scan in data["scans"] if scan["scan"] == "sub-03")["dice_of"]
    assert drawn["Hippocampus"] == pytest.approx(
        [float(own["dice_affine"]), float(own["dice"])], abs=1e-4
    )


def test_outputs_joined_and_apart_are_not_compared(out, tmp_path, capsys):
    other = tmp_path / "other"
    for i in range(1, 6):
        add_scan(other, f"sub-{i:02}", 100 + i)
    assert group(other) == 0
    capsys.readouterr()
    assert group(out, "--join-hemispheres", "--compare", str(other)) == 2
    said = capsys.readouterr().err
    assert "left and right are apart in its group_overlap.tsv" in said
    assert said.rstrip().endswith("run the level group on it again with --join-hemispheres")
    assert len(said.splitlines()) == 1
    assert not (out / "group_overlap.tsv").exists(), "it is said before the work"
    assert group(other, "--join-hemispheres") == 0
    capsys.readouterr()
    assert group(out, "--compare", str(other)) == 2
    assert "again without --join-hemispheres" in capsys.readouterr().err
    assert group(out, "--join-hemispheres", "--compare", str(other)) == 0
    names = {row["label"]: row["name"] for row in read(out / "group_comparison.tsv")}
    assert names == {
        "0": "mean of the structures", "10": "Thalamus-Proper", "17": "Hippocampus",
    }  # fmt: skip


def test_scans_that_are_left_out_are_in_no_table(out, tmp_path, capsys):
    (tmp_path / "bad.txt").write_text("sub-09 twice\nsub-10\nsub-77\n")
    assert group(out, "--exclude", str(tmp_path / "bad.txt")) == 0
    assert len(read(out / "group_registration.tsv")) == 8
    said = capsys.readouterr().out
    assert "left out of the group: sub-09_ses-1: bad.txt: twice" in said
    assert "bad.txt: line 3: there is no result of sub-77" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "vxm31"], "--labels vxm31: neither vxm30, all, common nor a file"),
        (["--compare", "/no/where"], "--compare /no/where: no such folder"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(out, words, said, capsys):
    assert group(out, *words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("text", "said"), [("17 x", "'x' is no label"), ("#\n", "no label")])
def test_a_list_that_is_none_is_refused(out, tmp_path, text, said, capsys):
    (tmp_path / "ids.txt").write_text(text)
    assert group(out, "--labels", str(tmp_path / "ids.txt")) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--labels", "--compare", "--exclude"])
def test_files_are_refused_before_any_scan_is_looked_at(option, out, tmp_path, capsys):
    (tmp_path / "bids").mkdir()
    given = tmp_path / "given"
    given.mkdir() if option == "--compare" else given.write_bytes(b"\xff")
    where = [str(tmp_path / "bids"), str(out)]
    assert main([*where, "participant", "group", option, str(given)]) == 2
    assert capsys.readouterr().err.startswith(f"vxmprep: {option} {given}: ")


def test_a_folder_without_records_is_refused(tmp_path, capsys):
    assert group(tmp_path) == 2
    assert "no records of scans" in capsys.readouterr().err
    assert group(tmp_path / "none") == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_person_under_two_labels_never_votes_on_themselves(out, tmp_path, capsys):
    """Scans 1 and 2 are of one person: each is compared with the majority of the other seven."""
    bids = tmp_path / "elsewhere" / "gone"
    bids.mkdir()
    table = "participant_id\tperson\nsub-01\tA\nsub-02\tA\nsub-03\tn/a\n"
    (bids / "participants.tsv").write_text(table)
    assert group(out) == 0
    others = [labels_of(i) for i in range(3, 10)]
    majority = sum((labels == 17).astype(int) for labels in others) > 3
    for number in (1, 2):
        own = labels_of(number) == 17
        expected = 2 * (majority & own).sum() / (majority.sum() + own.sum())
        rows = [r for r in read(out / "group_overlap.tsv") if r["scan"] == f"sub-0{number}"]
        row = next(r for r in rows if r["label"] == "17")
        assert row["reference"] == "leave-one-out consensus of 7 others"
        assert float(row["dice"]) == pytest.approx(expected, abs=1e-4)
    other = Path(shutil.copytree(out, tmp_path / "other"))
    first = (out / "group_overlap.tsv").read_text()
    shutil.rmtree(bids)
    assert group(out, "--compare", str(other)) == 0
    assert (out / "group_overlap.tsv").read_text() == first, "it is kept for a moved output"
    assert read(out / "group_comparison.tsv")[0]["participants"] == "8"
    bids.mkdir()
    (bids / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    assert group(out) == 0
    assert not (out / "group_people.tsv").exists()
    assert "consensus of 8 others" in (out / "group_overlap.tsv").read_text()


def test_two_outputs_are_compared_paired_over_participants(out, tmp_path, capsys):
    other = tmp_path / "other"
    for i in range(1, 10):
        add_scan(other, f"sub-{i:02}", 100 + i, off=i % 3)
    assert group(other) == 0
    capsys.readouterr()
    assert group(out, "--compare", str(other)) == 0
    rows = {row["label"]: row for row in read(out / "group_comparison.tsv")}
    assert list(rows) == ["0", "10", "17", "53"]
    assert rows["0"]["participants"] == "9"
    tables = [read(folder / "group_overlap.tsv") for folder in (out, other)]
    for label in ("10", "17"):
        people = [
            {
                f"sub-{i:02}": np.mean(
                    [
                        float(r["dice"])
                        for r in table
                        if r["label"] == label and r["scan"].startswith(f"sub-{i:02}")
                    ]
                )
                for i in range(1, 10)
            }
            for table in tables
        ]
        away = np.array([people[0][name] - people[1][name] for name in people[0]])
        assert float(rows[label]["difference"]) == pytest.approx(away.mean(), abs=1e-4)
        assert float(rows[label]["low"]) < away.mean() < float(rows[label]["high"])
    assert rows["0"]["p_holm"] == "n/a", "one question, and nothing to correct for"
    assert float(rows["0"]["p"]) > 0
    assert float(rows["17"]["p_holm"]) >= float(rows["17"]["p"])
    said = capsys.readouterr().out
    assert "mean Dice with leave-one-out consensus" in said
    assert "Beware" not in said
    assert "too few" not in said, "9 people are enough for 3 structures"
    assert "Compared with" in (out / "group.html").read_text(encoding="utf-8")


def test_consensuses_of_other_people_are_not_compared_without_a_word(out, tmp_path, capsys):
    other = tmp_path / "other"
    for i in range(1, 6):
        add_scan(other, f"sub-{i:02}", 100 + i)
    assert group(other) == 0
    capsys.readouterr()
    assert group(out, "--compare", str(other)) == 0
    said = (
        "Beware: the references are not the same, that of sub-01 for example is leave-one-out "
        "consensus of 8 others in this output and leave-one-out consensus of 4 others in the other"
    )
    assert said in capsys.readouterr().out


def test_an_output_is_not_compared_with_itself(out, capsys):
    assert group(out) == 0
    capsys.readouterr()
    assert group(out, "--compare", str(out / "logs" / "..")) == 2
    said = capsys.readouterr().err
    assert said.rstrip().endswith("is OUTPUT_DIR itself; give the folder of another run")
    assert len(said.splitlines()) == 1


def test_too_few_participants_for_the_test_are_told(out, tmp_path, capsys):
    other = tmp_path / "other"
    for i in range(1, 6):
        add_scan(other, f"sub-{i:02}", 100 + i)
    assert group(other) == group(out, "--compare", str(other)) == 0
    said = capsys.readouterr().out
    assert "5 participants are too few for p < 0.05" in said
    assert "6 are needed for that of the mean" in said
    page = (out / "group.html").read_text(encoding="utf-8")
    assert "6 are needed for that of the mean" in page
    assert min(float(row["p"]) for row in read(out / "group_comparison.tsv")) >= 0.05


def test_a_comparison_that_is_not_of_these_tables_does_not_stay(out, tmp_path):
    other = Path(shutil.copytree(out, tmp_path / "other"))
    assert group(other) == group(out, "--compare", str(other)) == 0
    assert (out / "group_comparison.tsv").exists()
    assert group(out) == 0
    assert not list(out.glob("group_comparison.*"))


def test_an_output_that_cannot_be_compared_is_refused(out, tmp_path, capsys):
    assert group(out, "--compare", str(tmp_path)) == 2
    assert "run the level group on it first" in capsys.readouterr().err
    (tmp_path / "group_overlap.tsv").write_text("scan\tspace\n")
    assert group(out, "--compare", str(tmp_path)) == 2
    assert "group_overlap.tsv: has no column atlas_dice; run" in capsys.readouterr().err
    assert not (out / "group_overlap.tsv").exists(), "it is said before the work"
    other = tmp_path / "others"
    add_scan(other, "sub-99", 1)
    assert group(other) == 0
    assert group(out, "--compare", str(other)) == 2
    assert "no participant has a segmentation in the same atlas" in capsys.readouterr().err
