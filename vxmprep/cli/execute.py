"""Run a graph and say what becomes of each scan."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vxmprep.bids.derivatives import write_json
from vxmprep.cli.plan import Plan, branch_name

if TYPE_CHECKING:
    from nipype.pipeline import engine as pe
    from nipype.pipeline.plugins.base import PluginBase

    from vxmprep.config import Settings

LAST_STEP = "save"


@dataclass
class Progress:
    """Hears from nipype when a node starts and ends, and tells the user.

    Attributes
    ----------
    stems : dict
        The scan's name by the name of its branch.
    metrics : dict
        The file of a scan's measures by the scan's name.
    folder : Path
        Work folder of the graph.
    logs : Path
        Where each finished scan's record goes.
    verbose : bool
        Say every step.
    """

    stems: dict[str, str]
    metrics: dict[str, Path]
    folder: Path
    logs: Path
    verbose: bool = False
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    started: dict[str, float] = field(default_factory=dict)

    def __call__(self, node: pe.Node, status: str) -> None:
        """Take one message of nipype."""
        branch, step = node.fullname.split(".")[1], node.name
        stem = self.stems.get(branch)
        if stem is None:
            return
        if status == "start":
            self.started[node.fullname] = time.monotonic()
        elif status == "end" and node.fullname in self.started:
            took = time.monotonic() - self.started[node.fullname]
            self.seconds.setdefault(stem, {})[step] = round(took, 2)
            if self.verbose:
                say(f"{stem}: {step} ({took:.0f} s)")
            if step == LAST_STEP:
                self._finish(branch, stem)
        elif status == "exception":
            say(f"{stem}: failed at {step}")

    def _finish(self, branch: str, stem: str) -> None:
        self.done.append(stem)
        steps = self.seconds[stem]
        flags = json.loads(self.metrics[stem].read_text(encoding="utf-8"))["Flags"]
        record = {"scan": stem, "status": "done", "flags": flags, "seconds": steps}
        write_json(self.logs / f"{stem}_T1w.json", record)
        shutil.rmtree(self.folder / branch, ignore_errors=True)
        began = min(t for name, t in self.started.items() if name.split(".")[1] == branch)
        took = time.monotonic() - began
        say(f"{stem}: done, {len(self.done)} of {len(self.stems)} ({took:.0f} s)")
        for flag in flags:
            say(f"{stem}: CHECK {flag}")


def say(message: str) -> None:
    """Print a line with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)


def execute(plan: Plan) -> int:
    """Run a plan.

    Returns
    -------
    int
        0 if all scans are done, 1 if some failed.
    """
    settings = plan.settings
    logs = settings.output_dir / "logs"
    crashes = logs / "crashes" / time.strftime("%Y%m%d-%H%M%S")
    graph = plan.graph()
    base = settings.work_dir / _run_name(plan)
    graph.base_dir = str(base)
    _fit(graph, settings)
    _configure(graph, logs, crashes, stop=settings.stop_on_first_crash)
    stems = {branch_name(scan): scan.stem for scan in plan.scans}
    folder = base / graph.name
    for stem in stems.values():
        (logs / f"{stem}_T1w.json").unlink(missing_ok=True)
    progress = Progress(stems, plan.metrics_files(), folder, logs, settings.verbose > 0)
    segmented = sum(branch["segmentation"] is not None for branch in plan.branches.values())
    say(
        f"T1w scans: {len(stems)}, with a segmentation: {segmented}; atlas: {plan.atlas.name}; "
        f"processors: {settings.nprocs}"
    )
    try:
        graph.run(plugin=_plugin(plan, progress))
    except Exception as error:
        # nipype raises at the end of a run in which nodes failed; their crash files say why.
        logging.getLogger("nipype.workflow").error("%s", error)
        if not any(crashes.glob("crash-*")):
            raise
    failures = read_crashes(crashes, stems)
    missing = [stem for stem in stems.values() if stem not in progress.done]
    for stem in missing:
        cause, file = failures.get(stem) or failures.get("", ("not reached", crashes))
        record = {"scan": stem, "status": "failed", "cause": cause, "crash": file.name}
        write_json(logs / f"{stem}_T1w.json", record)
        print(f"FAILED {stem}: {cause}\n       {file}", file=sys.stderr)
    if not missing:
        shutil.rmtree(base, ignore_errors=True)
        if not any(crashes.iterdir()):
            crashes.rmdir()
    say(f"{len(progress.done)} done, {len(missing)} failed; see {settings.output_dir}")
    return 1 if missing else 0


def read_crashes(folder: Path, stems: dict[str, str]) -> dict[str, tuple[str, Path]]:
    """Give the cause in one line and the crash file by scan; under "" what concerns all."""
    found = {}
    for file in sorted(folder.glob("crash-*.txt")):
        text = file.read_text(encoding="utf-8", errors="replace")
        node = re.search(r"^Node: (\S+)", text, flags=re.MULTILINE)
        branch = node.group(1).split(".")[1] if node else ""
        errors = re.findall(r"^\s*[\w.]+(?:Error|Exception): (.+)$", text, flags=re.MULTILINE)
        cause = errors[-1].strip() if errors else "no message"
        found.setdefault(stems.get(branch, ""), (cause, file))
    return found


def _configure(graph: pe.Workflow, logs: Path, crashes: Path, *, stop: bool) -> None:
    logs.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(parents=True, exist_ok=True)
    graph.config["execution"] = {
        "crashdump_dir": str(crashes),
        "crashfile_format": "txt",
        "hash_method": "content",
        "poll_sleep_duration": "0.1",
        "stop_on_first_crash": str(stop).lower(),
        "create_report": "false",
    }
    handler = logging.FileHandler(logs / "nipype.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for name in ("nipype.workflow", "nipype.utils", "nipype.interface"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False


def _run_name(plan: Plan) -> str:
    """Name the run's folder by what it works on: runs of other scans must not meet in it."""
    settings = plan.settings
    parts = [str(settings.bids_dir), str(settings.output_dir), *plan.branches]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _fit(graph: pe.Workflow, settings: Settings) -> None:
    """Let every node run within what there is, if only by itself."""
    memory = _memory_gb(settings)
    for name in graph.list_node_names():
        node = graph.get_node(name)
        node.n_procs = min(node.n_procs or 1, settings.nprocs)
        node._mem_gb = min(node.mem_gb, memory)


def _memory_gb(settings: Settings) -> float:
    from nipype.utils.profiler import get_system_total_memory_gb

    given = settings.mem_mb
    return given / 1024 if given else 0.9 * get_system_total_memory_gb()


def _plugin(plan: Plan, progress: Progress) -> PluginBase:
    from vxmprep.cli.scheduling import ScanByScan

    arguments = {
        "status_callback": progress,
        "n_procs": plan.settings.nprocs,
        "memory_gb": _memory_gb(plan.settings),
        # Forking a process in which torch has started threads can block for ever.
        "mp_context": "forkserver",
    }
    return ScanByScan(plugin_args=arguments)
