"""Run a plan, keep the records of its scans and say what becomes of each."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vxmprep.bids.derivatives import read_json, write_rows
from vxmprep.bids.status import status_row, write_status
from vxmprep.cli.listener import STEP_COLUMNS, Listener, note_failures
from vxmprep.cli.plan import Plan, Task, branch_name
from vxmprep.cli.progress import Progress
from vxmprep.config import UsageError

if TYPE_CHECKING:
    from nipype.pipeline import engine as pe

    from vxmprep.bids.dataset import Scan

GRAPH = "vxmprep_wf"
"""Name of the graph, and of its folder in the work folder."""

SCANS_A_GRAPH = 100
SCANS_A_PROCESSOR = 20
"""A graph holds at least so many scans, all told and for each processor: at its end some
processors wait for the last scan."""

PYTHON_GB = 0.5
"""What a job takes beside its node."""

MOST_ROWS = 50
"""Scans that the table at the end lists; the status file holds them all."""


def execute(plan: Plan, work: Path | None = None, logs: Path | None = None) -> int:
    """Run a plan.

    Parameters
    ----------
    plan : Plan
        What to do.
    work : Path, optional
        Folder of the scans in progress; not needed where none is pending.
    logs : Path, optional
        Folder of this run's own logs; likewise.

    Returns
    -------
    int
        0 if all scans are done, 1 if some failed.
    """
    settings, pending = plan.settings, plan.pending
    tasks = {branch_name(task.scan): task for task in pending}
    with Progress(len(pending), settings.verbose > 0) as progress:
        _begin(plan, progress)
        page = page_writer(plan)
        listener = Listener(tasks, progress, work and work / GRAPH, page=page)
        try:
            stopped = settings.stop_on_first_crash and any(task.problem for task in plan.tasks)
            if pending and not stopped:
                _run(plan, work, logs, listener)
        finally:
            if pending:
                note_failures(listener, logs)
            if pending and settings.resource_monitor:
                write_rows(logs / "resources.tsv", STEP_COLUMNS, listener.steps)
            write_status(settings.output_dir)
            page(*(t.scan for t in plan.tasks if t.record.failure or settings.reports_only))
    return _end(plan, listener)


def _begin(plan: Plan, progress: Progress) -> None:
    """Say what will be done; and which scans cannot be, as their headers tell."""
    settings, tasks = plan.settings, plan.tasks
    segmented = sum(task.segmentation is not None for task in tasks)
    progress.say(
        f"T1w scans: {len(tasks)}, with a segmentation: {segmented}; atlas: {plan.atlas.name}; "
        f"processors: {settings.nprocs}, {plan.threads} a scan; memory: {memory_gb(plan):.1f} GB"
    )
    if settings.reports_only:
        progress.say(
            f"pages alone; not registered to that atlas: {len(tasks) - len(plan.pending)}"
        )
        return
    if settings.model is not None:
        progress.say(plan.compute.reason)
    finished = sum(not task.missing for task in tasks)
    if finished:
        progress.say(f"done already: {finished}; --force does them again")
    for task in tasks:
        if task.problem:
            task.record.fail(step="header", cause=task.problem, space=plan.atlas.name)
            progress.say(f"{task.scan.stem}: failed: {task.problem}")
        elif not task.missing:
            task.record.settle()


def _run(plan: Plan, work: Path, logs: Path, listener: Listener) -> None:
    """Run the pending tasks, group by group; failures are the listener's to tell.

    A graph costs nipype a time that grows with the square of its scans.
    """
    log_to(logs / "nipype.log")
    if plan.settings.write_graph:
        graph = plan.graph(plan.pending[:1])
        graph.write_graph(str(logs / "workflow.dot"), graph2use="colored", format="svg")
    size = max(SCANS_A_GRAPH, SCANS_A_PROCESSOR * plan.settings.nprocs)
    for first in range(0, len(plan.pending), size):
        if listener.causes and plan.settings.stop_on_first_crash:
            return
        _run_some(plan, plan.pending[first : first + size], work, logs, listener)


def page_writer(plan: Plan) -> Callable[..., None]:
    """Give what writes the pages of scans' participants; a failure costs no result."""
    from vxmprep.reports.page import write_page

    def write(*scans: Scan) -> None:
        for participant in dict.fromkeys(scan.participant for scan in scans):
            try:
                write_page(plan.settings.output_dir, participant, plan.model)
            except Exception as error:
                said = " ".join(str(error).split()) or type(error).__name__
                print(f"vxmprep: sub-{participant}.html: not written ({said})", file=sys.stderr)

    return write


def log_to(path: Path) -> None:
    """Send what nipype says to a file, which is made when there is something to say."""
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for name in ("nipype.workflow", "nipype.utils", "nipype.interface"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False


def _run_some(
    plan: Plan, tasks: Sequence[Task], work: Path, logs: Path, listener: Listener
) -> None:
    """Build the graph of some tasks and run it."""
    settings = plan.settings
    graph = plan.graph(tasks)
    graph.base_dir = str(work)
    graph.config["execution"] = {
        "crashdump_dir": str(logs),
        "crashfile_format": "txt",
        # The files in the work folder are ours alone: their times tell whether they changed.
        "hash_method": "timestamp",
        "poll_sleep_duration": "0.5",
        "stop_on_first_crash": str(settings.stop_on_first_crash).lower(),
        "create_report": "false",
        # The listener reads outputs that no other node does.
        "remove_unnecessary_outputs": "false",
    }
    if settings.use_plugin is None:
        _run_here(graph, plan, listener)
    else:
        _run_elsewhere(graph, settings.use_plugin, listener)
    for branch in listener.causes:
        shutil.rmtree(work / GRAPH / branch, ignore_errors=True)


def _run_here(graph: pe.Workflow, plan: Plan, listener: Listener) -> None:
    """Run a graph in worker processes of this machine."""
    from vxmprep.cli.plugin import NodesFailedError, OneMachine, Resources

    gpus = gpu_names(plan.compute.device)
    slots = len(gpus) or int(plan.compute.device.startswith("cuda"))
    plugin = OneMachine(
        {
            "resources": Resources(plan.settings.nprocs, memory_gb(plan), slots),
            "gpus": gpus,
            "status_callback": listener,
            "idle_callback": listener.progress.look,
        }
    )
    with contextlib.suppress(NodesFailedError):  # the listener knows of each
        graph.run(plugin)


def _run_elsewhere(graph: pe.Workflow, file: Path, listener: Listener) -> None:
    """Run a graph with one of nipype's own plugins."""
    from vxmprep.cli.plugin import load_plugin

    plugin, arguments = read_plugin(file)
    if plugin == "SLURM":
        _ask_slurm(graph, arguments)
    try:
        graph.run(load_plugin(plugin, {**arguments, "status_callback": listener}))
    except Exception as error:
        # They raise at the end of a run in which nodes failed; of those the listener knows.
        logging.getLogger("nipype.workflow").error("%s", error)
        if listener.broken or not listener.causes:
            raise listener.broken or error from error


def _ask_slurm(graph: pe.Workflow, arguments: dict) -> None:
    """Let each node ask for the memory, processors and GPU that it needs.

    What a user's own ``sbatch_args`` ask for counts more.
    """
    if re.search(r"\s", str(graph.base_dir)):
        raise UsageError(
            f"--work-dir {graph.base_dir}: nipype's SLURM cannot do with a space in it; give "
            "another folder"
        )
    given = str(arguments.get("sbatch_args", ""))
    for name in graph.list_node_names():
        node = graph.get_node(name)
        asked = {
            "--mem": f"{math.ceil(1024 * (node.mem_gb + PYTHON_GB))}M",
            "--cpus-per-task": str(node.n_procs),
            "--gres": "gpu:1" if node.is_gpu_node() else "",
        }
        words = [f"{key}={value}" for key, value in asked.items() if value and key not in given]
        node.plugin_args = {"sbatch_args": " ".join(words)}


def read_plugin(path: Path) -> tuple[str, dict]:
    """Read which plugin of nipype a YAML file names, and its arguments.

    Raises
    ------
    UsageError
        If the file says something else.
    """
    import nipype.pipeline.plugins
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        plugin, arguments = content["plugin"], content.get("plugin_args") or {}
        if not isinstance(plugin, str) or not isinstance(arguments, dict):
            raise TypeError("plugin is a name, plugin_args a mapping")
        if not hasattr(nipype.pipeline.plugins, f"{plugin}Plugin"):
            raise ValueError(f"nipype has no plugin {plugin}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise UsageError(
            f"--use-plugin {path}: not as {{plugin: SLURM, plugin_args: {{...}}}} ({said})"
        ) from error
    return plugin, arguments


def gpu_names(device: str) -> tuple[str, ...]:
    """Name the GPUs that steps may share out among them.

    Parameters
    ----------
    device : str
        ``cuda`` is all of those that are visible; ``cuda:N`` that one alone, ``cpu`` none, and
        there is nothing to share out.

    Returns
    -------
    tuple of str
        As CUDA_VISIBLE_DEVICES names them.
    """
    if device != "cuda":
        return ()
    import torch

    count = torch.cuda.device_count()
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return tuple(visible[:count] or map(str, range(count)))


def memory_gb(plan: Plan) -> float:
    """Give the memory that the run may use, GiB."""
    from vxmprep.resources import available_memory_gb

    given = plan.settings.mem_mb
    return given / 1024 if given else 0.9 * available_memory_gb()


def _end(plan: Plan, listener: Listener) -> int:
    """Show what was done and list what failed; give the exit code."""
    output_dir = plan.settings.output_dir
    touched = [task for task in plan.tasks if task.missing]
    if touched:
        print(table(touched))
    tasks = touched if plan.settings.reports_only else plan.tasks
    through = [t for t in tasks if not t.missing or branch_name(t.scan) in listener.done]
    failed = [t for t in touched if t.record.failure]
    unfinished = len(tasks) - len(through) - len(failed)
    for task in failed:
        failure = task.record.failure
        print(f"FAILED {task.scan.stem}: {failure['cause']}", file=sys.stderr)
        if failure["crash"]:
            print(f"       {output_dir / 'logs' / failure['crash']}", file=sys.stderr)
    more = f", {unfinished} not reached" if unfinished else ""
    print(
        f"{time.strftime('%H:%M:%S')} {len(through)} done, {len(failed)} failed{more}; "
        f"see {output_dir}",
        flush=True,
    )
    return 1 if failed or unfinished else 0


def table(tasks: list[Task]) -> str:
    """Show what became of scans, a line each."""
    shown = tasks[:MOST_ROWS]
    width = max(len(task.scan.stem) for task in shown)
    lines = [f"{'scan':{width}}  {'status':10}  s in all  peak GB  Dice affine, full  remarks"]
    for task in shown:
        row = status_row(task.record)
        remark = row["why"] if row["status"] == "failed" else row["flags"]
        remark = "" if remark == "n/a" else remark[:100]
        lines.append(
            f"{row['scan']:{width}}  {row['status']:10}  {row['seconds']:>8}  "
            f"{row['peak_gb']:>7}  {_dice(task):>17}  {remark}".rstrip()
        )
    if len(tasks) > MOST_ROWS:
        lines.append(f"... and {len(tasks) - MOST_ROWS} more, see participants_status.tsv")
    return "\n".join(lines)


def _dice(task: Task) -> str:
    """Give a scan's mean Dice with the atlas, by the affine and by all, where it was measured."""
    for stage in task.stages:
        path = task.record.stages.get(stage.key, {"files": {}})["files"].get("metrics")
        if path is not None:
            overlap = read_json(task.record.output_dir / path).get("Overlap", {})
            if overlap.get("DiceMean") is not None:
                return f"{overlap['DiceMeanAffine']:.3f}, {overlap['DiceMean']:.3f}"
    return ""
