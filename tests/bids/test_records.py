"""What is done already, by the records of scans alone."""

import json
import os
from dataclasses import replace

import pytest

from vxmprep.bids.records import InputChangedError, Record, Stage, seen_of
from vxmprep.bids.results import find_results
from vxmprep.bids.status import COLUMNS, status_row, write_status
from vxmprep.spatial.files import checksum


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "sub-01_T1w.nii.gz"
    path.write_bytes(b"voxels")
    return path


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def stages(scan, *, space="MNI", **settings) -> list[Stage]:
    """Three stages, each on the one before; the second depends on settings too."""
    return [
        Stage("brain", "", {"strip": "auto"}, (scan,)),
        Stage("align", space, {"strip": "auto", **settings}, after="brain"),
        Stage("register", space, {"strip": "auto", **settings, "n": (1, 2)}, after="align"),
    ]


def finish(out, stage: Stage, *names: str) -> Record:
    """Pretend that a stage was run."""
    record = Record.of(out, "sub-01")
    files = {}
    for name in names or (f"{stage.name}{stage.space}.nii.gz",):
        path = out / "sub-01" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        path.with_name(name.split(".")[0] + ".json").write_text("{}")
        files[name] = path
    known = {str(path): checksum(path) for path in stage.inputs}
    record.finish(stage, files=files, checksums=known)
    return record


@pytest.fixture
def done(out, scan):
    for stage in stages(scan):
        finish(out, stage)
    return out


def missing(out, wanted) -> list[str]:
    return Record.of(out, "sub-01").missing(wanted)


def test_nothing_is_done_without_a_record(out, scan):
    assert missing(out, stages(scan)) == ["brain", "align", "register"]


def test_what_is_recorded_is_done(done, scan):
    assert missing(done, stages(scan)) == []


def test_no_image_is_opened_to_see_that_a_scan_is_done(done, scan, monkeypatch):
    monkeypatch.setattr("vxmprep.bids.records.checksum", lambda path: pytest.fail("opened"))
    assert missing(done, stages(scan)) == []


def test_a_setting_that_changed_affects_its_stage_and_those_after_it(done, scan):
    assert missing(done, stages(scan, affine="none")) == ["align", "register"]


def test_a_changed_input_affects_all_that_came_from_it(done, scan):
    scan.write_bytes(b"other!")
    assert missing(done, stages(scan)) == ["brain", "align", "register"]


def test_an_input_of_another_size_has_changed_even_if_its_time_has_not(done, scan):
    times = scan.stat()
    scan.write_bytes(b"longer voxels")
    os.utime(scan, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert missing(done, stages(scan))[0] == "brain"


def test_an_input_copied_anew_has_not_changed(done, scan):
    os.utime(scan, (1, 1))
    assert missing(done, stages(scan)) == []


def test_an_input_in_another_folder_has_not_changed(done, scan, tmp_path):
    (tmp_path / "moved").mkdir()
    assert missing(done, stages(scan.rename(tmp_path / "moved" / scan.name))) == []


def test_an_input_that_is_gone_has_changed(done, scan):
    scan.unlink()
    assert missing(done, stages(scan))[0] == "brain"


def test_a_file_that_is_gone_affects_its_stage_and_those_after_it(done, scan):
    (done / "sub-01" / "alignMNI.nii.gz").unlink()
    assert missing(done, stages(scan)) == ["align", "register"]


def test_a_run_that_ends_after_redoing_an_early_stage_leaves_no_later_one_for_done(done, scan):
    """What was registered from the old brain must not stand beside the new one."""
    scan.write_bytes(b"other!")
    finish(done, stages(scan)[0])
    assert missing(done, stages(scan)) == ["align", "register"]
    assert {path.name for path in (done / "sub-01").iterdir()} == {"brain.nii.gz", "brain.json"}


def test_a_stage_made_alike_by_another_job_leaves_what_builds_on_it(done, scan):
    Record.of(done, "sub-01").begin(stages(scan)[0])
    assert missing(done, stages(scan)) == []
    finish(done, stages(scan)[0])
    assert missing(done, stages(scan)) == []


def test_a_run_killed_while_it_writes_over_a_stage_leaves_nothing_of_it_for_done(done, scan):
    """Some of its files are new by then, others old."""
    other = stages(scan, affine="none")
    Record.of(done, "sub-01").begin(other[1])
    assert missing(done, stages(scan)) == missing(done, other) == ["align", "register"]
    finish(done, other[1], "new.nii.gz")
    names = {path.name for path in (done / "sub-01").iterdir()}
    assert names == {"brain.nii.gz", "brain.json", "new.nii.gz", "new.json"}


def test_an_input_that_changed_since_the_run_was_planned_is_not_taken_for_done(out, scan):
    planned = replace(stages(scan)[0], seen=(seen_of(scan),))
    scan.write_bytes(b"still being written")
    with pytest.raises(InputChangedError, match="changed while it was processed"):
        finish(out, planned)
    assert missing(out, stages(scan))[0] == "brain"


def test_jobs_for_two_atlases_keep_each_others_stages(done, scan):
    """Both read the record before either writes it."""
    mine, yours = Record.of(done, "sub-01"), Record.of(done, "sub-01")
    for record, space in ((mine, "a"), (yours, "b")):
        path = done / "sub-01" / f"align{space}.nii.gz"
        path.touch()
        stage = stages(scan, space=space)[1]
        record.finish(stage, files={"affine": path}, checksums={})
    assert {"align MNI", "align a", "align b"} <= set(Record.of(done, "sub-01").stages)


def test_a_job_that_fails_last_does_not_undo_anothers_success(out, scan):
    mine = Record.of(out, "sub-01")
    for stage in stages(scan):
        finish(out, stage)
    mine.fail(step="register", cause="killed", wanted=stages(scan))
    assert not Record.of(out, "sub-01").failure


def test_an_old_failure_is_over_when_all_is_found_done(done, scan):
    Record.of(done, "sub-01").fail(step="header", cause="cut short")
    record = Record.of(done, "sub-01")
    assert record.missing(stages(scan)) == []
    record.settle()
    assert not Record.of(done, "sub-01").failure


def test_an_input_copied_anew_is_compared_once(done, scan, monkeypatch):
    os.utime(scan, (1, 1))
    record = Record.of(done, "sub-01")
    record.missing(stages(scan))
    record.settle()
    monkeypatch.setattr("vxmprep.bids.records.checksum", lambda path: pytest.fail("opened"))
    assert missing(done, stages(scan)) == []


def test_what_a_stage_no_longer_makes_is_removed_with_its_sidecar(done, scan):
    last = stages(scan)[2]
    finish(done, last, "one.nii.gz", "two.nii.gz")
    finish(done, last, "one.nii.gz")
    names = {path.name for path in (done / "sub-01").iterdir()}
    assert {"one.nii.gz", "one.json"} <= names
    assert not {"two.nii.gz", "two.json", "registerMNI.nii.gz"} & names


def test_another_atlas_shares_what_knows_no_atlas_and_leaves_the_rest_alone(done, scan):
    other = stages(scan, space="other")
    assert missing(done, other) == ["align", "register"]
    for stage in other[1:]:
        finish(done, stage)
    assert missing(done, stages(scan)) == missing(done, other) == []


def test_a_file_that_another_atlas_wrote_over_is_its_own_and_the_rest_stays(done, scan):
    first, other = stages(scan)[2], stages(scan, space="other")[2]
    finish(done, first, "registerMNI.nii.gz", "dseg.nii.gz")
    record = finish(done, other, "registerother.nii.gz", "dseg.nii.gz")
    assert missing(done, stages(scan)) == []
    assert set(record.files(first)) == {"registerMNI.nii.gz"}
    assert set(record.files(other)) == {"registerother.nii.gz", "dseg.nii.gz"}
    finish(done, first, "registerMNI.nii.gz")
    assert record.files(other)["dseg.nii.gz"].is_file()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"stages": 1}', '{"stages": []}', '{"stages": {"brain": {}}}']
)
def test_a_damaged_record_says_nothing(text, done, scan):
    (done / "logs" / "sub-01_T1w.json").write_text(text)
    assert missing(done, stages(scan)) == ["brain", "align", "register"]


def test_a_failure_is_kept_until_a_stage_is_done(done, scan):
    Record.of(done, "sub-01").fail(step="register", cause="no", crash="x/crash.txt")
    assert Record.of(done, "sub-01").status == "failed"
    assert finish(done, stages(scan)[2]).status != "failed"


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["brain"], "unfinished"),
        (["brain", "align"], "unfinished"),
        (["brain", "align", "labels"], "prepared"),
        (["brain", "align", "labels", "register"], "registered"),
        (["brain", "align", "labels", "register", "evaluate"], "done"),
    ],
)
def test_the_status_is_by_the_last_stage_that_is_done(names, status, out):
    for name in names:
        finish(out, Stage(name, "" if name == "brain" else "MNI", {}))
    assert json.loads((out / "logs" / "sub-01_T1w.json").read_text())["status"] == status


def test_a_failure_with_one_atlas_leaves_what_was_done_with_another(out, scan):
    for stage in [*stages(scan), Stage("evaluate", "MNI", {}, after="register")]:
        finish(out, stage)
    record = Record.of(out, "sub-01")
    record.fail(step="register", cause="killed", space="other", wanted=stages(scan, space="other"))
    assert status_row(record)["status"] == "failed"
    done, failed = find_results(out)
    assert (done.space, done.status["status"], done.status["why"]) == ("MNI", "done", "n/a")
    assert (failed.space, failed.status["status"]) == ("", "failed")
    assert failed.status["why"] == "killed (atlas other)"
    assert "evaluateMNI.nii.gz" in done.files
    assert set(failed.files) == {"brain.nii.gz"}, "what was made with the other is not its own"
    record.fail(step="register", cause="killed", space="MNI")
    assert [result.status["status"] for result in find_results(out)] == ["failed"]


def test_a_row_of_the_status_table_sums_seconds_and_takes_the_largest_memory(out):
    record = Record.of(out, "sub-01")
    record.took("strip", seconds=3.2, cpu_seconds=3, peak_gb=0.5)
    record.took("register", seconds=40.1, cpu_seconds=44, peak_gb=1.6)
    record.fail(step="register", cause="out of\nmemory")
    row = status_row(record)
    assert (row["seconds"], row["peak_gb"]) == ("43", "1.60")
    assert (row["status"], row["step"], row["why"]) == ("failed", "register", "out of memory")
    assert row["flags"] == "n/a"


def test_the_status_table_has_a_row_for_every_scan_that_has_a_record(done, scan):
    Record.of(done, "sub-02").fail(step="header", cause="empty")
    write_status(done)
    header, *rows = (done / "participants_status.tsv").read_text().splitlines()
    assert header.split("\t") == list(COLUMNS)
    assert [row.split("\t")[:2] for row in rows] == [
        ["sub-01", "registered"],
        ["sub-02", "failed"],
    ]
