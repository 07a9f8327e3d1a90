"""The level ``train``: which of the prepared scans a network is trained on, and the training."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vxmprep.bids.participants import read_exclusions, read_licence, read_people, read_sites
from vxmprep.bids.records import Record, Stage
from vxmprep.bids.results import PICTURES
from vxmprep.cli.execute import log_to, read_plugin
from vxmprep.cli.listener import cause_of
from vxmprep.cli.plan import Plan, Task
from vxmprep.config import UsageError
from vxmprep.signals import Terminated

if TYPE_CHECKING:
    from nipype.pipeline import engine as pe

    from vxmprep.config import Settings

INTERRUPTED = re.compile(r"^\s*(?:[\w.]+\.)?(Terminated|KeyboardInterrupt)$", re.MULTILINE)
"""What a traceback ends with where the user or the batch system has ended the run."""

DOUBTFUL = ("brain", "align")
"""Stages whose flags keep a scan out: its mask or its affine may be wrong."""


def check_training(plan: Plan) -> None:
    """Refuse what could not be trained, before anything is prepared.

    Raises
    ------
    UsageError, DatasetError
        If settings, scans and model's folder do not go together.
    """
    from vxmprep.training.errors import TrainingError
    from vxmprep.training.split import read_parts

    settings = plan.settings
    training = settings.training
    refuse_other(settings)
    if settings.split is not None:
        try:
            read_parts(settings.split)
        except TrainingError as error:
            raise UsageError(str(error)) from error
    if training.nodes > 1 and "SLURM_JOB_ID" not in os.environ:
        raise UsageError(
            f"--nodes {training.nodes}: this is no Slurm job; start the command in one of as many "
            "nodes (sbatch, salloc)"
        )
    left_out = _excluded(plan)
    tasks = [t for t in plan.tasks if not t.problem and t.scan.stem not in left_out]
    if not tasks:
        raise UsageError("train: every scan is left out or cannot be read; there is none to train")
    _check_labels(plan, tasks)
    if plan.pending:
        _check_memory(plan)


def refuse_other(settings: Settings) -> None:
    """Refuse to train under the name of another training, or from a network that does not fit.

    Raises
    ------
    UsageError
        If the model's folder holds another training, or one that should not go on.
    """
    from vxmprep.training.errors import TrainingError
    from vxmprep.training.folder import ModelFolder
    from vxmprep.training.initial import find_initial

    training, folder = settings.training, ModelFolder(settings.model_folder)
    start = None
    if settings.initial_model is not None:
        try:
            start = find_initial(settings.initial_model, training, folder, _spelled).checksum
        except TrainingError as error:
            raise UsageError(f"--initial-model {error}") from error
    try:
        known = {**training.identity(), "initial_model": start}
        folder.refuse_other(known, resume=settings.resume)
    except TrainingError as error:
        raise UsageError(str(error)) from error


def _spelled(name: str, value: object) -> str:
    """Give a setting as an option."""
    if isinstance(value, tuple):
        value = ":".join(",".join(map(str, side)) for side in value)
    return f"--{name.replace('_', '-')} {value}"


def _check_labels(plan: Plan, tasks: list[Task]) -> None:
    training = plan.settings.training
    if not training.segmentation_weight:
        return
    labelled = sum(task.segmentation is not None for task in tasks)
    carried = training.segmentations == "atlas"
    if carried and plan.atlas.labels is None:
        raise UsageError("--segmentations atlas: the atlas has no labels; give --atlas-labels")
    if training.pairs == "atlas" and plan.atlas.labels is None:
        raise UsageError(
            "--segmentation-weight: the atlas has no labels; give --atlas-labels, or --pairs "
            "subjects"
        )
    if carried:
        return
    if labelled < (1 if training.pairs == "atlas" else 2):
        raise UsageError(
            f"--segmentation-weight: {labelled} of the scans have a segmentation; check "
            "--fs-subjects-dir and --derivatives, or give --segmentations atlas"
        )


def _check_memory(plan: Plan) -> None:
    """Find out before hours of preparing whether a step of the training fits the device."""
    from vxmprep.atlas import prepare_atlas
    from vxmprep.spatial.grid import Grid
    from vxmprep.training.errors import TrainingError
    from vxmprep.training.loop import make_network
    from vxmprep.training.memory import fit
    from vxmprep.training.volumes import coarse_shape

    training = plan.settings.training
    shape = coarse_shape(Grid.of(prepare_atlas(plan.atlas).network_mask), training.voxel_size)
    pairs = training.batch_size // (training.devices * training.nodes)
    try:
        fit(make_network(training), training, shape, plan.compute, pairs)
    except TrainingError as error:
        raise UsageError(str(error)) from error


def _excluded(plan: Plan) -> dict[str, str]:
    path = plan.settings.exclude
    return {} if path is None else read_exclusions(path, [scan.stem for scan in plan.scans])


def train(plan: Plan, work: Path, logs: Path) -> Path | None:
    """Train a network on the scans of a plan that are prepared.

    Parameters
    ----------
    plan : Plan
        Of the level ``prepare``, which has been run.
    work, logs : Path
        Folders of this run.

    Returns
    -------
    Path or None
        The network's file, or None if it failed, which has been told.
    """
    settings = plan.settings
    scans, left_out = choose_prepared(plan)
    for name, reason in left_out.items():
        print(f"left out of the training: {name}: {reason}", flush=True)
    if not scans:
        print("FAILED train: no scan is prepared and sound", file=sys.stderr)
        return None
    graph = _graph(plan, scans, left_out)
    graph.base_dir = str(work)
    graph.config["execution"] = {"crashdump_dir": str(logs), "crashfile_format": "txt"}
    log_to(logs / "nipype.log")
    if settings.write_graph:
        graph.write_graph(str(logs / "training.dot"), graph2use="colored", format="svg")
    print(
        f"training {settings.model_name} on {len(scans)} scans, {len(left_out)} left out; "
        f"all about it is in {settings.model_folder}",
        flush=True,
    )
    from vxmprep.cli.plugin import load_plugin

    plugin = ("Linear", {}) if settings.use_plugin is None else read_plugin(settings.use_plugin)
    try:
        graph.run(load_plugin(*plugin))
    except Exception as error:
        crashes = sorted(logs.glob("crash-*.txt"))
        trace = crashes[-1].read_text(encoding="utf-8", errors="replace") if crashes else ""
        if found := INTERRUPTED.search(trace):
            # nipype takes an interrupt within a node for the node's own failure.
            crashes[-1].unlink()
            raise (Terminated if found[1] == Terminated.__name__ else KeyboardInterrupt) from error
        cause = cause_of(trace) or " ".join(str(error).split())
        print(f"FAILED train: {cause}", file=sys.stderr)
        for crash in crashes[-1:]:
            print(f"       {crash}", file=sys.stderr)
        return None
    return settings.model_folder / "model.pt"


def choose_prepared(plan: Plan) -> tuple[list[dict], dict[str, str]]:
    """Tell which scans can be trained on, and why others are left out.

    Parameters
    ----------
    plan : Plan
        Of the level ``prepare``, which has been run.

    Returns
    -------
    list of dict
        Scans as `vxmprep.workflows.init_training_wf` takes them.
    dict
        Reasons by scan.
    """
    excluded, bids_dir = _excluded(plan), plan.settings.bids_dir
    sites, people = read_sites(bids_dir), read_people(bids_dir / "participants.tsv")
    scans, left_out = [], {}
    for task in plan.tasks:
        record = Record.of(plan.settings.output_dir, task.scan.stem)
        reason = excluded.get(task.scan.stem) or _unfit(task, record)
        if reason:
            left_out[task.scan.stem] = reason
        else:
            scans.append(_described(task, record, sites, people))
    return scans, left_out


def _needed(task: Task) -> list[Stage]:
    """Give the stages that a training needs; it can do without pictures."""
    return [stage for stage in task.stages if stage.name not in PICTURES]


def _unfit(task: Task, record: Record) -> str:
    """Say why a scan cannot be trained on; empty if it can."""
    if record.missing(_needed(task)):
        return record.failure.get("cause") or "not prepared"
    flags = [
        flag
        for stage in task.stages
        if stage.name in DOUBTFUL
        for flag in record.stages[stage.key]["flags"]
    ]
    return "; ".join(flags)


def _described(
    task: Task, record: Record, sites: Mapping[str, str], people: Mapping[str, str]
) -> dict:
    files = {name: path for stage in _needed(task) for name, path in record.files(stage).items()}
    participant = task.scan.participant
    # A person under several labels is one to the split.
    who = people.get(participant, participant)
    described = {"name": task.scan.stem, "participant": who, "image": files["conformed"]}
    if "conformed_labels" in files:
        described["labels"] = files["conformed_labels"]
    if participant in sites:
        described["site"] = sites[participant]
    return described


def _graph(plan: Plan, scans: list[dict], left_out: dict[str, str]) -> pe.Workflow:
    from vxmprep.workflows import init_training_wf

    settings, atlas = plan.settings, plan.atlas
    return init_training_wf(
        scans=scans,
        atlas_image=str(atlas.image),
        atlas_mask=None if atlas.mask is None else str(atlas.mask),
        atlas_labels=None if atlas.labels is None else str(atlas.labels),
        space=atlas.name,
        folder=str(settings.model_folder),
        settings=settings.training.as_mapping(),
        split=None if settings.split is None else str(settings.split),
        initial_model=None if settings.initial_model is None else str(settings.initial_model),
        resume=settings.resume,
        licence=read_licence(settings.bids_dir),
        left_out=left_out,
    )
