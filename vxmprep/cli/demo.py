"""``vxmprep-demo``: simulated subjects, registered from start to end and judged by the truth."""

import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import vxmprep
from vxmprep.cli.options import Parser, count, positive
from vxmprep.config import DEFAULT_ATLAS
from vxmprep.evaluation.labels import VXM30
from vxmprep.resources import available_processors

if TYPE_CHECKING:
    import numpy as np

SPACE = DEFAULT_ATLAS


class DemoError(RuntimeError):
    """The demo cannot go on."""


@dataclass(frozen=True)
class Layout:
    """Where the demo keeps its dataset, the truth, the result and what is in progress."""

    root: Path

    @property
    def bids(self) -> Path:
        """The simulated dataset."""
        return self.root / "bids"

    @property
    def freesurfer(self) -> Path:
        """The simulated subjects' segmentations."""
        return self.bids / "derivatives" / "freesurfer"

    @property
    def truth(self) -> Path:
        """The points whose place in the scan is known."""
        return self.root / "truth"

    @property
    def recipe(self) -> Path:
        """What the dataset was made from; written when it is complete."""
        return self.truth / "simulation.json"

    @property
    def result(self) -> Path:
        """What vxmprep writes."""
        return self.root / "derivatives"

    @property
    def work(self) -> Path:
        """Scans in progress."""
        return self.root / "work"

    def transform(self, label: str, ending: str) -> Path:
        """Name a subject's transform file, from T1w to the atlas."""
        return self.result / label / "anat" / f"{label}_from-T1w_to-{SPACE}_mode-image_{ending}"

    def dice_table(self, label: str) -> Path:
        """Name a subject's table of Dice per structure."""
        name = f"{label}_space-{SPACE}_desc-registration_dice.tsv"
        return self.result / label / "anat" / name


@dataclass(frozen=True)
class Score:
    """How well one subject was registered: affine only, and in full."""

    label: str
    structures: int
    dice_affine: float
    dice: float
    error_affine_mm: float
    error_mm: float


def build_parser() -> Parser:
    """Describe the command's options."""
    parser = Parser(
        prog="vxmprep-demo",
        description="Make a BIDS dataset of simulated subjects from the default atlas, run "
        "vxmprep on it, and compare the result with the known deformation. Needs no network, no "
        "GPU and no other program.",
    )
    parser.add_argument(
        "output_dir", type=Path, metavar="OUTPUT_DIR", help="folder for dataset and results"
    )
    parser.add_argument(
        "--subjects", type=positive, default=3, metavar="N", help="how many (default: 3)"
    )
    parser.add_argument(
        "--seed",
        type=count,
        default=1,
        metavar="N",
        help="other seeds give other subjects (default: 1)",
    )
    parser.add_argument(
        "--nprocs",
        type=positive,
        default=available_processors(),
        metavar="N",
        help="processors to use (default: all)",
    )
    parser.add_argument(
        "--refine-iterations",
        type=count,
        metavar="N",
        help="steps of the refinement; fewer are faster and less exact (default: vxmprep's own)",
    )
    parser.add_argument("--version", action="version", version=f"vxmprep {vxmprep.__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return vxmprep's exit code."""
    parser = build_parser()
    options = parser.parse_args(argv)
    layout = Layout(options.output_dir.resolve())
    try:
        make_dataset(layout, subjects=options.subjects, seed=options.seed)
    except DemoError as error:
        parser.error(str(error))
    code = run_vxmprep(layout, nprocs=options.nprocs, iterations=options.refine_iterations)
    if code != 0:
        print(f"vxmprep ended with exit code {code}; its messages above say why.", file=sys.stderr)
        return code
    scores = [score(layout, file) for file in sorted(layout.truth.glob("*_points.tsv"))]
    print(report(layout, scores, iterations=options.refine_iterations))
    return 0


def make_dataset(layout: Layout, *, subjects: int, seed: int) -> None:
    """Write the simulated dataset, unless the same one is already there.

    Raises
    ------
    DemoError
        If the folder holds something else.
    """
    recipe = {"subjects": subjects, "seed": seed, "version": vxmprep.__version__}
    if layout.recipe.is_file():
        if json.loads(layout.recipe.read_text(encoding="utf-8")) != recipe:
            raise DemoError(
                f"{layout.root} holds a demo with other subjects; choose another folder"
            )
        print(f"The simulated subjects are already in {layout.bids}.")
        return
    if layout.root.exists() and (not layout.root.is_dir() or any(layout.root.iterdir())):
        raise DemoError(
            f"{layout.root} is not empty and holds no complete demo; choose another folder or "
            "remove it"
        )
    _simulate(layout, subjects=subjects, seed=seed)
    layout.recipe.write_text(json.dumps(recipe) + "\n", encoding="utf-8")


def run_vxmprep(layout: Layout, *, nprocs: int, iterations: int | None) -> int:
    """Run vxmprep on the dataset, as a user would, and return its exit code."""
    from vxmprep.cli.run import main as run_command

    arguments = [str(layout.bids), str(layout.result), "participant"]
    arguments += ["--fs-subjects-dir", str(layout.freesurfer), "--work-dir", str(layout.work)]
    arguments += ["--nprocs", str(nprocs)]
    if iterations is not None:
        arguments += ["--refine-iterations", str(iterations)]
    print("Running: vxmprep " + " ".join(arguments), flush=True)
    return run_command(arguments)


def score(layout: Layout, truth: Path) -> Score:
    """Judge the subject of a table of known points by the files that vxmprep wrote."""
    from vxmprep.simulate.dataset import read_points

    label = truth.name.removesuffix("_points.tsv")
    atlas, scan = read_points(truth)
    structures, dice_affine, dice = mean_dice(layout.dice_table(label))
    errors = [
        mean_error(layout.transform(label, ending), atlas, scan)
        for ending in ("desc-affine_xfm.txt", "xfm.h5")
    ]
    return Score(label, structures, dice_affine, dice, *errors)


def mean_dice(table: Path) -> tuple[int, float, float]:
    """Read how many structures have a Dice, and its mean for the affine alone and in full."""
    with table.open(encoding="utf-8", newline="") as lines:
        rows = [
            (float(row["dice_affine"]), float(row["dice"]))
            for row in csv.DictReader(lines, delimiter="\t")
            if int(row["label"]) in VXM30 and "n/a" not in (row["dice_affine"], row["dice"])
        ]
    affine, full = zip(*rows, strict=True) if rows else ((), ())
    return len(rows), _mean(affine), _mean(full)


def mean_error(transform_file: Path, atlas: "np.ndarray", scan: "np.ndarray") -> float:
    """Return how far a transform file takes atlas points from where they belong in the scan.

    Parameters
    ----------
    transform_file : Path
        What resamples the scan onto the atlas, in a format of ITK.
    atlas, scan : ndarray (N, 3)
        The same points in the atlas and in the scan, RAS mm.

    Returns
    -------
    float
        The mean distance, mm.
    """
    import numpy as np
    import SimpleITK as sitk

    transform = sitk.ReadTransform(str(transform_file))
    flip = np.array([-1.0, -1.0, 1.0])  # ITK counts left and posterior
    reached = np.array([transform.TransformPoint(point) for point in (atlas * flip).tolist()])
    return float(np.linalg.norm(reached * flip - scan, axis=1).mean())


def report(layout: Layout, scores: Sequence[Score], *, iterations: int | None) -> str:
    """Say in words and a table how well the subjects were registered."""
    lines = [
        "",
        "These subjects are simulated: the atlas itself, with another contrast, pose and shape.",
        "Real brains differ from it in more ways, and their scores are lower.",
        "",
        f"{'':10}{'mean Dice':>18}{'':4}{'mean error, mm':>18}",
        f"{'':10}{'affine':>9}{'full':>9}{'':4}{'affine':>9}{'full':>9}{'structures':>14}",
    ]
    lines += [_row(one.label, one) for one in scores]
    lines += [
        _row("mean", average(scores)),
        "",
        "Dice: overlap of the subject's segmentation with the atlas's labels, 1 is perfect.",
        "Error: distance between where brain points were found and where they are known to be.",
    ]
    if iterations is not None:
        lines.append(f"The refinement was set to {iterations} steps instead of vxmprep's default.")
    lines += ["", f"The result is in {layout.result}"]
    return "\n".join(lines)


def average(scores: Sequence[Score]) -> Score:
    """Average the scores of several subjects."""
    return Score(
        label="mean",
        structures=min(one.structures for one in scores),
        dice_affine=_mean([one.dice_affine for one in scores]),
        dice=_mean([one.dice for one in scores]),
        error_affine_mm=_mean([one.error_affine_mm for one in scores]),
        error_mm=_mean([one.error_mm for one in scores]),
    )


def _simulate(layout: Layout, *, subjects: int, seed: int) -> None:
    """Make the subjects, saying so."""
    from vxmprep.atlas import default_files
    from vxmprep.simulate import read_anatomy, write_dataset

    start = time.monotonic()
    print(f"Making {subjects} simulated subjects from the atlas {SPACE} ...", flush=True)
    anatomy = read_anatomy(*default_files())
    for label in write_dataset(anatomy, layout.bids, layout.truth, subjects=subjects, seed=seed):
        print(f"  {label} ({time.monotonic() - start:.0f} s)", flush=True)


def _row(name: str, one: Score) -> str:
    """Format a line of the table."""
    return (
        f"{name:10}{one.dice_affine:9.3f}{one.dice:9.3f}{'':4}"
        f"{one.error_affine_mm:9.2f}{one.error_mm:9.2f}{one.structures:14}"
    )


def _mean(values: Sequence[float]) -> float:
    """Average numbers; not a number where there is none."""
    return sum(values) / len(values) if values else float("nan")


if __name__ == "__main__":
    sys.exit(main())
