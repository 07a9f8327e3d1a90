"""``vxmprep-slurm``: the scripts that take a cohort through a Slurm cluster."""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vxmprep.bids.index import DATABASE, DatasetError
from vxmprep.bids.validation import validate
from vxmprep.cli.cohort import ask_slurm, read_queue, tell
from vxmprep.cli.jobs import make_jobs
from vxmprep.cli.options import Parser, build_parser, positive
from vxmprep.cli.parser import BadOptionError, parse, read_config_file
from vxmprep.cli.scripts import Job, Site, script, submit_script
from vxmprep.config import BUNDLED, DEFAULT_ATLAS, LEVELS, UsageError
from vxmprep.templates import AtlasError, cache_folder
from vxmprep.wording import counted

if TYPE_CHECKING:
    from vxmprep.config import Settings

DESCRIPTION = """\
Write the Slurm scripts of a cohort for the levels given: prepare (an array), train (one job),
participant (an array) and group. Each begins when the one before has ended. They do what is
missing: give the command again, with --submit, until nothing is missing.
"""

EPILOG = """\
All other options are those of vxmprep and go into the scripts. --nprocs and --mem-mb are those of
a job (default: one processor, and the memory that the steps are estimated to need).

examples:
  vxmprep-slurm /data/study /data/study-vxmprep prepare train participant group \\
      --partition cpu --gpu-partition gpu --image vxmprep.sif --submit
  vxmprep-slurm /data/study /data/study-vxmprep --status
"""

USAGE = "vxmprep-slurm [options] [options of vxmprep] BIDS_DIR OUTPUT_DIR LEVEL [LEVEL ...]"

TEMPLATES = "/opt/vxmprep/templateflow"
"""Where the image has TemplateFlow's templates."""

MOST_TASKS = 1001
"""Slurm's own MaxArraySize."""


def build_slurm_parser() -> Parser:
    """Describe the options that are not vxmprep's."""
    parser = Parser(
        prog="vxmprep-slurm",
        usage=f"{USAGE}\n       vxmprep-slurm BIDS_DIR OUTPUT_DIR --status",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--script-dir",
        type=Path,
        metavar="PATH",
        help="where scripts and logs go (default: OUTPUT_DIR/code/slurm)",
    )
    parser.add_argument(
        "--submit", action="store_true", help="submit the scripts, and print the jobs' ids"
    )
    parser.add_argument(
        "--status",
        action="store_true",
        help="say how far the cohort is, and record what Slurm has killed; exit code 0 if all "
        "scans are done",
    )
    parser.add_argument("--partition", metavar="NAME", help="partition of the jobs")
    parser.add_argument(
        "--gpu-partition",
        metavar="NAME",
        help="partition of jobs on a GPU (default: that of --partition)",
    )
    parser.add_argument("--account", metavar="NAME", help="Slurm account to charge")
    parser.add_argument(
        "--time",
        type=_time,
        metavar="TIME",
        help="time of an array's task, as Slurm writes it (default: by the number of scans)",
    )
    parser.add_argument(
        "--train-time",
        type=_time,
        metavar="TIME",
        default="24:00:00",
        help="time of the training (default: 24:00:00)",
    )
    parser.add_argument(
        "--train-nprocs",
        type=positive,
        metavar="N",
        help="processors of the training, for each of --devices (default: 4, or what a node has)",
    )
    parser.add_argument(
        "--train-mem-mb",
        type=positive,
        metavar="MB",
        help="memory of the training on each node (default: estimated)",
    )
    parser.add_argument(
        "--width",
        type=positive,
        metavar="N",
        default=4,
        help="participants of each task of an array, one after the other (default: 4)",
    )
    parser.add_argument(
        "--at-once",
        type=positive,
        metavar="N",
        help="most tasks of an array that run at the same time",
    )
    parser.add_argument(
        "--image", type=Path, metavar="SIF", help="Apptainer image of vxmprep to run in"
    )
    parser.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="PATH[:PATH[:ro]]",
        help="another folder to be seen in the image, beside those that the options name",
    )
    parser.add_argument(
        "--setup",
        action="append",
        default=[],
        metavar="LINE",
        help="a line of shell to run before vxmprep, such as 'module load apptainer'",
    )
    parser.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="another option of sbatch for all jobs, such as --sbatch=--qos=long",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; the process's own by default.

    Returns
    -------
    int
        0 if the scripts are there, or were submitted; 1 if Slurm refused them; 2 for bad usage or
        input. With ``--status`` 0 if all scans are done, 1 if not.
    """
    others = build_parser(prog="vxmprep-slurm", usage=USAGE)
    try:
        asked, words = build_slurm_parser().parse_known_args(argv)
        settings = parse(_completed(words, asked, others), others)
    except SystemExit as leave:
        return int(leave.code or 0)
    folder = (asked.script_dir or settings.output_dir / "code" / "slurm").absolute()
    try:
        if asked.status:
            return tell(settings, folder)
        return _write(settings, asked, folder)
    except (AtlasError, DatasetError, UsageError) as error:
        print(f"vxmprep-slurm: {error}", file=sys.stderr)
    except OSError as error:
        where = error.filename or "a file"
        print(f"vxmprep-slurm: {where}: {error.strerror or error}", file=sys.stderr)
    return 2


def _completed(words: list[str], asked: argparse.Namespace, others: Parser) -> list[str]:
    """Add what has other defaults here than in vxmprep.

    Which is a processor for a job, whatever the login node has; and for what has been done, any
    level.
    """
    given = vars(others.parse_intermixed_args(words))
    if given.get("config_file") is not None:
        with contextlib.suppress(BadOptionError):  # told by parse
            given |= read_config_file(given["config_file"])
    if "nprocs" not in given:
        words = ["--nprocs=1", *words]
    if asked.status and not given.get("levels"):
        words = [*words, "--", "participant"]
    return words


def _write(settings: Settings, asked: argparse.Namespace, folder: Path) -> int:
    """Write the scripts, say what they will do, and submit them if that is asked for."""
    _check(settings, asked)
    if asked.submit and (busy := read_queue(folder)):
        count = counted(sum(sum(states.values()) for states in busy.values()), "job")
        raise UsageError(
            f"--submit: this cohort has {count} in Slurm's queue; wait for the end, see --status, "
            "or cancel with scancel"
        )
    if not settings.skip_bids_validation and (warning := validate(settings.bids_dir)):
        print(f"vxmprep-slurm: {warning}", file=sys.stderr)
    database = settings.bids_database_dir or folder / "bids-index"
    if settings.bids_database_dir is None:
        (database / DATABASE).unlink(missing_ok=True)  # the dataset may have grown
    settings = replace(settings, bids_database_dir=database)
    if "prepare" in settings.levels:
        # A scan that its job could not prepare must not end the training's job too.
        settings = replace(settings, only_prepared=True)
    jobs = make_jobs(settings, asked)
    if not jobs:
        print("all is done already; --force does it again")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    for level in LEVELS:
        (folder / f"{level}.sh").unlink(missing_ok=True)
    site = _site(settings, asked, folder)
    for job in jobs:
        _save(folder / f"{job.level}.sh", script(job, site, settings, database))
        print(_described(job))
    _save(folder / "submit.sh", submit_script(jobs, _most_tasks(), asked.at_once))
    if not asked.submit:
        print(f"submit them with {folder / 'submit.sh'}, or with --submit")
        return 0
    try:
        done = subprocess.run([folder / "submit.sh"], check=False)
    except OSError as error:
        raise UsageError(f"{folder / 'submit.sh'}: {error.strerror}") from error
    if done.returncode:
        print("vxmprep-slurm: Slurm refused a job, see above", file=sys.stderr)
    return int(done.returncode != 0)


def _check(settings: Settings, asked: argparse.Namespace) -> None:
    if asked.submit and shutil.which("sbatch") is None:
        raise UsageError(
            "--submit: there is no sbatch on the PATH; run it where jobs are submitted"
        )
    if settings.use_plugin is not None:
        raise UsageError("--use-plugin: each job is on one machine; leave it out")
    if asked.image is None:
        return
    if not asked.image.is_file():
        raise UsageError(f"--image {asked.image}: no such file")
    if "train" in settings.levels and settings.training.nodes > 1:
        raise UsageError(
            "--nodes with --image: Slurm's srun is not in the image; train on one node, with "
            "several --devices, or without --image"
        )
    for path in filter(None, [*_seen(settings), _template_cache(settings)]):
        if re.search(r"[:,\\]", str(path)):
            raise UsageError(f"{path}: Apptainer cannot bind a path with : , or \\; rename it")


def _most_tasks() -> int:
    """Ask Slurm how many tasks an array may have."""
    said = ask_slurm(["scontrol", "show", "config"])
    found = said and re.search(r"^MaxArraySize\s*=\s*(\d+)", said.stdout, re.MULTILINE)
    return max(1, int(found[1])) if found else MOST_TASKS


def _site(settings: Settings, asked: argparse.Namespace, folder: Path) -> Site:
    image = asked.image and asked.image.absolute()
    if image is None:
        python = sys.executable
        binds = ()
    else:
        python = "python"
        writable = {settings.output_dir, folder, settings.bids_database_dir}
        binds = tuple(
            str(path) if path in writable else f"{path}:{path}:ro"
            for path in _seen(settings) + [folder] * (settings.output_dir not in folder.parents)
        )
        if (cache := _template_cache(settings)) is not None:
            binds += (f"{cache}:{TEMPLATES}:ro",)
    return Site(
        asked.account,
        tuple(asked.sbatch),
        tuple(asked.setup),
        image,
        tuple(dict.fromkeys([*binds, *asked.bind])),
        python,
        folder,
    )


def _seen(settings: Settings) -> list[Path]:
    """Give the folders and files that the options name."""
    found = [settings.bids_dir, settings.output_dir, *settings.derivatives]
    for name in ("fs_subjects_dir", "bids_filter_file", "bids_database_dir", "exclude", "split",
                 "atlas_labels", "model", "initial_model", "compare"):  # fmt: skip
        path = getattr(settings, name)
        own = path == BUNDLED or (path is not None and settings.output_dir in path.parents)
        if path is not None and path.exists() and not own:
            found.append(path)
    found += [Path(name) for name in (settings.atlas, settings.labels) if Path(name).is_file()]
    return found


def _template_cache(settings: Settings) -> Path | None:
    """Give TemplateFlow's cache, which the image does not see, if the atlas is from there."""
    cache = cache_folder()
    if settings.atlas == DEFAULT_ATLAS or cache == Path(TEMPLATES):
        return None
    return cache if (cache / f"tpl-{settings.atlas.partition(':')[0]}").is_dir() else None


def _save(path: Path, text: str) -> None:
    from vxmprep.bids.derivatives import write_text

    write_text(path, text)
    path.chmod(0o755)


def _described(job: Job) -> str:
    """Say in one line what a job is."""
    people = sum(map(len, job.tasks))
    tasks = f"{counted(len(job.tasks), 'task')} for {counted(people, 'participant')}, each"
    parts = [
        f"{job.level:12}{tasks if job.tasks else '1 job,'} "
        + counted(job.nprocs * job.ntasks, "processor"),
        f"{job.mem_mb} MB",
        job.time,
    ]
    if job.gpus:
        parts.append(counted(job.gpus, "GPU"))
    if job.nodes > 1:
        parts.append(f"{job.nodes} nodes")
    return ", ".join(parts)


def _time(text: str) -> str:
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        raise argparse.ArgumentTypeError(f"{text} is no time of Slurm, as 90, 1:30:00 or 2-00")
    return text


if __name__ == "__main__":
    sys.exit(main())
