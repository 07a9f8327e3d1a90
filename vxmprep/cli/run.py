"""``vxmprep``: from a command line to a graph, and from its end to an exit code."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vxmprep.bids.index import DatasetError
from vxmprep.cli.parser import parse
from vxmprep.config import UsageError
from vxmprep.signals import Terminated, terminable
from vxmprep.spatial.files import RUN, remove_left_behind
from vxmprep.templates import AtlasError

if TYPE_CHECKING:
    from vxmprep.cli.plan import Plan
    from vxmprep.config import Settings


LEAST_MB = 3600
"""Memory of the largest step."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; the process's own by default.

    Returns
    -------
    int
        0 if all scans are done, 1 if some failed, 2 for bad usage or input, 130 or 143 if the run
        was interrupted by Ctrl-C or SIGTERM.
    """
    try:
        settings = parse(argv)
    except SystemExit as leave:
        return int(leave.code or 0)
    try:
        with terminable():
            return _run(settings)
    except (AtlasError, DatasetError, UsageError) as error:
        print(f"vxmprep: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"vxmprep: {_of_the_system(error)}", file=sys.stderr)
        return 2 if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else 1
    except KeyboardInterrupt as interrupt:
        print("vxmprep: interrupted; the same command goes on from here", file=sys.stderr)
        return 143 if isinstance(interrupt, Terminated) else 130


def _run(settings: Settings) -> int:
    from vxmprep.cli.plan import make_plan

    scans = tuple(level for level in settings.levels if level != "group")
    if settings.boilerplate_only:
        if not scans:
            raise UsageError(
                "--boilerplate-only: tells what is done to scans; name the level participant"
            )
        print(write_boilerplate(make_plan(replace(settings, levels=scans))))
        return 0
    if "group" in settings.levels:
        from vxmprep.cli.group import check_group, group

        check_group(settings)
    code = _scans(replace(settings, levels=scans), settings) if scans else 0
    if "group" not in settings.levels or (code and settings.stop_on_first_crash):
        return code
    with run_folder(settings.work_dir) as work:
        group(settings, work)
    return code


def _scans(settings: Settings, given: Settings) -> int:
    """Do what is asked for of the scans; the settings as given are what the logs keep."""
    from vxmprep.cli.plan import make_plan

    if settings.reports_only:
        return _process(make_plan(replace(settings, levels=("participant",))), given)
    if "train" in settings.levels:
        return _train(settings, given)
    return _process(make_plan(settings), given)


def _train(settings: Settings, given: Settings) -> int:
    """Prepare, train, and register with the network just trained, as far as asked for."""
    from vxmprep.cli.plan import make_plan
    from vxmprep.cli.train import check_training, train

    plan = make_plan(replace(settings, levels=("prepare",)))
    check_training(plan)
    code = 0 if settings.only_prepared else _process(plan, given)
    if code and settings.stop_on_first_crash:
        return code
    with run_folder(settings.work_dir) as work:
        set_environment(work, settings.training.threads)
        model = train(plan, work, _start_logs(given))
    if model is None:
        return 1
    if "participant" not in settings.levels:
        write_boilerplate(replace(plan, settings=settings))
        return code
    after = make_plan(replace(settings, levels=("participant",), model=model))
    return max(code, _process(_without_prepared(after), given, warned=True))


def _without_prepared(plan: Plan) -> Plan:
    """Leave out of a plan that does all again what this run has prepared already."""
    from vxmprep.cli.plan import PREPARED

    tasks = []
    for task in plan.tasks:
        lacking = task.record.missing(task.stages)
        missing = (name for name in task.missing if name in lacking or name not in PREPARED)
        tasks.append(replace(task, missing=tuple(missing)))
    return replace(plan, tasks=tuple(tasks))


def _process(plan: Plan, given: Settings, *, warned: bool = False) -> int:
    """Do what is to be done with each scan."""
    from vxmprep.bids.derivatives import describe_dataset
    from vxmprep.cli.execute import execute, read_plugin

    settings = plan.settings
    try:
        describe_dataset(settings.output_dir, settings.bids_dir)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"{settings.output_dir}: cannot be made ({error.strerror}); give another folder"
        ) from error
    dead = remove_old_work(settings.work_dir, every=settings.clean_workdir)
    for folder in _written(plan) if dead else (settings.output_dir, settings.output_dir / "logs"):
        remove_left_behind(folder, dead=dead)
    if not plan.pending:
        return execute(plan)
    if not warned:
        warn_of(plan)
    with run_folder(settings.work_dir) as work:
        set_environment(work, plan.threads)
        if settings.use_plugin is not None:
            read_plugin(settings.use_plugin)
        code = execute(plan, work, _start_logs(given))
    if settings.reports_only:
        return code
    chosen = settings.participant_label or settings.session_label
    if not (chosen and (settings.output_dir / "CITATION.md").is_file()):
        write_boilerplate(plan)  # a job of one participant leaves the cohort's text alone
    return code


def _written(plan: Plan) -> Iterator[Path]:
    """Give the folders into which a run of this plan writes."""
    output_dir = plan.settings.output_dir
    yield output_dir
    names = {"logs", "models", *(f"sub-{task.scan.participant}" for task in plan.tasks)}
    for name in sorted(names):
        yield from (output_dir / name).glob("**/")


def warn_of(plan: Plan) -> None:
    """Say what may be wrong with the dataset as a whole; nothing of it stops the run."""
    settings = plan.settings
    if settings.mem_mb is not None and settings.mem_mb < LEAST_MB:
        print(
            f"vxmprep: --mem-mb {settings.mem_mb}: a registration takes about {LEAST_MB}; it runs "
            "all the same, alone",
            file=sys.stderr,
        )
    if settings.model is not None:
        from vxmprep.cli.methods import trained_to

        other = trained_to(settings.model)
        if other not in (None, plan.atlas.name):
            print(
                f"vxmprep: --model {settings.model_option}: trained to register to {other}, not "
                f"to {plan.atlas.name}; leave it to the refinement to make up for that, with "
                "--refine-iterations 110, or take --model none",
                file=sys.stderr,
            )
    if not settings.skip_bids_validation:
        from vxmprep.bids.validation import validate

        warning = validate(settings.bids_dir)
        if warning:
            print(f"vxmprep: {warning}", file=sys.stderr)
    unfetched = [task.unfetched for task in plan.tasks if task.unfetched is not None]
    if unfetched:
        more = f" and {len(unfetched) - 1} more" if len(unfetched) > 1 else ""
        print(
            f"vxmprep: {unfetched[0]}{more}: content not fetched; registered without Dice, unless "
            "it is got first (datalad get or git annex get)",
            file=sys.stderr,
        )
    if settings.fs_subjects_dir is not None:
        lacking = [
            task.scan.stem
            for task in plan.tasks
            if task.segmentation is None and task.unfetched is None
        ]
        if lacking:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            print(
                f"vxmprep: --fs-subjects-dir {settings.fs_subjects_dir}: no segmentation of "
                f"{lacking[0]}{more}; they are registered without Dice",
                file=sys.stderr,
            )


def write_boilerplate(plan: Plan) -> str:
    """Write the methods text and its references into the output folder, and give the text."""
    from vxmprep.bids.derivatives import write_text
    from vxmprep.cli.methods import methods_of
    from vxmprep.reports.boilerplate import bibtex, methods_text

    methods = methods_of(plan)
    text = methods_text(methods)
    write_text(plan.settings.output_dir / "CITATION.md", text)
    write_text(plan.settings.output_dir / "logs" / "CITATION.bib", bibtex(methods))
    return text


def _start_logs(settings: Settings) -> Path:
    """Make the folder of this run's logs, with the settings in it."""
    import tomli_w

    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    logs = settings.output_dir / "logs" / name
    logs.mkdir(parents=True)
    text = "# vxmprep --config-file takes this file back\n" + tomli_w.dumps(settings.as_options())
    (logs / "config.toml").write_text(text, encoding="utf-8")
    return logs


@contextlib.contextmanager
def run_folder(work_dir: Path) -> Iterator[Path]:
    """Make a folder for the scans in progress, and remove it at the end.

    What runs of this machine that were killed have left there is removed too: their locks are no
    longer held.
    """
    remove_old_work(work_dir)
    name = uuid.uuid4().hex[:12]
    making = work_dir / f".making-{name}"
    making.mkdir(parents=True)
    with (making / "lock").open("w") as lock, _known_as(name):
        # Where a file system has no locks, nothing is ever taken for left behind.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Locked before it has the name by which others look for what was left behind.
        folder = making.rename(work_dir / f"vxmprep-{socket.gethostname()}-{name}")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # others work there
                work_dir.rmdir()


@contextlib.contextmanager
def _known_as(name: str) -> Iterator[None]:
    """Let what is written be known as this run's, by the processes that it starts too."""
    os.environ[RUN] = name
    try:
        yield
    finally:
        del os.environ[RUN]


def remove_old_work(work_dir: Path, *, every: bool = False) -> list[str]:
    """Remove the folders that runs have left in a work folder.

    Parameters
    ----------
    work_dir : Path
        Holds a folder per run.
    every : bool
        Those of other machines too, whose locks may not be seen here; by default only those of
        this machine. A folder that a run holds stays, as does one that cannot be locked.

    Returns
    -------
    list of str
        The runs whose folders were removed: they are dead.
    """
    dead = []
    host = ".+" if every else re.escape(socket.gethostname())
    for folder in work_dir.glob("vxmprep-*"):
        name = re.fullmatch(rf"vxmprep-{host}-([0-9a-f]{{12}})", folder.name)
        if name is None:
            continue
        with contextlib.suppress(OSError), (folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            dead.append(name[1])
    return dead


def set_environment(work: Path, threads: int) -> None:
    """Set what libraries read when they are imported, in this process and in its workers.

    Parameters
    ----------
    work : Path
        Holds nipype's configuration, so that workers say nothing (failures are told at the end)
        and nothing is written to the home folder.
    threads : int
        Processor threads of one worker.
    """
    folder = work / "nipype"
    folder.mkdir(parents=True, exist_ok=True)
    levels = ("workflow_level", "interface_level", "utils_level")
    lines = ["[logging]", *(f"{level} = CRITICAL" for level in levels), ""]
    (folder / "nipype.cfg").write_text("\n".join(lines), encoding="utf-8")
    os.environ["NIPYPE_CONFIG_DIR"] = str(folder)
    os.environ["NIPYPE_NO_ET"] = "1"
    # nipype names crash files by the user, whom containers and batch systems may not know.
    os.environ.setdefault("LOGNAME", "vxmprep")
    # Threads that spin while they wait starve the other workers.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    for variable in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[variable] = str(threads)


def _of_the_system(error: OSError) -> str:
    """Say in one line what the system refused."""
    where = error.filename or "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}: the disk is full; free some space and run the same command again"
    return f"{where}: {error.strerror or error}"


if __name__ == "__main__":
    sys.exit(main())
