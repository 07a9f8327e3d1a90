"""What nipype tells of a run: scans' records are kept by it, and the user hears of it."""

from __future__ import annotations

import errno
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vxmprep.cli.plan import Task
from vxmprep.cli.progress import Progress
from vxmprep.cli.workers import Usage

if TYPE_CHECKING:
    from nipype.pipeline import engine as pe

SAVE = "save_"
"""How the names of the steps begin that end a stage."""


class DiskFullError(OSError):
    """A step found no room for what it made."""


@dataclass
class Listener:
    """Hears from nipype when a node starts and ends, and keeps the scans' records.

    Attributes
    ----------
    tasks : dict
        The tasks under way by the name of their branch of the graph.
    progress : Progress
        What the user sees.
    folder : Path or None
        Holds a folder per branch, which is removed when the scan is through.
    steps : list of dict
        What every step took, against what it was reckoned to need.
    causes : dict
        Why scans failed, by the name of their branch: the step, and its error.
    left : dict
        The stages still to come, by the name of their branch.
    done : set of str
        The branches that are complete.
    """

    tasks: dict[str, Task]
    progress: Progress
    folder: Path | None = None
    steps: list[dict] = field(default_factory=list)
    causes: dict[str, tuple[str, str]] = field(default_factory=dict)
    left: dict[str, set[str]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def __call__(self, node: pe.Node, status: str, usage: Usage | None = None) -> None:
        """Take one message of a plugin; nipype's own give no usage."""
        branch, step = node.fullname.split(".")[1], node.name
        task = self.tasks.get(branch)
        name = task.scan.stem if task else branch
        if status == "start":
            self.progress.start(name, step)
            return
        took = self.progress.end(name, step)
        usage = usage or Usage(seconds=took)
        self._note(node, name, usage)
        if status == "exception":
            self._fail(branch, name, step, node)
        elif task is not None:
            task.record.took(step, **vars(usage))
            if step.startswith(SAVE):
                self._finish(branch, task, step.removeprefix(SAVE), node)
        through = branch in self.done or branch in self.causes
        if through and self.folder and all(scan != name for scan, _ in self.progress.running):
            shutil.rmtree(self.folder / branch, ignore_errors=True)

    def _note(self, node: pe.Node, name: str, usage: Usage) -> None:
        self.steps.append(
            {
                "scan": name,
                "step": node.name,
                "seconds": f"{usage.seconds:.2f}",
                "cpu_seconds": f"{usage.cpu_seconds:.2f}",
                "peak_gb": f"{usage.peak_gb:.3f}",
                "reckoned_gb": f"{node.mem_gb:.3f}",
                "processors": str(node.n_procs),
            }
        )

    def _fail(self, branch: str, name: str, step: str, node: pe.Node) -> None:
        trace = "".join(getattr(node, "_traceback", None) or [])
        cause = cause_of(trace) or "see its crash file"
        if any(os.strerror(code) in trace for code in (errno.ENOSPC, errno.EDQUOT)):
            # No other scan could be written either.
            raise DiskFullError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{name}, step {step}")
        if branch not in self.causes:
            self.causes[branch] = (step, cause)
            self.progress.fail(name, step, cause)

    def _finish(self, branch: str, task: Task, name: str, node: pe.Node) -> None:
        """Note a finished stage, and whether the scan is complete with it."""
        found = node.result.outputs
        stage = next(stage for stage in task.stages if stage.name == name)
        more = {"strip_method": found.strip_method} if name == "brain" else {}
        task.record.finish(
            stage,
            files={key: Path(path) for key, path in found.files.items()},
            checksums=found.checksums,
            flags=found.flags,
            **more,
        )
        self.left.setdefault(branch, set(task.missing)).discard(name)
        if not self.left[branch]:
            self._complete(branch, task)

    def _complete(self, branch: str, task: Task) -> None:
        self.done.add(branch)
        mine = [step for step in self.steps if step["scan"] == task.scan.stem]
        self.progress.finish(task.scan.stem, sum(float(step["seconds"]) for step in mine))
        for flag in task.record.flags:
            self.progress.say(f"{task.scan.stem}: CHECK {flag}")


def cause_of(trace: str) -> str:
    """Give the last error of a traceback, in one line; empty if it holds none."""
    pattern = r"^\s*[\w.]+(?:Error|Exception|Interrupt): (.+)$"
    errors = re.findall(pattern, trace, flags=re.MULTILINE)
    return " ".join(errors[-1].split()) if errors else ""


def note_failures(listener: Listener, logs: Path) -> None:
    """Keep in the records why scans failed."""
    files = {_crashed(file): file.name for file in sorted(logs.glob("crash-*.txt"))}
    common = next(
        (found for branch, found in listener.causes.items() if branch not in listener.tasks), None
    )
    for branch, task in listener.tasks.items():
        cause = listener.causes.get(branch, common)
        if branch in listener.done or cause is None:
            continue
        crash = files.get(branch) or next(iter(files.values()), "")
        where = f"{logs.name}/{crash}" if crash else ""
        task.record.fail(step=cause[0], cause=cause[1], crash=where)


def _crashed(file: Path) -> str:
    """Name the branch that a crash file is about."""
    text = file.read_text(encoding="utf-8", errors="replace")
    node = re.search(r"^Node: (\S+)", text, flags=re.MULTILINE)
    return node.group(1).split(".")[1] if node else ""


def write_steps(path: Path, steps: list[dict]) -> None:
    """Write what every step took as a table."""
    from vxmprep.bids.derivatives import write_text

    columns = ("scan", "step", "seconds", "cpu_seconds", "peak_gb", "reckoned_gb", "processors")
    lines = ["\t".join(step[column] for column in columns) for step in steps]
    write_text(path, "\n".join(["\t".join(columns), *lines]) + "\n")
