"""What is seen of a run."""

import io
import re

import pytest
from rich.console import Console

from vxmprep.bids.dataset import Scan
from vxmprep.bids.records import Record, Stage
from vxmprep.cli import progress as seen
from vxmprep.cli.execute import table
from vxmprep.cli.plan import Task
from vxmprep.cli.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands where it is put."""
    now = [0.0]
    monkeypatch.setattr(seen.time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_a_plain_line_for_every_scan(capsys, clock):
    with Progress(2, live=False) as told:
        told.start("sub-01", "strip")
        clock[0] = 30.0
        told.end("sub-01", "strip")
        told.finish("sub-01", 30)
        told.fail("sub-02", "align", "it is no brain")
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "sub-01: done, 1 of 2 (30 s, 0:30 left)",
        "sub-02: failed at align: it is no brain",
    ]


def test_every_step_has_a_line_where_that_is_asked(capsys, clock):
    with Progress(1, verbose=True, live=False) as told:
        told.start("sub-01", "strip")
        clock[0] = 3.0
        assert told.end("sub-01", "strip") == 3.0
    assert "sub-01: strip (3 s)" in capsys.readouterr().out


def test_the_time_left_is_reckoned_from_the_scans_that_are_through(clock):
    told = Progress(10, live=False)
    assert told.remaining is None
    told.done, told.failed, clock[0] = 3, 1, 400.0
    assert told.remaining == 600.0
    told.done = 9
    assert told.remaining is None


def test_a_long_step_says_in_the_log_that_it_lives(capsys, clock):
    with Progress(1, live=False) as told:
        told.start("sub-01", "register")
        clock[0] = 599.0
        told.look()
        assert capsys.readouterr().out == ""
        clock[0] = 3725.0
        told.look()
        assert "running: sub-01 register (1:02:05)" in capsys.readouterr().out
        told.look()
        assert capsys.readouterr().out == ""


def drawn(told: Progress) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(told._draw())
    return console.file.getvalue()


def test_a_terminal_shows_scans_done_failed_and_running_with_their_steps(clock):
    told = Progress(10, live=True)
    told.done, told.failed, clock[0] = 4, 1, 100.0
    told.start("sub-06", "register")
    told.start("sub-07", "bias")
    clock[0] = 165.0
    text = drawn(told)
    assert "4 of 10 scans done, 1 failed, 2:45 left" in text
    assert re.search(r"sub-06 +register 1:05", text)
    assert re.search(r"sub-07 +bias 1:05", text)


def test_a_terminal_lists_no_more_steps_than_fit(clock):
    told = Progress(100, live=True)
    for number in range(40):
        told.start(f"sub-{number}", "strip")
    text = drawn(told)
    assert "and 28 more" in text
    assert len(text.splitlines()) == 14


def test_a_live_run_leaves_its_lines_and_takes_its_display_away(monkeypatch):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80)
    monkeypatch.setattr("rich.live.get_console", lambda: console)
    with Progress(1, live=True) as told:
        told.start("sub-01", "strip")
        told.say("sub-01: CHECK [red] is no markup")
        told.end("sub-01", "strip")
        told.finish("sub-01", 1.0)
    assert "sub-01: CHECK [red] is no markup" in file.getvalue()
    assert "sub-01: done, 1 of 1" in file.getvalue()


def test_the_table_at_the_end_does_without_measures_that_were_removed(tmp_path):
    metrics = tmp_path / "metrics.json"
    metrics.write_text('{"Overlap": {"DiceMean": 0.8, "DiceMeanAffine": 0.6}}')
    record, stage = Record.of(tmp_path, "sub-01"), Stage("evaluate", "MNI", {})
    record.finish(stage, files={"metrics": metrics}, checksums={})
    task = Task(Scan(tmp_path / "sub-01_T1w.nii", ()), (stage,), (), record, None, None)
    assert table([task]).splitlines()[1].split() == [
        "sub-01",
        "done",
        "n/a",
        "n/a",
        "0.600,",
        "0.800",
    ]
    metrics.unlink()
    assert table([task]).splitlines()[1].split() == ["sub-01", "done", "n/a", "n/a"]
