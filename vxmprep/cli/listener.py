"""What nipype tells of a run: scans' records are kept by it, and the user hears of it."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vxmprep.bids.records import FIRST, InputChangedError, Stage
from vxmprep.cli.plan import Task
from vxmprep.cli.progress import Progress
from vxmprep.cli.workers import Usage
from vxmprep.reports.boilerplate import versions
from vxmprep.spatial.files import remove_left_behind

if TYPE_CHECKING:
    from nipype.pipeline import engine as pe

    from vxmprep.bids.dataset import Scan

SAVE = "save_"
"""How the names of the steps begin that end a stage."""


GONE = re.compile(r"Job id \((\d+)\) finished or terminated, but results file does not exist")
"""What nipype's plugins for batch systems say of a job that was killed."""

STEP_COLUMNS = (
    "scan", "step", "seconds", "cpu_seconds", "peak_gb", "estimated_gb", "processors",
)  # fmt: skip
"""What is told of every step."""

COMMON = "atlas"
"""The step that all scans need."""


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
        What every step took, against what it was estimated to need.
    causes : dict
        Why scans failed, by the name of their branch: the step, and its error.
    left : dict
        The stages still to come, by the name of their branch.
    done : set of str
        The branches that are complete.
    page : function or None
        Writes the page of a scan's participant.
    broken : Exception or None
        What went wrong in here first.
    """

    tasks: dict[str, Task]
    progress: Progress
    folder: Path | None = None
    steps: list[dict] = field(default_factory=list)
    causes: dict[str, tuple[str, str]] = field(default_factory=dict)
    left: dict[str, set[str]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    page: Callable[[Scan], None] | None = None
    broken: Exception | None = None

    def __call__(self, node: pe.Node, status: str, usage: Usage | None = None) -> None:
        """Take one message of a plugin; nipype's own give no usage, and lose what is raised."""
        try:
            self._hear(node, status, usage)
        except Exception as error:
            self.broken = self.broken or error
            raise

    def _hear(self, node: pe.Node, status: str, usage: Usage | None) -> None:
        branch, step = node.fullname.split(".")[1], node.name
        task = self.tasks.get(branch)
        name = task.scan.stem if task else branch
        if status == "start":
            self.progress.start(name, step)
            if task is not None and step.startswith(SAVE):
                task.record.begin(self._stage(task, step))
            return
        if (name, step) not in self.progress.running:
            return  # nipype's Linear tells the end of nodes that it leaves out
        took = self.progress.end(name, step)
        usage = usage or Usage(seconds=took)
        self._note(node, name, usage)
        if status == "exception":
            self._fail(branch, name, step, node)
        elif task is not None:
            task.record.took(step, **vars(usage))
            if step.startswith(SAVE):
                self._finish(branch, task, self._stage(task, step), node)
            if branch in self.done and self.folder:
                shutil.rmtree(self.folder / branch, ignore_errors=True)

    def _note(self, node: pe.Node, name: str, usage: Usage) -> None:
        self.steps.append(
            {
                "scan": name,
                "step": node.name,
                "seconds": f"{usage.seconds:.2f}",
                "cpu_seconds": f"{usage.cpu_seconds:.2f}",
                "peak_gb": f"{usage.peak_gb:.3f}",
                "estimated_gb": f"{node.mem_gb:.3f}",
                "processors": str(node.n_procs),
            }
        )

    def _fail(self, branch: str, name: str, step: str, node: pe.Node) -> None:
        trace = "".join(getattr(node, "_traceback", None) or [])
        cause = cause_of(trace)
        if any(os.strerror(code) in trace for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
            # No other scan could be written either.
            raise DiskFullError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{name}, step {step}")
        if branch not in self.causes:
            self.causes[branch] = (step, cause)
            self.progress.fail(name, step, cause or "see the end of the run")

    @staticmethod
    def _stage(task: Task, step: str) -> Stage:
        """Give the stage that a writing step ends."""
        return next(stage for stage in task.stages if SAVE + stage.name == step)

    def _finish(self, branch: str, task: Task, stage: Stage, node: pe.Node) -> None:
        """Note a finished stage, and whether the scan is complete with it."""
        found = node.result.outputs
        more: dict = {"programs": versions()}
        if stage.name == FIRST:
            more["strip_method"] = found.strip_method
        try:
            task.record.finish(
                stage,
                files={key: Path(path) for key, path in found.files.items()},
                checksums=found.checksums,
                flags=found.flags,
                **more,
            )
        except InputChangedError as error:
            self.causes.setdefault(branch, (SAVE + stage.name, str(error)))
            self.progress.fail(task.scan.stem, SAVE + stage.name, str(error))
        self.left.setdefault(branch, set(task.missing)).discard(stage.name)
        if branch not in self.causes and not self.left[branch]:
            self._complete(branch, task)

    def _complete(self, branch: str, task: Task) -> None:
        self.done.add(branch)
        for stage in task.stages:
            for folder in {path.parent for path in task.record.files(stage).values()}:
                remove_left_behind(folder, task.scan.stem)
        mine = [step for step in self.steps if step["scan"] == task.scan.stem]
        self.progress.finish(task.scan.stem, sum(float(step["seconds"]) for step in mine))
        report = task.record.stages.get(task.stages[-1].key, {"flags": []})
        for flag in dict.fromkeys([*task.record.flags, *report["flags"]]):
            self.progress.say(f"{task.scan.stem}: CHECK {flag}")
        if self.page is not None:
            self.page(task.scan)


def cause_of(trace: str) -> str:
    """Give the last error of a traceback, in one line; empty if it holds none."""
    pattern = r"^\s*[\w.]+(?:Error|Exception|Interrupt): (.+)$"
    if found := GONE.search(trace):
        return (
            f"its job {found[1]} ended without a result, killed for memory or time perhaps; see "
            "sbatch_args in the file of --use-plugin"
        )
    errors = re.findall(pattern, trace, flags=re.MULTILINE)
    return " ".join(errors[-1].split()) if errors else ""


def note_failures(listener: Listener, logs: Path) -> None:
    """Keep in the records why scans failed."""
    crashes = {}
    for file in sorted(logs.glob("crash-*.txt")):
        text = file.read_text(encoding="utf-8", errors="replace")
        node = re.search(r"^Node: (\S+)", text, flags=re.MULTILINE)
        if node:
            parts = node.group(1).split(".")
            crashes[parts[1], parts[-1]] = (f"{logs.name}/{file.name}", cause_of(text))
    for branch, task in listener.tasks.items():
        # What fails before any scan, as the atlas, fails them all.
        whose = branch if branch in listener.causes else COMMON
        if branch in listener.done or whose not in listener.causes:
            continue
        step, cause = listener.causes[whose]
        crash, told = crashes.get((whose, step), ("", ""))
        # nipype's own plugins tell the cause in the crash file alone.
        cause = cause or told or "see its crash file"
        space = task.stages[-1].space
        task.record.fail(step=step, cause=cause, crash=crash, space=space, wanted=task.stages)
