"""Runs that are interrupted or killed, and workers that are."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


class Command:
    """The command in a process of its own, heard line by line."""

    def __init__(self, study, *more: str, level: str = "participant") -> None:
        words = [sys.executable, "-m", "vxmprep", *study.arguments("-v", *more, level=level)]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []

    def until(self, said: str | Callable[[str], bool]) -> None:
        """Listen until a line is said."""
        for line in self.process.stdout:
            self.lines.append(line)
            if said(line) if callable(said) else said in line:
                return
        raise AssertionError(f"never said {said}:\n{''.join(self.lines)}")

    def end(self) -> int:
        """Listen to the end, and give the exit code."""
        self.lines += self.process.stdout.readlines()
        return self.process.wait(timeout=120)

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def workers(self) -> list[int]:
        """Give the process ids of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = [int(pid) for pid in children.read_text().split()]
        return [pid for pid in pids if "multiprocessing.spawn" in command_line(pid)]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def gone(pids: list[int], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while any(command_line(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    return not any(command_line(pid) for pid in pids)


pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")


def test_a_run_killed_again_and_again_ends_with_the_same_files_bit_for_bit(study, capfd):
    assert study.run() == 0
    expected = study.results()
    study.out.rename(study.root / "straight")
    for step in ("bias", "register", "save_evaluate"):
        command = Command(study)
        command.until(f": {step} (")
        workers = command.workers()
        command.process.kill()
        command.process.wait()
        assert workers
        assert gone(workers)
    capfd.readouterr()
    assert study.run("-v") == 0
    said = capfd.readouterr().out
    assert ": warp_t1w (" in said
    assert "bias" not in said
    assert study.results() == expected
    assert not list((study.root / "work").glob("*")), "what killed runs left is swept"


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_an_interrupted_run_ends_at_once_and_leaves_nothing_behind(study, how, code):
    command = Command(study)
    command.until("sub-01: conform_labels (")
    workers = command.workers()
    for _ in range(2):  # impatient, and a terminal's Ctrl-C reaches the whole group
        os.killpg(command.process.pid, how)
    assert command.end() == code
    assert workers
    assert gone(workers)
    assert "interrupted; the same command goes on from here" in command.said
    assert "Traceback" not in command.said
    assert not (study.root / "work").exists()
    assert "align tiny" in study.record("sub-01")["stages"]


@pytest.mark.parametrize("command", ["vxmprep", "apply", "doctor"])
def test_ctrl_c_while_a_command_is_imported_is_told_in_a_line(command):
    script = f"""
import signal, sys
from vxmprep.cli.entry import {command}

class Interrupting:
    def find_spec(self, name, *more):
        if name.startswith("vxmprep."):
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # where a shell's job ignores it
sys.meta_path.insert(0, Interrupting())
sys.exit({command}())
"""
    words = [sys.executable, "-c", script, "a", "b", "participant"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    name = command if command == "vxmprep" else f"vxmprep-{command}"
    assert (done.returncode, done.stderr) == (130, f"{name}: interrupted\n")


def test_a_worker_killed_for_real_fails_its_scan_by_name_and_the_others_are_complete(study):
    command = Command(study, "--nprocs", "1")
    command.until("sub-01: conform_labels")
    (worker,) = command.workers()
    os.kill(worker, signal.SIGKILL)
    assert command.end() == 1
    failure = study.record("sub-01")["failure"]
    assert f"the process of step {failure['step']} was killed by SIGKILL" in failure["cause"]
    assert "estimated to need" in failure["cause"]
    assert "FAILED sub-01" in command.said
    assert (study.out / "logs" / failure["crash"]).is_file()
    assert study.record("sub-02")["status"] == "done"
    assert study.status()["sub-01"]["status"] == "failed"
    assert study.run() == 0
    assert "failure" not in study.record("sub-01")


def test_two_whole_runs_at_the_same_time_are_both_complete_and_nothing_is_torn(study):
    whole = (
        "train", "--voxel-size", "2", "--iterations", "3", "--features", "4,4:4,4,4",
        "--validate-every", "2", "--nprocs", "1",
    )  # fmt: skip
    first, second = Command(study, *whole), Command(study, *whole)
    assert (first.end(), second.end()) == (0, 0), first.said + second.said
    assert "already trained" in first.said + second.said, "one of them has waited"
    assert {row["status"] for row in study.status().values()} == {"done"}
    done = study.results()
    assert study.run("--force", "--model", "cohort") == 0
    assert study.results() == done


def test_a_run_whose_lines_nobody_reads_any_more_goes_on(study):
    quick = ("--participant-label", "02", "--no-n4", "--affine", "none")
    command = Command(study, *quick, level="prepare")
    command.until("sub-02: strip")
    command.process.stdout.close()
    assert command.process.wait(timeout=120) == 0
    assert study.record("sub-02")["status"] == "prepared"
