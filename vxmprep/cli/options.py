"""What ``vxmprep`` can be asked: its options and their help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

import vxmprep
from vxmprep.config import (
    AFFINE,
    DEFAULT_ATLAS,
    LABEL_SETS,
    LEVELS,
    PRECISION,
    SKULL_STRIP,
    default_iterations,
)
from vxmprep.resources import available_memory_gb, available_processors
from vxmprep.training.settings import CHOICES, TrainingSettings

DESCRIPTION = """\
Register the T1w scans of a BIDS dataset to an atlas: skull-strip, bias correction, affine, and
deformable registration with VoxelMorph, with the included network or one trained on the dataset.
Writes BIDS derivatives with transforms that ITK and ANTs read. What is done is not done again.
"""

EPILOG = """\
levels:
  prepare       find the brain of every scan, correct its bias field, align it to the atlas
  train         prepare what is not prepared yet, train a network on all scans, and save it in
                OUTPUT_DIR/models; a training that was interrupted goes on
  participant   prepare what is not prepared yet, register and evaluate every scan, and write its
                page; after train with the network just trained
  group         tables and a page (group.html) of all scans in OUTPUT_DIR, with a verdict on each:
                pass, warn, unfinished or fail; needs OUTPUT_DIR only

examples:
  vxmprep /data/study /data/study-vxmprep participant group --nprocs 8
  vxmprep /data/study /data/study-vxmprep train participant --voxel-size 2 --model-name study
  vxmprep /data/study /data/study-vxmprep group --labels common

exit codes:
  0  all scans are done
  1  some scans failed or were not reached; the others are complete, the failures are listed last
  2  bad usage or input, said in one line before any work starts
  130, 143  interrupted by Ctrl-C or SIGTERM; the same command goes on
"""

USAGE = "vxmprep [options] BIDS_DIR OUTPUT_DIR LEVEL [LEVEL ...]"


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong, and where help is."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser(
    kind: type[Parser] = Parser, *, prog: str = "vxmprep", usage: str = USAGE
) -> Parser:
    """Describe the command line. What is not given is left out of what parsing gives."""
    parser = kind(
        prog=prog,
        usage=usage,
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
        help=f"{', '.join(LEVELS[:-1])} or {LEVELS[-1]}; see below",
    )
    _add_selection(parser.add_argument_group("which scans, and what is there already"))
    _add_method(parser.add_argument_group("how they are registered"))
    _add_training(parser.add_argument_group("how a network is trained (train)"))
    _add_group(parser.add_argument_group("how the cohort is judged (group)"))
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
        help='JSON with the entities of the scans to take: {"t1w": {"acquisition": "mprage"}}',
    )
    group.add_argument(
        "--bids-database-dir",
        type=Path,
        metavar="PATH",
        help="where pybids keeps its index of the dataset; made if it is absent, otherwise used "
        "as it is",
    )
    group.add_argument(
        "--skip-bids-validation",
        action="store_true",
        help="do not run the BIDS validator if one is installed (it only warns)",
    )
    group.add_argument(
        "-d",
        "--derivatives",
        nargs="+",
        action="extend",
        type=named_path,
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
    group.add_argument(
        "--exclude",
        type=Path,
        metavar="FILE",
        help="scans that train and group leave out: a participant, session or scan on each line, "
        "such as sub-01, sub-01_ses-1 or sub-01_ses-1_run-2",
    )
    group.add_argument(
        "--force",
        action="store_true",
        help="do again what is done; only a training is not begun anew",
    )


def _add_method(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--atlas",
        metavar="NAME|FILE",
        help=f"{DEFAULT_ATLAS} (included), fsaverage (from the FreeSurfer directory), another "
        "TemplateFlow template as NAME:cohort-1:res-1, or an image file (default: "
        f"{DEFAULT_ATLAS})",
    )
    group.add_argument(
        "--atlas-name",
        type=_label,
        metavar="NAME",
        help="name of the atlas in the names of files (space-, to-), letters and digits only",
    )
    group.add_argument(
        "--atlas-labels", type=Path, metavar="FILE", help="FreeSurfer-numbered labels of the atlas"
    )
    group.add_argument(
        "--skull-strip",
        choices=SKULL_STRIP,
        help="how the brain is found; auto: masks of --derivatives if all scans have one, else "
        "deepbet for the scans that are not already stripped (default: auto)",
    )
    group.add_argument("--no-n4", dest="n4", action="store_false", help="no bias-field correction")
    group.add_argument(
        "--affine",
        choices=AFFINE,
        help="affine registration; none: scans are already in the atlas's space (default: greedy)",
    )
    group.add_argument(
        "--model",
        metavar="none|bundled|NAME|FILE",
        help="none: refinement alone; bundled: the included network, trained on T1w scans to the "
        "default atlas; the name of a network in OUTPUT_DIR/models; or a network's file, from "
        "vxmprep or a .pt or .h5 of the original VoxelMorph (default: bundled with the default "
        "atlas, none with another; after train, the network just trained)",
    )
    group.add_argument(
        "--refine-iterations",
        type=count,
        metavar="N",
        help="most iterations of the instance-specific optimisation, which ends earlier if "
        "nothing is gained; 0 = off. The full 110 are 40 at 4 mm, 40 at 2 mm, 20 at 1 mm, and 10 "
        "with a field of 1 instead of 2 mm. After a network, a smaller N goes first to the last "
        "10, then to 6 at 1 mm, 30 at 2 mm, and the others. Without one, 100 or fewer are shared "
        "among the first three: half the time and memory, a quarter of the file size, less "
        "overlap (default: "
        f"{default_iterations(network=True)} after a network, "
        f"{default_iterations(network=False)} without)",
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
        help="of the network; auto: bfloat16 if the device has units for it (default: auto)",
    )


def _add_training(group: argparse._ArgumentGroup) -> None:
    usual = {item.name: item.default for item in fields(TrainingSettings)}

    def option(name: str, help: str, **how: object) -> None:
        default = usual.get(name)
        given = "" if default is None or default == () else f" (default: {default})"
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, help=help + given, **how)

    group.add_argument(
        "--model-name",
        type=_model_name,
        metavar="NAME",
        help="name of the network and of its folder in OUTPUT_DIR/models (default: cohort)",
    )
    option(
        "image_loss",
        "similarity of the images: local cross-correlation or mean squared error",
        choices=CHOICES["image_loss"],
    )
    option(
        "smoothness_weight",
        "lambda, weight of the field's gradient penalty (default: 1.0 for lncc, 0.02 for mse)",
        type=_number(),
        metavar="LAMBDA",
    )
    option(
        "segmentation_weight",
        "gamma, weight of the overlap of segmentations in scans that have one",
        type=_number(),
        metavar="GAMMA",
    )
    option(
        "segmentations",
        "which segmentations count: the scans' own; or, for cohorts without any, the atlas's "
        "labels, carried to every scan by a registration without a network (about 20 s of a "
        "processor each, once)",
        choices=CHOICES["segmentations"],
    )
    option(
        "structures",
        "ids of the structures whose overlap counts (default: the paper's 30, or all if there are "
        "none of these)",
        nargs="+",
        action="extend",
        type=positive,
        metavar="LABEL",
    )
    option(
        "pairs",
        "register scans to the atlas, or to scans of other people",
        choices=CHOICES["pairs"],
    )
    option(
        "features",
        "the paper's network (vxm), its doubled form (x2), or features of encoder and decoder as "
        "16,32,32,32:32,32,32,32,32,16,16",
        type=_features,
        metavar="vxm|x2|LIST",
    )
    option(
        "integration_steps",
        "squarings that integrate the stationary velocity field; 0 = a displacement field",
        type=count,
        metavar="N",
    )
    option(
        "field_resolution",
        "resolution of the field, relative to the images",
        choices=CHOICES["field_resolution"],
    )
    option(
        "voxel_size",
        "voxel size of images and network, mm",
        type=count,
        choices=CHOICES["voxel_size"],
    )
    option("batch_size", "pairs in an iteration, all devices together", type=positive, metavar="N")
    option(
        "iterations",
        "most iterations; training ends earlier if validations no longer improve",
        type=positive,
        metavar="N",
    )
    option("learning_rate", "learning rate of Adam", type=_number(above=True), metavar="RATE")
    option(
        "final_learning_rate",
        "learning rate at the last iteration, approached geometrically (default: constant)",
        type=_number(above=True),
        metavar="RATE",
    )
    option(
        "augmentation",
        "strength of random affine maps and contrasts of the moving scan, 0 = none, 1 = strong",
        type=_number(),
        metavar="STRENGTH",
    )
    option("validate_every", "iterations between validations", type=positive, metavar="N")
    option("validation_pairs", "most pairs in a validation", type=positive, metavar="N")
    option(
        "patience",
        "validations without improvement after which training ends",
        type=positive,
        metavar="N",
    )
    option("checkpoint_every", "iterations between checkpoints", type=positive, metavar="N")
    option(
        "split",
        "JSON with lists of participants: train, validation and, optionally, test (default: drawn "
        "by --seed, in the proportions of the sites in participants.tsv)",
        type=Path,
        metavar="FILE",
    )
    group.add_argument(
        "--initial-model",
        metavar="bundled|NAME|FILE",
        help="start from the weights of an existing network, to adapt it to the cohort with a "
        "small --learning-rate: the bundled one, a name in OUTPUT_DIR/models, or a checkpoint of "
        "vxmprep, with the same --features, --integration-steps, --field-resolution and "
        "--voxel-size (default: random weights)",
    )
    option("seed", "random seed of split, samples and augmentation", type=count, metavar="N")
    option("devices", "GPUs, or processes, on each machine", type=positive, metavar="N")
    option("nodes", "machines of a Slurm job", type=positive, metavar="N")
    option(
        "memory_budget",
        "memory for a step on each device (default: all it has); it decides how many pairs go "
        "through the network at a time, and in which precision",
        type=_number(above=True),
        metavar="GIB",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with a training begun under this name (the default)",
    )
    group.add_argument(
        "--no-resume",
        dest="resume",
        action="store_false",
        help="refuse a name under which a training was already begun",
    )
    group.add_argument(
        "--only-prepared",
        action="store_true",
        help="train on the scans that are prepared, and list the others as left out (default: "
        "prepare what is not)",
    )


def _add_group(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--labels",
        metavar="|".join((*LABEL_SETS, "FILE")),
        help="structures of the tables: the paper's 30; all; those of at least 100 voxels in "
        "every scan; or a text file of FreeSurfer ids (default: vxm30)",
    )
    group.add_argument(
        "--join-hemispheres",
        action="store_true",
        help="count left and right of a structure as one",
    )
    group.add_argument(
        "--compare",
        type=Path,
        metavar="OTHER_OUTPUT",
        help="compare Dice with another output of the same participants, on which group was run "
        "too, structure by structure and paired over participants",
    )


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        metavar="PATH",
        help="folder for scans in progress, which are removed when complete (default: ./work)",
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
        help="processors per scan (default: one, more if there are fewer scans than processors)",
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
        help="YAML of another Nipype plugin, such as {plugin: SLURM, plugin_args: {...}}",
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
        help="read options from a TOML file, such as refine_iterations = 50; those on the command "
        "line take precedence. Each run with work to do leaves its own in OUTPUT_DIR/logs",
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
    group.add_argument(
        "--reports-only",
        action="store_true",
        help="only make the participants' pages again from the files in OUTPUT_DIR, whatever "
        "settings they were made with",
    )
    group.add_argument("--version", action="version", version=f"vxmprep {vxmprep.__version__}")
    group.add_argument(
        "-v", "--verbose", action="count", help="print a line for every step of every scan"
    )


def named_path(text: str) -> Path:
    """Give the path of ``NAME=PATH``, or of a path alone."""
    return Path(text.split("=", 1)[-1])


def _label(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]+", text):
        raise argparse.ArgumentTypeError(f"{text} is not letters and digits only")
    return text


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text} is not auto, cpu, cuda or cuda:N")
    return text


def _model_name(text: str) -> str:
    if text in ("none", "bundled") or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text):
        raise argparse.ArgumentTypeError(f"{text} is no name of letters, digits, -, _ and .")
    return text


def _features(text: str) -> str | tuple[tuple[int, ...], ...]:
    if ":" not in text:
        return text
    try:
        return tuple(tuple(int(n) for n in side.split(",")) for side in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not as 16,32:32,32,16") from None


def _number(*, above: bool = False) -> Callable[[str], float]:
    """Read a number of at least, or above, 0."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text} is not a number") from None
        if not 0 <= number < float("inf") or (above and number == 0):
            raise argparse.ArgumentTypeError(f"{text} is not {'above' if above else 'at least'} 0")
        return number

    return read


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
