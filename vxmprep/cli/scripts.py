"""The text of the scripts that Slurm runs, from their templates."""

from __future__ import annotations

import importlib.resources
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import vxmprep
from vxmprep.config import Settings
from vxmprep.training.settings import TrainingSettings

PURPOSE = {
    "prepare": "Finds, corrects and aligns the brain of every scan.",
    "train": "Trains a network on the prepared scans; submitted again, it goes on.",
    "participant": "Registers and evaluates every scan.",
    "group": "Makes the cohort's tables and page from what is there.",
}

GRACE = 90
"""Seconds between SIGTERM and the end of a job's time."""

WORK = '"${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/vxmprep-$(id -u)"'
"""The node's own disk; jobs of a user share the folder, and tidy up after those killed."""

WIDTH = 90

OWN = (
    "bids_dir", "output_dir", "levels", "participant_label", "nprocs", "omp_nthreads", "mem_mb",
    "work_dir", "device", "precision", "bids_database_dir", "model", "skip_bids_validation",
)  # fmt: skip
"""Options that scripts say for themselves."""


@dataclass(frozen=True)
class Job:
    """What a level asks Slurm for.

    Attributes
    ----------
    level : str
        The level.
    tasks : tuple of tuple of str
        Labels of participants for each task of an array; empty for a single job.
    nprocs, mem_mb, time : int, int, str
        Processors for each of `ntasks`, memory of a node, and time as Slurm writes it.
    gpus : int
        GPUs on each node.
    nodes, ntasks : int
        Nodes, and processes on each.
    partition : str or None
        Where it runs; Slurm's default if None.
    words : tuple of str
        Options of vxmprep that are this level's own.
    """

    level: str
    tasks: tuple[tuple[str, ...], ...]
    nprocs: int
    mem_mb: int
    time: str
    gpus: int = 0
    nodes: int = 1
    ntasks: int = 1
    partition: str | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """What is the same for all jobs of a cohort.

    Attributes
    ----------
    account : str or None
        Who pays.
    extra : tuple of str
        More options of sbatch.
    setup : tuple of str
        Lines of shell to run before vxmprep.
    image : Path or None
        Apptainer image to run in.
    binds : tuple of str
        Folders to be seen in it, and how, as Apptainer has them.
    python : str
        The interpreter that has vxmprep.
    folder : Path
        Where the scripts lie.
    """

    account: str | None
    extra: tuple[str, ...]
    setup: tuple[str, ...]
    image: Path | None
    binds: tuple[str, ...]
    python: str
    folder: Path


def options_of(settings: Settings, level: str) -> list[str]:
    """Give the options of a command line that differ from the defaults, as words of the shell.

    Parameters
    ----------
    settings : Settings
        What was asked for.
    level : str
        Options of the training are left out where nothing is trained, and positionals always, as
        is what each script says for itself.
    """
    usual = Settings(settings.bids_dir, settings.output_dir).as_options()
    training = {item.name for item in fields(TrainingSettings)}
    training |= {"model_name", "split", "initial_model", "resume", "only_prepared"}
    groups = []
    for name, value in settings.as_options().items():
        elsewhere = level != "train" and name.removeprefix("no_") in training
        if name in OWN or elsewhere or value == usual.get(name):
            continue
        if name == "force" and level not in ("prepare", "participant"):
            continue
        flag = "--" + name.replace("_", "-")
        if value is True:
            groups.append(flag)
        elif name == "verbose":
            groups.append("-" + "v" * value)
        elif isinstance(value, list):
            groups.append(" ".join([flag, *(shlex.quote(str(one)) for one in value)]))
        else:
            groups.append(f"{flag}={shlex.quote(str(value))}")
    return groups


def script(job: Job, site: Site, settings: Settings, database: Path) -> str:
    """Write the script of a level."""
    where = (settings.bids_dir, settings.output_dir, job.level)
    words = [" ".join(shlex.quote(str(word)) for word in where), *options_of(settings, job.level)]
    words += job.words
    words += [
        "--skip-bids-validation",
        f"--bids-database-dir={shlex.quote(str(database))}",
        '--work-dir="$work"',
        f"--nprocs={job.nprocs * job.ntasks}",
        f"--mem-mb={int(0.9 * job.mem_mb)}",
    ]
    if job.tasks:
        words.append('--participant-label "${participants[@]}"')
    elif settings.participant_label:
        words.append(_rows("--participant-label", settings.participant_label))
    return _filled(
        "job.sh",
        DIRECTIVES="\n".join(f"#SBATCH {one}" for one in _directives(job, site)),
        PURPOSE=PURPOSE[job.level],
        TASKS=_tasks(job.tasks) if job.tasks else "",
        WORK=WORK if settings.work_dir == Path("work").absolute() else shlex.quote(
            str(settings.work_dir)),
        SETUP="".join(f"{line}\n" for line in site.setup),
        BEFORE=_note_killed(job, site, settings) if job.level == "group" else "",
        COMMAND=_command([*_start(job, site, "vxmprep"), *words]),
    )  # fmt: skip


def submit_script(jobs: Sequence[Job], most: int, at_once: int | None) -> str:
    """Write the script that submits the others.

    Parameters
    ----------
    jobs : sequence of Job
        In their order.
    most : int
        Slurm's MaxArraySize: an array's numbers are below it.
    at_once : int, optional
        Most tasks of an array that run at the same time.
    """
    steps = []
    for job in jobs:
        if steps:
            steps.append("then_after")
        if not job.tasks:
            steps.append(f"submit {job.level} {job.level}.sh")
        limit = f"%{at_once}" if at_once else ""
        for first in range(0, len(job.tasks), most):
            last = min(most, len(job.tasks) - first) - 1
            offset = f" {first}" if first else ""
            steps.append(f"submit {job.level} --array=0-{last}{limit} {job.level}.sh{offset}")
    return _filled("submit.sh", STEPS="\n".join(steps))


def _directives(job: Job, site: Site) -> list[str]:
    log = "logs/%x-%A_%a.log" if job.tasks else "logs/%x-%j.log"
    given = {
        "job-name": f"vxmprep-{job.level}",
        "output": log,
        "open-mode": "append",
        "partition": job.partition,
        "account": site.account,
        "time": job.time,
        "mem": f"{job.mem_mb}M",
        "nodes": job.nodes,
        "ntasks-per-node": job.ntasks,
        "cpus-per-task": job.nprocs,
        "gres": f"gpu:{job.gpus}" if job.gpus else None,
        "signal": f"B:TERM@{GRACE}",
    }
    return [f"--{key}={value}" for key, value in given.items() if value is not None] + [
        *site.extra
    ]


def _note_killed(job: Job, site: Site, settings: Settings) -> str:
    """Note in the records which scans Slurm has killed, so that the tables name them."""
    where = [shlex.quote(str(one)) for one in (settings.bids_dir, settings.output_dir)]
    folder = f"--script-dir={shlex.quote(str(site.folder))}"
    # Scans of the same people that are not among those chosen were in no job.
    chosen = [
        words
        for words in options_of(settings, "group")
        if words.startswith(("--bids-filter-file", "--session-label"))
    ]
    words = [*_start(job, site, "vxmprep.cli.slurm"), *where, folder, *chosen, "--status || true"]
    return f"\n# Notes which scans were killed with their jobs.\n{_command(words)}\n"


def _command(words: Sequence[str]) -> str:
    return " \\\n    ".join(words)


def _start(job: Job, site: Site, module: str) -> list[str]:
    """Give the words before a command's own options."""
    program = f"{shlex.quote(site.python)} -m {module}"
    if site.image is None:
        return [program]
    words = ["apptainer exec --cleanenv --containall" + (" --nv" if job.gpus else "")]
    words.append('--env "TMPDIR=$work"')
    if job.gpus:
        words.append('--env "CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-}"')
    words += [f"--bind={shlex.quote(bind)}" for bind in site.binds]
    words += ['--bind="$work"', shlex.quote(str(site.image)), program]
    return words


def _tasks(tasks: Iterable[Sequence[str]]) -> str:
    return _filled("tasks.sh", ROWS="\n".join(f'    "{" ".join(task)}"' for task in tasks))


def _rows(option: str, labels: Sequence[str]) -> str:
    """Write many labels, in lines of a length that can be read."""
    lines, line = [], option
    for label in labels:
        if len(line) + len(label) > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {shlex.quote(label)}"
    return " \\\n    ".join([*lines, line])


def _filled(template: str, **values: str) -> str:
    """Fill in a template: its @NAME@ are the values."""
    text = (importlib.resources.files("vxmprep") / "data" / "slurm" / template).read_text("utf-8")
    values["VERSION"] = vxmprep.__version__
    filled = re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], text)
    return re.sub(r"\n{3,}", "\n\n", filled)
