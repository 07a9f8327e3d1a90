"""The options of ``vxmprep``."""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import vxmprep
from vxmprep.config import (
    DEFAULT_ATLAS,
    DEFAULT_ITERATIONS,
    PROGRAMS,
    SKULL_STRIP,
    Settings,
    available_processors,
)

DESCRIPTION = """\
Register the T1w scans of a BIDS dataset to an atlas: skull-strip, bias correction, affine,
VoxelMorph deformable registration. Writes BIDS derivatives with transforms that ITK and ANTs read.
"""

EPILOG = """\
example:
  vxmprep /data/study /data/study-vxmprep participant --nprocs 8
"""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong, and where help is."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = Parser(
        prog="vxmprep",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bids_dir", type=Path, metavar="BIDS_DIR", help="root of the dataset")
    parser.add_argument(
        "output_dir", type=Path, metavar="OUTPUT_DIR", help="where the derivatives go"
    )
    parser.add_argument(
        "levels",
        nargs="+",
        choices=["participant"],
        metavar="LEVEL",
        help="participant: prepare, register and evaluate every scan",
    )
    _add_selection(parser.add_argument_group("which scans, and what is there already"))
    _add_method(parser.add_argument_group("how they are registered"))
    _add_machine(parser.add_argument_group("the machine"))
    parser.add_argument("--version", action="version", version=f"vxmprep {vxmprep.__version__}")
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="a line for every step of every scan"
    )
    return parser


def parse(argv: Sequence[str] | None = None) -> Settings:
    """Turn a command line into settings.

    Raises
    ------
    SystemExit
        With code 2 and one line, for bad usage.
    """
    parser = build_parser()
    given = vars(parser.parse_args(argv))
    for option in ("levels", "participant_label", "session_label", "derivatives"):
        given[option] = tuple(given[option])
    problem = _problem(given)
    if problem:
        parser.exit(2, f"vxmprep: {problem}\n")
    given["model"] = None if given["model"] == "none" else Path(given["model"]).resolve()
    for option in ("bids_dir", "output_dir", "work_dir", "fs_subjects_dir"):
        if given[option] is not None:
            given[option] = given[option].absolute()
    given["derivatives"] = tuple(path.absolute() for path in given["derivatives"])
    return Settings(**given)


def _problem(given: dict) -> str | None:
    """Say what is wrong with the options, before any work starts."""
    bids_dir, output_dir = given["bids_dir"].resolve(), given["output_dir"].resolve()
    if not bids_dir.is_dir():
        return f"{bids_dir}: no such folder; give the root of a BIDS dataset"
    if output_dir == bids_dir:
        return f"{output_dir}: the output cannot be the dataset itself; give another folder"
    if output_dir.is_file():
        return f"{output_dir}: a file; the output is a folder"
    if given["work_dir"].is_file():
        return f"--work-dir {given['work_dir']}: a file; give a folder"
    if given["fs_subjects_dir"] is not None and not given["fs_subjects_dir"].is_dir():
        return f"--fs-subjects-dir {given['fs_subjects_dir']}: no such folder"
    for path in given["derivatives"]:
        if not path.is_dir():
            return f"--derivatives {path}: no such folder"
    program = PROGRAMS.get(given["skull_strip"])
    if program and shutil.which(program) is None:
        return (
            f"--skull-strip {given['skull_strip']}: the program {program} is not on the PATH; "
            "install it or choose --skull-strip deepbet"
        )
    if given["model"] != "none" and not Path(given["model"]).is_file():
        return f"--model {given['model']}: no such file"
    return None


def _add_selection(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--participant-label",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="participants to process, with or without sub- (default: all)",
    )
    group.add_argument(
        "--session-label",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="sessions to process, with or without ses- (default: all)",
    )
    group.add_argument(
        "-d",
        "--derivatives",
        nargs="+",
        action="extend",
        type=_named_path,
        default=[],
        metavar="NAME=PATH",
        help="derivatives of other programs: brain masks (desc-brain_mask) and segmentations "
        "(desc-aseg_dseg) of the scans",
    )
    group.add_argument(
        "--fs-subjects-dir",
        type=Path,
        metavar="PATH",
        help="FreeSurfer's subjects directory (default: sourcedata/freesurfer in the output, "
        "derivatives/freesurfer or sourcedata/freesurfer in the dataset)",
    )


def _add_method(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--atlas",
        default=DEFAULT_ATLAS,
        metavar="NAME|FILE",
        help=f"{DEFAULT_ATLAS} (comes along), fsaverage (from the FreeSurfer directory), another "
        "TemplateFlow template as NAME:cohort-1:res-1, or an image file (default: %(default)s)",
    )
    group.add_argument(
        "--atlas-name",
        type=_label,
        metavar="NAME",
        help="label of its space- entity: letters and digits",
    )
    group.add_argument(
        "--atlas-labels", type=Path, metavar="FILE", help="FreeSurfer-numbered labels of the atlas"
    )
    group.add_argument(
        "--skull-strip",
        choices=SKULL_STRIP,
        default="auto",
        help="how the brain is found; auto: masks of --derivatives if all scans have one, else "
        "deepbet for scans that are not stripped already (default: auto)",
    )
    group.add_argument("--no-n4", dest="n4", action="store_false", help="no bias-field correction")
    group.add_argument(
        "--affine",
        choices=["greedy", "none"],
        default="greedy",
        help="affine registration; none: scans lie in the atlas's space (default: greedy)",
    )
    group.add_argument(
        "--model",
        default="none",
        metavar="none|FILE",
        help="none: refinement alone; or the checkpoint of a network (default: none)",
    )
    group.add_argument(
        "--refine-iterations",
        type=count,
        default=DEFAULT_ITERATIONS,
        metavar="N",
        help="iterations of the instance-specific optimisation, 0 = off (default: %(default)s)",
    )
    group.add_argument(
        "--device",
        type=_device,
        default="auto",
        metavar="auto|cpu|cuda[:N]",
        help="where the deformable registration runs (default: auto)",
    )


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        default=Path("work"),
        metavar="PATH",
        help="scans in progress, removed when complete (default: ./work)",
    )
    group.add_argument(
        "--nprocs",
        type=positive,
        default=available_processors(),
        metavar="N",
        help="processors to use (default: all, here %(default)s)",
    )
    group.add_argument(
        "--omp-nthreads",
        type=positive,
        metavar="N",
        help="processors per scan (default: one, more where there are fewer scans than "
        "processors)",
    )
    group.add_argument(
        "--mem-mb", type=positive, metavar="MB", help="memory to use (default: 90 %% of it)"
    )
    group.add_argument(
        "--stop-on-first-crash", action="store_true", help="end when the first scan fails"
    )


def _named_path(text: str) -> Path:
    return Path(text.split("=", 1)[-1])


def _label(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]+", text):
        raise argparse.ArgumentTypeError(f"{text} is not letters and digits only")
    return text


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text} is not auto, cpu, cuda or cuda:N")
    return text


def positive(text: str) -> int:
    """Read a whole number of 1 or more."""
    return count(text, least=1)


def count(text: str, *, least: int = 0) -> int:
    """Read a whole number that is not too small."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"{number} is less than {least}")
    return number
