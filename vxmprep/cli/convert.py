"""``vxmprep-convert``: transforms of ITK as files of other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import vxmprep
from vxmprep.cli.chain import chain_of, grid_of, split
from vxmprep.cli.options import Parser
from vxmprep.config import UsageError
from vxmprep.spatial.transform import Transform

if TYPE_CHECKING:
    from vxmprep.spatial.grid import Grid

ENDS = {
    "itk": {".nii.gz": "field", ".nii": "field", ".txt": "affine", ".tfm": "affine"},
    "fsl": {".nii.gz": "field", ".nii": "field", ".mat": "affine"},
    "freesurfer": {".mgz": "field", ".lta": "affine"},
    "x5": {".x5": "chain"},
    "fmriprep": {},
}
"""What a file of each format holds, by the end of its name; ``fmriprep`` is a folder."""

DESCRIPTION = """\
Convert transforms between the formats of ITK (those of vxmprep and fMRIPrep), FreeSurfer (.mgz,
.lta), FSL and X5. The result resamples images as the transform itself does, affine included:
  itk         .nii.gz    displacement field (antsApplyTransforms -t, 3D Slicer)
              .txt       affine
  freesurfer  .mgz       warp (mri_convert -at, mri_warp_convert; FreeSurfer 7.4 or newer)
              .lta       affine (mri_vol2vol --lta)
  fsl         .nii.gz    relative warp (applywarp --rel -w); give --format fsl
              .mat       affine (flirt -applyxfm -init); give --format fsl
  x5          .x5        affines and fields, each on its own grid (nitransforms)
  fmriprep    a folder   for fMRIPrep's and sMRIPrep's --derivatives, in place of their own
                         registration; give vxmprep's OUTPUT_DIR and --format fmriprep
"""

EPILOG = """\
examples:
  # the grids are taken from the scan and the atlas beside the transform
  vxmprep-convert sub-01_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5 -o T1w_to_MNI.mgz
  vxmprep-convert sub-01_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5 --format fsl \\
      -r MNI.nii.gz -m sub-01_T1w.nii.gz -o T1w_to_MNI_warp.nii.gz
  # a cohort for fmriprep --derivatives vxmprep=for-fmriprep
  vxmprep-convert study-vxmprep --format fmriprep -o for-fmriprep

exit codes: 0 done; 2 bad usage or input, said in one line
"""


def build_parser() -> Parser:
    """Describe the command's options."""
    parser = Parser(
        prog="vxmprep-convert",
        usage="vxmprep-convert XFM [XFM ...] [options] -o OUT",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "transform",
        nargs="+",
        metavar="XFM",
        help="transforms to combine, in the order of antsApplyTransforms: the last one acts on "
        "images first; [FILE,1] inverts an affine. With --format fmriprep: vxmprep's OUTPUT_DIR",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="file to write"
    )
    parser.add_argument(
        "--format", choices=tuple(ENDS), help="the program (default: by the ending of OUT)"
    )
    parser.add_argument(
        "-r",
        "--reference-image",
        type=Path,
        metavar="IMAGE",
        help="image on the grid that images are resampled to (default: the image beside XFM of "
        "the space after to- in its name)",
    )
    parser.add_argument(
        "-m",
        "--moving-image",
        type=Path,
        metavar="IMAGE",
        help="image that is resampled; FSL and FreeSurfer need its grid (default: the image "
        "beside XFM of the space after from- in its name)",
    )
    parser.add_argument(
        "--sessionwise",
        action="store_true",
        help="for fmriprep: one scan of each session, as fMRIPrep needs them with "
        "--subject-anatomical-reference sessionwise (default: the first of each participant)",
    )
    parser.add_argument("--version", action="version", version=f"vxmprep {vxmprep.__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(argv)
    try:
        convert(options)
    except OSError as error:
        # A temporary file of the output is named by the output.
        where = Path(error.filename or options.output)
        ours = options.output.absolute()
        others = (where.absolute(), *where.absolute().parents)
        if ours in others or where.absolute() in ours.parents or where.name.endswith(ours.name):
            said = f"-o {options.output}: {error.strerror or error}; give a place to write to"
        else:
            said = f"{where}: {error.strerror or error}"
        print(f"{parser.prog}: {said}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def convert(options: argparse.Namespace) -> None:
    """Write the transforms in the format wanted.

    Raises
    ------
    UsageError, ValueError
        The message names the file or option and says what to do.
    """
    if options.format == "fmriprep":
        _hand_over(options)
        return
    if options.sessionwise:
        raise UsageError("--sessionwise is for --format fmriprep; leave it out")
    for transform in options.transform:
        if Path(transform).is_dir():
            raise UsageError(
                f"{transform}: a folder; give a transform, or --format fmriprep for all of them"
            )
    form, end = _format(options)
    for transform in options.transform:
        path, _ = split(transform)
        if not path.is_file():
            raise UsageError(f"{path}: no such transform; check the path")
        if path.resolve() == options.output.resolve():
            raise UsageError(f"-o {options.output}: would replace an input; give another name")
    chain = _chain(options)
    holds = ENDS[form][end]
    if holds == "affine" and chain.affine is None:
        fields = ", ".join(name for name, what in ENDS[form].items() if what == "field")
        raise UsageError(f"-o {options.output}: cannot hold a displacement field; {fields} can")
    if form == "x5":
        from vxmprep.spatial.x5 import write_x5

        write_x5(options.output, chain)
    elif form == "itk":
        _write_itk(options, chain, holds)
    else:
        _write_between(options, chain, form, holds)


def _chain(options: argparse.Namespace) -> Transform:
    """Read the transforms; those of FSL need grids that other programs' do not."""
    from vxmprep.spatial import fsl

    path, _ = split(options.transform[0])
    flirt = path.suffix == ".mat" and fsl.is_flirt(path)
    if not flirt and not fsl.is_warp(path):
        return chain_of(tuple(options.transform), True)
    if len(options.transform) > 1 or str(path) != options.transform[0]:
        raise UsageError(f"{path}: a transform of FSL is converted alone, and not inverted")
    moving = _grid(options, "moving")
    if flirt:
        affine = fsl.read_flirt(path, fixed=_grid(options, "reference"), moving=moving)
        return Transform((affine,))
    return fsl.read_warp(path, moving=moving)


def _hand_over(options: argparse.Namespace) -> None:
    from vxmprep.bids.precomputed import hand_over

    folder, *more = map(Path, options.transform)
    if more or not folder.is_dir():
        raise UsageError(
            f"{(more or [folder])[0]}: fmriprep wants one folder, vxmprep's OUTPUT_DIR"
        )
    for line in hand_over(folder, options.output, sessionwise=options.sessionwise):
        print(line, flush=True)


def _format(options: argparse.Namespace) -> tuple[str, str]:
    name = options.output.name
    forms = [options.format] if options.format else ENDS
    for form in forms:
        for end in ENDS[form]:
            if name.endswith(end):
                if form == "fsl" and not options.format:
                    raise UsageError(f"-o {options.output}: {end} is FSL's; say --format fsl")
                return form, end
    known = sorted({end for form in forms for end in ENDS[form]})
    raise UsageError(f"-o {options.output}: ends with none of {', '.join(known)}")


def _write_itk(options: argparse.Namespace, chain: Transform, holds: str) -> None:
    from vxmprep.spatial.itk import write_affine, write_field

    if holds == "affine":
        write_affine(options.output, chain.affine)
        return
    grid = _grid(options, "reference")
    write_field(options.output, chain.displacements(grid), grid)


def _write_between(options: argparse.Namespace, chain: Transform, form: str, holds: str) -> None:
    from vxmprep.spatial import freesurfer, fsl

    writers = {
        ("fsl", "field"): fsl.write_warp,
        ("fsl", "affine"): fsl.write_flirt,
        ("freesurfer", "field"): freesurfer.write_warp,
        ("freesurfer", "affine"): freesurfer.write_lta,
    }
    grids = {"fixed": _grid(options, "reference"), "moving": _grid(options, "moving")}
    what = chain if holds == "field" else chain.affine
    writers[form, holds](options.output, what, **grids)


def _grid(options: argparse.Namespace, which: str) -> Grid:
    """Read the grid of the reference or of the moving image."""
    from vxmprep.bids.transforms import grid_file, opposite

    path = getattr(options, f"{which}_image")
    if path is None:
        named = split(options.transform[0 if which == "reference" else -1])[0]
        turned = opposite(named)
        if turned is not None:
            path = grid_file(named if which == "reference" else turned)
        if path is None or not path.is_file():
            raise UsageError(f"{named}: no image beside it tells the grid; give -{which[0]}")
    return grid_of(path)


if __name__ == "__main__":
    sys.exit(main())
