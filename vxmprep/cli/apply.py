"""``vxmprep-apply``: saved transforms on other images, labels, points, surfaces, streamlines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import vxmprep
from vxmprep.cli.chain import chain_of, grid_of, split, turned
from vxmprep.cli.options import Parser
from vxmprep.config import UsageError
from vxmprep.wording import counted

if TYPE_CHECKING:
    import numpy as np

    from vxmprep.spatial.grid import Grid

KINDS = {
    ".nii.gz": "image", ".nii": "image", ".mgz": "image", ".mgh": "image",
    ".csv": "points", ".tsv": "points",
    ".gii": "surface",
    ".trk": "streamlines", ".tck": "streamlines",
}  # fmt: skip
"""What a file holds, by the end of its name."""

ROOM = 50.0
"""Millimetres around a transform's field where points may lie: electrodes are outside the head."""

NAMES_OF_ANTS = {
    "linear": "linear",
    "bspline": "cubic",
    "nearestneighbor": "nearest",
    "genericlabel": "label",
    "multilabel": "label",
}

DESCRIPTION = """\
Apply saved transforms to images (3-D or 4-D), label maps, points, surfaces and streamlines, with
one interpolation however many transforms there are. The name of a file says which kind it is:
  .nii .nii.gz .mgz .mgh   images and label maps
  .csv .tsv                points: columns x, y, z in RAS mm (not ITK's LPS)
  .gii                     surfaces: vertices in the scanner's RAS mm, or as mris_convert writes
  .trk .tck                streamlines
"""

EPILOG = """\
examples:
  # scans, maps and segmentations of a cohort, each with its own participant's transform
  vxmprep-apply -i study/sub-*/anat/*_FLAIR.nii.gz --derivatives study-vxmprep \\
      --to MNI152NLin2009cAsym -o in-mni
  # electrodes of the scan to the atlas: the transform for points is chosen automatically
  vxmprep-apply -i sub-01_electrodes.tsv --derivatives study-vxmprep --to MNI152NLin2009cAsym \\
      -o in-mni
  # a region of the atlas to the scans of two people
  vxmprep-apply -i region_mask.nii.gz --participant-label 01 02 --derivatives study-vxmprep \\
      --to T1w -o in-scan
  # a functional series to the scan and on to the atlas at 2 mm, interpolated once
  vxmprep-apply -i sub-01_task-rest_bold.nii.gz -t bold_to_T1w.txt --derivatives study-vxmprep \\
      --to MNI152NLin2009cAsym -r MNI_2mm.nii.gz -o in-mni
  # any transforms of ITK, in the order of antsApplyTransforms
  vxmprep-apply -i moving.nii.gz -r fixed.nii.gz -t warp.nii.gz -t affine.mat -n BSpline \\
      -o moved.nii.gz

points go the other way:
  The file that resamples images from T1w to the atlas maps points of the atlas to points of T1w.
  Points, surfaces and streamlines therefore need the file named from the atlas to T1w. Say where
  they are to go (--to), or name the transforms as for images (-t): the other direction is taken
  for them, from the file beside it, or by inverting an affine.

exit codes:
  0  all done
  1  some inputs failed; each is listed with its cause
  2  bad usage or input, said in one line before any work starts
"""


@dataclass(frozen=True)
class Task:
    """One input, with all that is done to it."""

    source: Path
    target: Path
    kind: str
    transforms: tuple[str, ...]
    grid: Grid | None
    reference: Path | None
    interpolation: str
    modulation: str | None


def build_parser() -> Parser:
    """Describe the command's options."""
    from vxmprep.spatial.series import INTERPOLATIONS, MODULATIONS

    parser = Parser(
        prog="vxmprep-apply",
        usage="vxmprep-apply -i FILE [FILE ...] --derivatives DIR --to SPACE [options] -o OUT\n"
        "       vxmprep-apply -i FILE [FILE ...] -t XFM [-t XFM ...] -r IMAGE [options] -o OUT",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    group = parser.add_argument_group("what and where")
    group.add_argument(
        "-i",
        "--input",
        nargs="+",
        action="extend",
        type=Path,
        required=True,
        metavar="FILE",
        help="files to bring to another space",
    )
    group.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="a folder, for results named as the inputs with their new space-; or, for one input, "
        "a file. Existing files of these names are replaced",
    )
    group.add_argument(
        "-r",
        "--reference-image",
        type=Path,
        metavar="IMAGE",
        help="an image on the grid you want (default with --to: the atlas's or the scan's grid)",
    )
    group = parser.add_argument_group("transforms")
    group.add_argument(
        "--derivatives",
        type=Path,
        metavar="DIR",
        help="output of vxmprep or fMRIPrep, in which the participant's transforms are found",
    )
    group.add_argument(
        "--to",
        metavar="SPACE",
        help="where the inputs should go: T1w (the participant's scan), or an atlas as it is "
        "called in the names of the files, such as MNI152NLin2009cAsym",
    )
    group.add_argument(
        "--from",
        dest="start",
        metavar="ATLAS",
        help="with --to T1w: the atlas that the inputs come from, if there are several",
    )
    group.add_argument(
        "--participant-label",
        nargs="+",
        action="extend",
        type=lambda label: label.removeprefix("sub-"),
        metavar="LABEL",
        help="whose transform to use (default: by the sub- in each input's name); with several, a "
        "region goes to each one's scan",
    )
    group.add_argument(
        "--session-label",
        type=lambda label: label.removeprefix("ses-"),
        metavar="LABEL",
        help="of which session (default: by the ses- there)",
    )
    group.add_argument(
        "-t",
        "--transform",
        action="append",
        default=[],
        metavar="XFM",
        help="a transform of ITK (.h5, .mat, .txt, .tfm, displacement .nii.gz), FreeSurfer (.mgz, "
        ".lta) or X5, as antsApplyTransforms takes it: the last one acts on images first, "
        "[FILE,1] inverts an affine. With --to: brings the inputs to where the transform in "
        "--derivatives starts",
    )
    group = parser.add_argument_group("how")
    group.add_argument(
        "-n",
        "--interpolation",
        type=_interpolation,
        choices=INTERPOLATIONS,
        metavar="NAME",
        help="linear; cubic (B-spline); nearest; label (linear on each label, the greatest wins: "
        "smoother borders). ANTs's names work too. Default: nearest for files called dseg, mask, "
        "aseg, aparc and the like, otherwise linear",
    )
    group.add_argument(
        "--modulate",
        nargs="?",
        const="full",
        choices=MODULATIONS,
        help="multiply images by the Jacobian determinant, so that amounts, such as of grey "
        "matter, are kept: that of the whole map (full, the default), or without its affines "
        "(deformable)",
    )
    group.add_argument("--version", action="version", version=f"vxmprep {vxmprep.__version__}")
    return parser  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(argv)
    try:
        tasks = plan(options)
    except ValueError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    failed = 0
    for task in tasks:
        try:
            print(f"{task.source} -> {task.target} ({run(task)})", flush=True)
        except (ValueError, OSError, MemoryError) as error:
            failed += 1
            print(f"{parser.prog}: failed: {_naming(task.source, error)}", file=sys.stderr)
    return 1 if failed else 0


def plan(options: argparse.Namespace) -> list[Task]:
    """Find out what is to be done with each input, and refuse what cannot be.

    Raises
    ------
    UsageError, ValueError
        The message names the file or option and says what to do.
    """
    if (options.to is None) != (options.derivatives is None):
        raise UsageError("--to and --derivatives go together; give both, or only -t")
    if options.to is None and not options.transform:
        raise UsageError("no transform given; give --derivatives and --to, or -t")
    if options.derivatives is not None and not options.derivatives.is_dir():
        raise UsageError(f"--derivatives {options.derivatives}: no such folder")
    reference = options.reference_image
    if reference is not None and not reference.is_file():
        raise UsageError(f"-r {reference}: no such file; check the path")
    labels = list(dict.fromkeys(options.participant_label or [None]))
    if len(labels) > 1:
        _check_several(options)
    tasks = [_task(source, label, options) for label in labels for source in options.input]
    _check_targets(tasks)
    return tasks


def _check_several(options: argparse.Namespace) -> None:
    """Refuse several labels where a file is one participant's, or no transform depends on them."""
    if options.to is None:
        raise UsageError("--participant-label: -t is the same for all; give one label")
    for source in options.input:
        if source.name.startswith("sub-"):
            raise UsageError(
                f"{source}: is one participant's by its name; several of --participant-label are "
                "for what lies on the atlas"
            )


def run(task: Task) -> str:
    """Do one task, and say how."""
    chain = chain_of(task.transforms, task.kind == "image")
    if task.kind == "image":
        from vxmprep.spatial.series import resample_file

        resample_file(
            task.source, task.target, task.grid, chain,
            interpolation=task.interpolation, modulation=task.modulation,
        )  # fmt: skip
        said = task.interpolation + (f", modulated ({task.modulation})" if task.modulation else "")
    else:
        from vxmprep.spatial.geometry import map_streamlines, map_surface, map_table

        def mapping(points: np.ndarray) -> np.ndarray:
            if len(points) and not chain.reaches(points, ROOM):
                raise ValueError(
                    f"{task.source}: none of its points lies within {ROOM:.0f} mm of the "
                    "transform's field; are they RAS mm in the space it starts from?"
                )
            return chain(points)

        if task.kind == "points":
            count, rows = map_table(task.source, task.target, mapping)
            said = counted(count, "point")
            if count < rows:
                said = f"{count} of {counted(rows, 'point')}; {rows - count} without coordinates"
        elif task.kind == "surface":
            said = f"{map_surface(task.source, task.target, mapping)} vertices"
        else:
            count = map_streamlines(task.source, task.target, mapping, task.grid)
            said = counted(count, "streamline")
    _write_sidecar(task)
    return said


def _task(source: Path, participant: str | None, options: argparse.Namespace) -> Task:
    from vxmprep.bids.transforms import LABEL_NAMES, find_transform, grid_file, suffix_of

    extension = next((end for end in KINDS if source.name.lower().endswith(end)), None)
    if extension is None:
        raise UsageError(f"{source}: of no known kind; give one that ends with {' '.join(KINDS)}")
    kind = KINDS[extension]
    labels = LABEL_NAMES.fullmatch(suffix_of(source))
    interpolation = options.interpolation or ("nearest" if labels else "linear")
    if kind == "image":
        _check_image(source)
        _check_way(source, interpolation, options)
    elif not source.is_file():
        raise UsageError(f"{source}: no such file; check the path")
    elif options.modulate:
        raise UsageError(f"{source}: --modulate is for images; leave it out")
    transforms, reference = tuple(options.transform), options.reference_image
    if options.to is not None:
        start = options.start
        if not transforms and kind != "surface":  # a surface's space- is that of its mesh
            start = _check_space(source, options)
        found = find_transform(
            options.derivatives, source, to=options.to, start=start,
            participant=participant, session=options.session_label,
        )  # fmt: skip
        transforms = (str(found), *transforms)
        reference = reference or grid_file(found)
    given = options.transform if kind == "image" else transforms
    for path, _ in map(split, given):
        if not path.is_file():
            raise UsageError(f"{path}: no such transform; check the path")
    chain_of(tuple(given), kind == "image")  # what cannot be read is told before any work
    grid = None
    if kind == "image" or extension == ".trk":
        if reference is None:
            raise UsageError(f"{source}: on which grid is it wanted? give -r")
        if options.reference_image is None and not reference.is_file():
            raise UsageError(f"{reference}: not there to tell the grid; give -r")
        grid = grid_of(reference)
    return Task(
        source, _target(source, extension, participant, options), kind, transforms, grid,
        reference, interpolation, options.modulate,
    )  # fmt: skip


def _check_space(source: Path, options: argparse.Namespace) -> str | None:
    """Refuse a file that does not lie where the transform starts; give the atlas it lies on."""
    from vxmprep.bids.transforms import ON_SCAN, SCAN, entities_of

    own = entities_of(source)
    space = own.get("space")
    if options.to != SCAN:
        if space is None or space in ON_SCAN:
            return options.start
        raise UsageError(
            f"{source}: its name says that it lies in {space} already; give what lies on the T1w, "
            "or with -t what takes it there"
        )
    if space in ON_SCAN:
        raise UsageError(f"{source}: its name says that it lies on the T1w already; leave it out")
    if space is not None and options.start not in (None, space):
        raise UsageError(
            f"{source}: its name says that it lies in {space}; --from {options.start} is another"
        )
    if space is None and options.start is None and "sub" in own:
        raise UsageError(
            f"{source}: its name does not say that it lies on an atlas (space-); if it does, name "
            "that with --from"
        )
    return options.start or space


def _target(
    source: Path, extension: str, participant: str | None, options: argparse.Namespace
) -> Path:
    from vxmprep.bids.transforms import entities_of, named_after, named_in

    out = options.output
    image = KINDS[extension] == "image"
    ends = (".nii.gz", ".nii") if image else (extension,)
    if any(out.name.lower().endswith(end) for end in KINDS) and not out.is_dir():
        if max(len(options.input), len(set(options.participant_label or ()))) > 1:
            raise UsageError(f"-o {out}: one file for several results; give a folder")
        if not out.name.lower().endswith(ends):
            raise UsageError(f"-o {out}: must end with {' or '.join(ends)}")
        return out
    if out.is_file():
        raise UsageError(f"-o {out}: a file, and of no known kind; give a folder")
    first = options.transform[0].strip("[]").split(",")[0] if options.transform else ""
    space = options.to or entities_of(first).get("to") or "reference"
    stop = "".join(source.suffixes[-2:]) if extension == ".gii" else extension
    name = source.name
    if participant is not None and not name.startswith("sub-"):
        name = named_after(participant, options.session_label, name)
    return out / named_in(space, name, ".nii.gz" if image else stop)


def _check_targets(tasks: list[Task]) -> None:
    """Refuse what would be written over, be it the sidecar, of inputs and of other results."""
    from vxmprep.bids.derivatives import sidecar_of

    given = {path for task in tasks for path in _read_by(task)}
    seen: dict[Path, Path] = {}
    for task in tasks:
        for written in (task.target, sidecar_of(task.target)):
            target = written.resolve()
            if target in given:
                what = "an input" if written == task.target else "the sidecar of an input"
                raise UsageError(f"{written}: would replace {what}; give another -o")
            if target in seen:
                raise UsageError(
                    f"{task.source} and {seen[target]} would both write {written}; give them in "
                    "two calls, each with its -o"
                )
            seen[target] = task.source


def _read_by(task: Task) -> set[Path]:
    """Give the files that a task reads."""
    from vxmprep.bids.derivatives import sidecar_of

    files = [task.source, sidecar_of(task.source), *(split(t)[0] for t in task.transforms)]
    return {path.resolve() for path in files + ([task.reference] if task.reference else [])}


def _check_way(source: Path, interpolation: str, options: argparse.Namespace) -> None:
    """Refuse to blend the numbers of labels, and to modulate them."""
    from vxmprep.bids.transforms import holds_ids, suffix_of

    named, blends = holds_ids(source), interpolation in ("linear", "cubic")
    if blends and named:
        raise UsageError(
            f"{source}: -n {interpolation} would blend the numbers of its labels; give -n nearest "
            f"or label, or another name than {suffix_of(source)} if it holds none"
        )
    if options.modulate and not blends:
        # Another name is only needed where this one would forbid -n linear.
        raise UsageError(
            f"{source}: labels cannot be modulated; if it is a map of amounts, give -n linear"
            + (", and a name that is not of labels" if named else "")
        )


def _check_image(path: Path) -> None:
    from vxmprep.spatial.headers import check_frame
    from vxmprep.spatial.opening import ImageError, open_series

    image = open_series(path)
    if any(n < 1 for n in image.shape):
        raise ImageError(f"{path}: holds no voxels; fetch or convert it anew")
    if len(image.shape) > 4 and image.shape[3] == 1 and image.shape[4] > 1:
        raise ImageError(
            f"{path}: its voxels hold vectors, which a transform would also have to turn; give "
            "their components' image, or a transform with -t"
        )
    check_frame(path, image)


def _write_sidecar(task: Task) -> None:
    from vxmprep.bids.derivatives import read_json, sidecar_of, write_json

    known = read_json(sidecar_of(task.source))
    said = {"Sources": [task.source.name], "Transforms": [_used(task, t) for t in task.transforms]}
    if task.kind == "image":
        said["Interpolation"] = task.interpolation
        said["SpatialReference"] = task.reference.name
    if task.modulation:
        said["Modulation"] = task.modulation
    generated = [{"Name": "vxmprep-apply", "Version": vxmprep.__version__}]
    write_json(sidecar_of(task.target), {**known, **said, "GeneratedBy": generated})


def _used(task: Task, transform: str) -> str:
    """Name the file whose map was used, as it was used."""
    path, inverted = split(transform)
    return turned(path)[0] if inverted is (task.kind == "image") else path.name


def _interpolation(text: str) -> str:
    return NAMES_OF_ANTS.get(text.split("[")[0].lower(), text.lower())


def _naming(source: Path, error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.filename:
        said = f"{error.filename}: {error.strerror}"
    return said if str(source) in said else f"{source}: {said}"


if __name__ == "__main__":
    sys.exit(main())
