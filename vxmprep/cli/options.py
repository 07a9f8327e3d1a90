"""What ``vxmprep`` can be asked: its options and their help."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NoReturn

import vxmprep
from vxmprep.config import (
    AFFINE,
    DEFAULT_ATLAS,
    DEFAULT_ITERATIONS,
    LEVELS,
    PRECISION,
    SKULL_STRIP,
)
from vxmprep.resources import available_memory_gb, available_processors

DESCRIPTION = """\
Register the T1w scans of a BIDS dataset to an atlas: skull-strip, bias correction, affine,
VoxelMorph deformable registration. Writes BIDS derivatives with transforms that ITK and ANTs read.
What is done already is not done again.
"""

EPILOG = """\
levels:
  prepare       find the brain of every scan, correct its bias field, align it to the atlas
  participant   prepare what is not prepared yet, register and evaluate every scan

example:
  vxmprep /data/study /data/study-vxmprep participant --nprocs 8

exit codes:
  0  all scans are done
  1  some scans failed or were not reached; the others are complete, the failures listed last
  2  bad usage or input, said in one line before any work starts
  130, 143  interrupted by Ctrl-C, SIGTERM; the same command goes on
"""

USAGE = "vxmprep [options] BIDS_DIR OUTPUT_DIR LEVEL [LEVEL ...]"


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong, and where help is."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser(kind: type[Parser] = Parser) -> Parser:
    """Describe the command line. What is not given is left out of what parsing gives."""
    parser = kind(
        prog="vxmprep",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    where = parser.add_argument_group("what and where")
    # Not required here: a configuration file may hold them.
    path = {"nargs": "?", "type": Path, "default": None}
    where.add_argument("bids_dir", metavar="BIDS_DIR", help="root of the dataset", **path)
    where.add_argument("output_dir", metavar="OUTPUT_DIR", help="where the derivatives go", **path)
    where.add_argument(
        "levels",
        nargs="*",
        default=None,
        metavar="LEVEL",
        help=f"{' or '.join(LEVELS)}; see below",
    )
    _add_selection(parser.add_argument_group("which scans, and what is there already"))
    _add_method(parser.add_argument_group("how they are registered"))
    _add_machine(parser.add_argument_group("the machine"))
    _add_saying(parser.add_argument_group("what is said and written"))
    return parser


def _add_selection(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--participant-label",
        nargs="+",
        action="extend",
        metavar="LABEL",
        help="participants to process, with or without sub- (default: all)",
    )
    group.add_argument(
        "--session-label",
        nargs="+",
        action="extend",
        metavar="LABEL",
        help="sessions to process, with or without ses- (default: all)",
    )
    group.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="FILE",
        help='JSON of entities that scans must have, as {"t1w": {"acquisition": "mprage"}}',
    )
    group.add_argument(
        "--bids-database-dir",
        type=Path,
        metavar="PATH",
        help="where pybids keeps its index of the dataset; made if it is not there, then used as "
        "it is",
    )
    group.add_argument(
        "--skip-bids-validation",
        action="store_true",
        help="do not run the BIDS validator, where one is installed (it only warns)",
    )
    group.add_argument(
        "-d",
        "--derivatives",
        nargs="+",
        action="extend",
        type=_named_path,
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
    group.add_argument("--force", action="store_true", help="do again what is done already")


def _add_method(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--atlas",
        metavar="NAME|FILE",
        help=f"{DEFAULT_ATLAS} (comes along), fsaverage (from the FreeSurfer directory), another "
        "TemplateFlow template as NAME:cohort-1:res-1, or an image file (default: "
        f"{DEFAULT_ATLAS})",
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
        help="how the brain is found; auto: masks of --derivatives if all scans have one, else "
        "deepbet for scans that are not stripped already (default: auto)",
    )
    group.add_argument("--no-n4", dest="n4", action="store_false", help="no bias-field correction")
    group.add_argument(
        "--affine",
        choices=AFFINE,
        help="affine registration; none: scans lie in the atlas's space (default: greedy)",
    )
    group.add_argument(
        "--model",
        metavar="none|FILE",
        help="none: refinement alone; or a network's file: our checkpoint, or a .pt or .h5 of the "
        "original VoxelMorph (default: none)",
    )
    group.add_argument(
        "--refine-iterations",
        type=count,
        metavar="N",
        help="most iterations of the instance-specific optimisation over its three resolutions, "
        "which ends earlier where nothing is gained, 0 = off (default: "
        f"{DEFAULT_ITERATIONS})",
    )
    group.add_argument(
        "--device",
        type=_device,
        metavar="auto|cpu|cuda[:N]",
        help="where the deformable registration runs (default: auto)",
    )
    group.add_argument(
        "--precision",
        choices=PRECISION,
        help="of the network; auto: bfloat16 where the device has units for it (default: auto)",
    )


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        metavar="PATH",
        help="scans in progress, removed when complete (default: ./work)",
    )
    group.add_argument(
        "--nprocs",
        type=positive,
        metavar="N",
        help="processors to use (default: all of the job's or container's, here "
        f"{available_processors()})",
    )
    group.add_argument(
        "--omp-nthreads",
        type=positive,
        metavar="N",
        help="processors per scan (default: one, more where there are fewer scans than "
        "processors)",
    )
    group.add_argument(
        "--mem-mb",
        type=positive,
        metavar="MB",
        help="memory to use (default: 90 %% of the job's or container's, here "
        f"{0.9 * 1024 * available_memory_gb():.0f})",
    )
    group.add_argument(
        "--use-plugin",
        type=Path,
        metavar="FILE",
        help="YAML of another Nipype plugin, as {plugin: SLURM, plugin_args: {...}}",
    )
    group.add_argument(
        "--clean-workdir", action="store_true", help="remove what earlier runs left in --work-dir"
    )
    group.add_argument(
        "--stop-on-first-crash", action="store_true", help="end when the first scan fails"
    )


def _add_saying(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="options from a TOML file, as refine_iterations = 50; those of the command line "
        "count more. Each run with work to do leaves its own in OUTPUT_DIR/logs",
    )
    group.add_argument(
        "--resource-monitor",
        action="store_true",
        help="write seconds and peak memory of every step to OUTPUT_DIR/logs",
    )
    group.add_argument(
        "--write-graph",
        action="store_true",
        help="draw a scan's workflow (SVG in OUTPUT_DIR/logs)",
    )
    group.add_argument(
        "--boilerplate-only",
        action="store_true",
        help="only write the methods text and its references for these options, and print it",
    )
    group.add_argument("--version", action="version", version=f"vxmprep {vxmprep.__version__}")
    group.add_argument(
        "-v", "--verbose", action="count", help="a line for every step of every scan"
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
