"""What the jobs of a cohort are: which scans lack what, and what that takes."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vxmprep.bids.records import Record
from vxmprep.cli.cohort import ask_slurm
from vxmprep.cli.scripts import Job
from vxmprep.config import LEVELS

if TYPE_CHECKING:
    from vxmprep.cli.plan import Plan, Task
    from vxmprep.config import Settings

MINUTES = {"prepare": 3, "participant": 8}
"""Time granted to a scan on a processor, several times of what is usual (0.3 and 2.2)."""

START = 10
"""Minutes granted to a job beside its scans."""

USUAL_GB = 0.06
"""A scan of 1 mm at float32; a larger one takes longer."""

BASE_GB = 1.0
"""Memory of a job beside its steps: what drives them, and the system's."""

GROUP_PROCESSES = 4
"""Processes that compare the label maps of a cohort, where a node has as many processors."""

GROUP_MINUTES = 0.5
"""Time granted to each scan in these, several times of what is usual (6.5 s at 1 mm)."""

GROUP_GB = 2.0
"""Memory of what they report to: the votes of the cohort."""

TRAIN_PROCESSORS = 4
"""Processors of a training for each device, where a node has as many."""

TRAIN_GB = 4.0
"""Memory of a training beside its steps, for each device."""


def make_jobs(settings: Settings, asked: argparse.Namespace) -> list[Job]:
    """Find out what is missing, and what its jobs need.

    Parameters
    ----------
    settings : Settings
        What was asked for; without a network that is still to be trained.
    asked : argparse.Namespace
        Options of `vxmprep-slurm`: width, time, memory, partitions.

    Returns
    -------
    list of Job
        In the order in which they run.

    Raises
    ------
    UsageError, DatasetError, AtlasError
        If something is wrong with what was asked for.
    """
    from vxmprep.cli.plan import PREPARED, make_plan

    levels = settings.levels
    trained = settings.model_folder / "model.pt"
    training = "train" in levels and not _is_trained(settings)
    # A login node has no GPU, nor the model that is still to be trained.
    here = replace(settings, device="cpu", levels=("participant",))
    if settings.precision == "auto":
        here = replace(here, precision="float32")  # on every node alike
    if "train" in levels and not training:
        here = replace(here, model=trained)
    jobs = []
    scans = 0
    name = settings.model_name if "train" in levels else settings.model_option
    network = [f"--model={shlex.quote(name)}"]
    if {"prepare", "participant"} & set(levels):
        plan = make_plan(here)
        scans = len(plan.tasks)
        cuda = settings.device.startswith("cuda")
        if "prepare" in levels:
            lacking = [task for task in plan.tasks if set(PREPARED) & set(task.missing)]
            jobs += _array("prepare", plan, lacking, asked, PREPARED)
        if "participant" in levels:
            lacking = [task for task in plan.tasks if task.missing or training]
            if training:
                # The graph wants a file; what it needs does not depend on what is in it.
                plan = replace(plan, settings=replace(here, model=plan.atlas.image))
            every = tuple(stage.name for stage in plan.tasks[0].stages)
            jobs += _array("participant", plan, lacking, asked, every, cuda=cuda, more=network)
    if training:
        jobs.append(_training_job(settings, asked))
    if "group" in levels:
        known = len(Record.all(settings.output_dir))
        jobs.append(_group_job(max(scans, known), asked))
    return sorted(jobs, key=lambda job: LEVELS.index(job.level))


def _is_trained(settings: Settings) -> bool:
    """Tell whether the network that is asked for is there.

    Raises
    ------
    UsageError
        If another one has its name.
    """
    from vxmprep.cli.train import refuse_other
    from vxmprep.training.card import card_of
    from vxmprep.training.folder import ModelFolder

    refuse_other(settings)
    folder = ModelFolder(settings.model_folder)
    card = card_of(folder)
    if card is None or not folder.model.is_file():
        return False
    return card["ended"] != "iterations" or (
        card["progress"]["iteration"] >= settings.training.iterations
    )


def _array(
    level: str,
    plan: Plan,
    lacking: Sequence[Task],
    asked: argparse.Namespace,
    stages: Sequence[str],
    *,
    cuda: bool = False,
    more: Sequence[str] = (),
) -> list[Job]:
    """Give the array of a level, if a scan lacks it."""
    if not lacking:
        return []
    settings = plan.settings
    people = sorted({task.scan.participant for task in lacking})
    tasks = tuple(tuple(people[i : i + asked.width]) for i in range(0, len(people), asked.width))
    threads = settings.threads(asked.width)
    at_once = max(1, settings.nprocs // threads)
    largest = max(lacking, key=lambda task: task.gigabytes)
    memory = BASE_GB + at_once * _peak_gb(plan, largest, stages)
    scans = max(sum(task.scan.participant in one for task in lacking) for one in tasks)
    slower = max(1.0, largest.gigabytes / USUAL_GB)
    minutes = START + MINUTES[level] * slower * math.ceil(scans / at_once)
    words = [f"--omp-nthreads={threads}", f"--device={'cuda' if cuda else 'cpu'}"]
    words.append(f"--precision={settings.precision}")
    return [
        Job(
            level,
            tasks,
            settings.nprocs,
            settings.mem_mb or _in_mb(memory),
            asked.time or _clock(minutes),
            gpus=int(cuda),
            partition=(cuda and asked.gpu_partition) or asked.partition,
            words=(*words, *more),
        )
    ]


def _peak_gb(plan: Plan, task: Task, stages: Sequence[str]) -> float:
    """Give the memory of the largest step of a scan, as the graph estimates it."""
    chosen = tuple(stage for stage in task.stages if stage.name in stages)
    graph = plan.graph([replace(task, stages=chosen, missing=tuple(stages))])
    return max(graph.get_node(name).mem_gb for name in graph.list_node_names())


def _training_job(settings: Settings, asked: argparse.Namespace) -> Job:
    from vxmprep.atlas import prepare_atlas
    from vxmprep.cli.plan import make_plan
    from vxmprep.morph.compute import choose_compute
    from vxmprep.spatial.grid import Grid
    from vxmprep.training.loop import make_network
    from vxmprep.training.memory import predict_peak
    from vxmprep.training.volumes import coarse_shape

    training = settings.training
    partition = asked.gpu_partition or asked.partition
    cuda = settings.device.startswith("cuda")
    if settings.device == "auto":
        cuda = _has_gpus(partition)
        found = "has GPUs" if cuda else "has no GPU that sinfo knows of"
        print(f"training on {'cuda' if cuda else 'cpu'}: the partition {found}; --device chooses")
    memory = TRAIN_GB * training.devices
    if not cuda:
        plan = make_plan(replace(settings, device="cpu", levels=("prepare",), model=None))
        mask = prepare_atlas(plan.atlas).network_mask
        shape = coarse_shape(Grid.of(mask), training.voxel_size)
        dtype = choose_compute("cpu", settings.precision).dtype
        segmented = training.segmentation_weight > 0
        each = predict_peak(make_network(training), shape, dtype, segmented=segmented)
        pairs = training.batch_size // (training.devices * training.nodes)
        memory += each * pairs * training.devices / 0.85
    there = _processors(
        partition if cuda else asked.partition, TRAIN_PROCESSORS * training.devices
    )
    return Job(
        "train",
        (),
        asked.train_nprocs or max(1, there // training.devices),
        asked.train_mem_mb or _in_mb(memory),
        asked.train_time,
        gpus=training.devices if cuda else 0,
        nodes=training.nodes,
        ntasks=training.devices,
        partition=partition if cuda else asked.partition,
        words=(
            f"--device={'cuda' if cuda else 'cpu'}",
            f"--precision={settings.precision}",
            "--omp-nthreads=1",
        ),
    )


def _group_job(scans: int, asked: argparse.Namespace) -> Job:
    from vxmprep.cli.group import LARGEST_WORKER_GB

    processes = max(1, min(scans, _processors(asked.partition, GROUP_PROCESSES)))
    minutes = 2 * START + GROUP_MINUTES * scans / processes
    memory = BASE_GB + GROUP_GB + processes * LARGEST_WORKER_GB
    return Job("group", (), processes, _in_mb(memory), _clock(minutes), partition=asked.partition)


def _clock(minutes: float) -> str:
    """Write a time as Slurm does."""
    return f"{int(minutes // 60)}:{int(minutes % 60):02d}:00"


def _in_mb(gigabytes: float) -> int:
    """Round up to half a GiB."""
    return math.ceil(2 * gigabytes) * 512


def _has_gpus(partition: str | None) -> bool:
    """Ask Slurm whether a partition, or any where none is named, has GPUs."""
    return any("gpu" in one for one in _of_the_nodes("%G", partition))


def _processors(partition: str | None, most: int) -> int:
    """Give that many processors, or those of the largest node: more would wait for ever."""
    there = [int(one) for one in _of_the_nodes("%c", partition) if one.isdecimal()]
    return min(most, max(there, default=most))


def _of_the_nodes(what: str, partition: str | None) -> list[str]:
    """Ask Slurm what the nodes of a partition have; nothing where it cannot be asked."""
    words = ["sinfo", "--noheader", "--Node", f"--format={what}"]
    words += [f"--partition={partition}"] if partition else []
    said = ask_slurm(words)
    return [] if said is None else said.stdout.split()
