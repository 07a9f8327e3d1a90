"""Registration to an atlas by several methods, from the same affines, on any labelled BIDS cohort.

    python benchmarks/registration.py RESULTS [options] -- BIDS_DIR OUTPUT_DIR [vxmprep's options]

What follows `--` is a command line of vxmprep without its level: scans are prepared as it says
(nothing is done twice), and those with a segmentation are registered by every method. Each
registration is a process of its own that leaves a transform and what it cost in RESULTS/METHOD;
what is there is not done again. Choose one scan of each person with --participant-label.

Methods (--methods, in that order):
    affine           what all others start from
    greedy           greedy, -m NCC 2x2x2 -n 100x50x10, its usual smoothing
    greedy-smooth    the same with -s 2vox 1.5vox, which folds as little as ours
    syn              ANTs SyN (antspyx SyNOnly: CC radius 4, 100x70x50x20, single precision) on
                     the brain and 5 mm around it; needs --ants, the Python of an environment
                     with antspyx
    refine:N         no network, at most N iterations of the refinement
    network:N        --model, then at most N iterations; network:0 is the network alone

Ours takes a precision too, `network:46:float32`; otherwise bfloat16 where the processor has it.

Dice and HD95 are of the paper's 30 structures; labels go from the scan to the network's grid of
the atlas (1 mm) by one nearest-neighbour interpolation. `pairs`: mean over all pairs of people;
`consensus`: against the majority of all others. Intervals: 95 %, bootstrap over people. Folding:
voxels of the brain mask with a determinant of 0 or less; `by ITK`: as ITK's filter counts them for
the whole map (see `vxmprep.morph.fold`).

With `--others METHOD`, each person by each of the methods is compared with all other people as
METHOD registered them: so a method that is too slow for everyone can be compared on a few.
"""

import argparse
import json
import multiprocessing
import re
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.atlas import PreparedAtlas, prepare_atlas
from vxmprep.bids.records import Record
from vxmprep.cli.parser import parse
from vxmprep.cli.plan import make_plan
from vxmprep.cli.run import main as run_command
from vxmprep.config import BUNDLED
from vxmprep.evaluation.labels import VXM30, name_of, without_parcels, without_side
from vxmprep.evaluation.overlap import overlaps
from vxmprep.evaluation.surface import surface_distances
from vxmprep.preparation.segmentation import load_labels
from vxmprep.spatial.files import replacing
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import load
from vxmprep.spatial.itk import LPS, itk_frame, read_affine, read_transform, write_composite
from vxmprep.spatial.resample import resample

METHODS = "affine,greedy,greedy-smooth,refine:110,network:0,network:46"
SMOOTHING = {"greedy": "1.732vox 0.7071vox", "greedy-smooth": "2vox 1.5vox"}
METHOD = re.compile(
    r"affine|greedy|greedy-smooth|syn|(refine|network):\d+(:(float32|bfloat16|auto))?"
)
BOOTSTRAP = 2000


def main() -> None:
    """Register what is not registered yet, then measure all."""
    place = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    own, theirs = sys.argv[1:place], sys.argv[place + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument(
        "--model", default=str(BUNDLED), help="a network's file (default: the bundled one's)"
    )
    parser.add_argument("--ants", help="Python of an environment with antspyx")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--others", metavar="METHOD", help="what carries the others' labels")
    parser.add_argument("--table", action="store_true", help="measure what is there, run nothing")
    options = parser.parse_args(own)
    words = [*theirs[:2], "prepare", *theirs[2:]]
    if not options.table and run_command(words):
        sys.exit("not all scans could be prepared")
    plan = make_plan(parse(words))
    labelled = [task for task in plan.tasks if task.segmentation is not None]
    scans = {task.scan.stem: (task.segmentation, _files(task)) for task in labelled}
    atlas = prepare_atlas(plan.atlas)
    methods = options.methods.split(",")
    for method in [*methods, *([options.others] if options.others else [])]:
        if not METHOD.fullmatch(method):
            parser.error(f"{method!r} is no method; see --help")
    if not options.table:
        for stem, (_, files) in scans.items():
            for method in methods:
                register(method, stem, files, atlas, options)
    report(methods, scans, atlas, options)


def _files(task) -> dict[str, Path]:
    record = Record.of(task.record.output_dir, task.scan.stem)
    return {name: path for stage in task.stages for name, path in record.files(stage).items()}


def register(
    method: str, stem: str, files: dict[str, Path], atlas: PreparedAtlas, options
) -> None:
    """Register one scan, unless that is done."""
    made = options.results / method / f"{stem}.h5"
    if method == "affine" or made.with_suffix(".json").is_file():
        return
    name, count, precision = [*method.split(":"), "", ""][:3]
    work, setting = {
        "greedy": (by_greedy, SMOOTHING["greedy"]),
        "greedy-smooth": (by_greedy, SMOOTHING["greedy-smooth"]),
        "syn": (by_syn, options.ants),
        "refine": (by_ours, (None, int(count or 0), precision or "auto")),
        "network": (by_ours, (options.model, int(count or 0), precision or "auto")),
    }[name]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        affine = read_affine(files["affine"])
        job = pool.submit(work, files["conformed"], affine, atlas, made, setting, options.threads)
        spent = job.result()
    with replacing(made.with_suffix(".json")) as path:
        path.write_text(json.dumps(spent) + "\n", encoding="utf-8")
    print(stem, method, spent, flush=True)


def by_ours(conformed, affine, atlas, made: Path, setting: tuple, threads: int) -> dict:
    """Register with network and refinement; both maps are computed, as the command does."""
    import torch

    from vxmprep.registration import register as by_vxmprep
    from vxmprep.resources import keep_freed_memory

    keep_freed_memory()  # as the command's worker processes do
    torch.set_num_threads(threads)
    moving, fixed, mask = load(conformed), atlas.network_brain, atlas.network_mask
    model, iterations, precision = setting
    began = _clock()
    found = by_vxmprep(
        moving,
        fixed,
        mask,
        model=model,
        iterations=iterations,
        atlas_to_scan=affine,
        precision=precision,
    )
    spent = _since(began)
    with tempfile.TemporaryDirectory() as folder:
        found.write(affine, made, Path(folder) / "inverse.h5")
    return {**spent, "precision": found.precision, "iterations": list(found.iterations)}


def by_greedy(conformed, affine, atlas, made: Path, smoothing: str, threads: int) -> dict:
    """Register with greedy; its vectors are in LPS mm."""
    import SimpleITK as sitk
    from picsl_greedy import Greedy3D

    from vxmprep.spatial.itk import to_sitk
    from vxmprep.spatial.silence import silenced

    fixed, moving = (to_sitk(x, np.float32) for x in (atlas.network_brain, load(conformed)))
    greedy = Greedy3D()
    began = _clock()
    with silenced():
        greedy.execute(
            f"-i fixed moving -m NCC 2x2x2 -n 100x50x10 -s {smoothing} -threads {threads} -V 0 "
            "-o warp",
            fixed=fixed,
            moving=moving,
            warp=None,
        )
    spent = _since(began)
    vectors = sitk.GetArrayFromImage(greedy["warp"])
    _write(made, affine, vectors, Grid.of(atlas.network_brain))
    return spent


def by_syn(conformed, affine, atlas, made: Path, python: str, threads: int) -> dict:
    """Register with ANTs SyN, in an environment of its own."""
    import os

    import SimpleITK as sitk
    from scipy.ndimage import binary_dilation

    from vxmprep.evaluation.surface import box_of

    # The brain and a margin: what ANTs does elsewhere takes half of its time.
    near = binary_dilation(np.asarray(atlas.network_mask.dataobj) > 0, iterations=5)
    box = tuple(slice(max(0, side.start - 2), side.stop + 2) for side in box_of(near))
    fixed = atlas.network_brain.slicer[box]
    mask = nb.Nifti1Image(near[box].astype(np.uint8), fixed.affine)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = {"fixed": fixed, "mask": mask, "moving": load(conformed)}
        for title, image in images.items():
            nb.save(image, folder / f"{title}.nii.gz")
        files = [str(folder / f"{title}.nii.gz") for title in (*images, "warp")]
        environment = {**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads)}
        began = _clock(resource.RUSAGE_CHILDREN)
        script = Path(__file__).with_name("syn.py")
        subprocess.run([python, script, *files], check=True, env=environment)
        spent = _since(began, resource.RUSAGE_CHILDREN)
        vectors = sitk.GetArrayFromImage(sitk.ReadImage(files[-1]))
        _write(made, affine, vectors, Grid.of(fixed))
    return spent


def _write(made: Path, affine: np.ndarray, vectors: np.ndarray, grid: Grid) -> None:
    write_composite(
        made,
        affine=affine,
        displacement=vectors.transpose(2, 1, 0, 3) * np.diag(LPS)[:3],
        grid=grid,
        field_acts_first=True,
    )


def report(methods: list[str], scans: dict, atlas: PreparedAtlas, options) -> None:
    """Measure all that is there, print the table and draw the figure."""
    from vxmprep.evaluation.folding import folding, jacobian_determinant

    results = options.results
    grid = Grid.of(atlas.network_brain)
    mask = np.asarray(atlas.network_mask.dataobj) > 0

    def registered(stem: str, method: str) -> bool:
        return method == "affine" or (results / method / f"{stem}.json").is_file()

    def transform_of(stem: str, method: str):
        affine = scans[stem][1]["affine"]
        return read_transform(affine if method == "affine" else results / method / f"{stem}.h5")

    def carried(stem: str, transform) -> np.ndarray:
        labels = resample(load_labels(scans[stem][0]), grid, transform, nearest=True)
        return without_parcels(np.asarray(labels.dataobj).astype(np.int16))

    stems = [s for s in scans if all(registered(s, method) for method in methods)]
    others, pairs_of = None, pairs_mean
    if options.others:
        kept = [s for s in scans if registered(s, options.others)]
        if not kept:
            sys.exit(f"--others {options.others}: nobody is registered by it in {results}")
        others = {s: carried(s, transform_of(s, options.others)) for s in kept}
        pairs_of = people_mean
        print(f"\ncompared with {len(others)} people by {options.others}")
    print(f"\n{len(stems)} people: {', '.join(stems)}\n")
    head = ["", "Dice, pairs", "Dice, consensus", "HD95, mm", "folding, %", "by ITK, %"]
    head += ["wall s", "processor s", "peak GB"]
    print("|", " | ".join(head), "|")
    print("|---" * len(head) + "|")
    structures, points = {}, {}
    for method in methods:
        maps, folds, costs = {}, [], []
        for stem in stems:
            transform = transform_of(stem, method)
            if method != "affine":
                determinant = np.asarray(jacobian_determinant(transform, grid).dataobj)
                folds.append((folding(determinant, mask).percent, by_itk(transform, grid, mask)))
                text = (results / method / f"{stem}.json").read_text(encoding="utf-8")
                costs.append(json.loads(text))
            maps[stem] = carried(stem, transform)
        pairs = pair_dice(maps, others or maps)
        dice, hd95 = against_consensus(maps, others or maps)
        structures[method] = dice
        row = [spread(pairs_of, pairs), spread(people_mean, dice), spread(people_mean, hd95, 2)]
        if costs:
            row += [f"{share:.4f}" for share in np.mean(folds, axis=0)]
            row += [f"{np.median([c[key] for c in costs]):.1f}" for key in ("wall", "cpu")]
            row += [f"{max(c['peak'] for c in costs):.2f}"]
        seconds = np.median([c["cpu"] for c in costs]) if costs else 0.0
        points[method] = float(seconds), pairs_of(pairs, np.arange(len(stems)))
        print("|", method, "|", " | ".join(row + ["-"] * (8 - len(row))), "|", flush=True)
    if len(others or stems) > 1:  # one person alone has no consensus to be compared with
        draw(structures, results / "structures.png")
    draw_curve(points, results / "curve.png")


def by_itk(transform, grid: Grid, mask: np.ndarray) -> float:
    """Per cent of a mask that ITK's filter takes for folded."""
    import SimpleITK as sitk

    direction, spacing, origin = itk_frame(grid)
    shape = [int(n) for n in grid.shape]
    frame = (origin.tolist(), spacing.tolist(), direction.ravel().tolist())
    field = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, shape, *frame)
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field)).T
    return 100 * float((determinant[mask] <= 0).mean())


def pair_dice(maps: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> np.ndarray:
    """Mean Dice of each person with each of the others ``(n, m)``; not a number for oneself."""
    found = np.full((len(maps), len(others)), np.nan)
    for i, (person, own) in enumerate(maps.items()):
        for j, (other, theirs) in enumerate(others.items()):
            if person == other:
                continue
            if maps is others and j < i:
                found[i, j] = found[j, i]
                continue
            each = overlaps(own, theirs)
            found[i, j] = np.nanmean([each[k].dice for k in VXM30 if k in each])
    return found


def against_consensus(
    maps: dict[str, np.ndarray], others: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Dice and HD95 of each person and structure ``(n, 30)`` with the majority of all others."""
    ids = np.array((0, *VXM30), np.int16)
    counts = np.stack([sum((m == k).astype(np.uint16) for m in others.values()) for k in ids])
    dice, hd95 = (np.full((len(maps), len(VXM30)), np.nan) for _ in range(2))
    for person, (stem, own) in enumerate(maps.items()):
        votes = counts.copy()
        if stem in others:
            for place, label in enumerate(ids):
                votes[place] -= others[stem] == label
        consensus = ids[votes.argmax(axis=0)]  # the first of equals is the smallest id
        each = overlaps(consensus, own)
        far = surface_distances(consensus, own, (1.0, 1.0, 1.0))
        for place, label in enumerate(VXM30):
            if label in far:
                dice[person, place], hd95[person, place] = each[label].dice, far[label].hd95
    return dice, hd95


def pairs_mean(pairs: np.ndarray, people: np.ndarray) -> float:
    """Mean over pairs of different people among those drawn."""
    drawn = pairs[np.ix_(people, people)]
    return float(np.nanmean(drawn)) if np.isfinite(drawn).any() else float("nan")


def people_mean(values: np.ndarray, people: np.ndarray) -> float:
    """Mean over structures, then over the people drawn."""
    return float(np.nanmean(np.nanmean(values, axis=1)[people]))


def spread(mean, values: np.ndarray, digits: int = 3) -> str:
    """Give a mean with its interval from a bootstrap over people."""
    people = np.arange(len(values))
    draw = np.random.default_rng(0)
    drawn = [mean(values, draw.choice(people, len(people))) for _ in range(BOOTSTRAP)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return f"{mean(values, people):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def draw(structures: dict[str, np.ndarray], path: Path) -> None:
    """Draw Dice of each structure as boxes side by side, left and right joined, best first."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [without_side(name_of(k)) for k in VXM30]
    joined = list(dict.fromkeys(names))
    places = {name: [i for i, each in enumerate(names) if each == name] for name in joined}
    last = list(structures.values())[-1]
    joined = [name for name in joined if np.isfinite(last[:, places[name]]).any()]
    order = sorted(joined, key=lambda name: -np.nanmean(last[:, places[name]]))
    figure, axes = pyplot.subplots(figsize=(12, 4.5), layout="constrained")
    width = 0.8 / len(structures)
    colours = pyplot.get_cmap("tab10")
    for number, (method, values) in enumerate(structures.items()):
        boxes = [_means(values[:, places[name]]) for name in order]
        at = np.arange(len(order)) + (number - (len(structures) - 1) / 2) * width
        drawn = axes.boxplot(
            boxes,
            positions=at,
            widths=0.9 * width,
            patch_artist=True,
            flierprops={"markersize": 2},
            medianprops={"color": "black"},
        )
        for box in drawn["boxes"]:
            box.set_facecolor(colours(number))
        axes.plot([], [], "s", color=colours(number), label=method)
    axes.set_xticks(np.arange(len(order)), order, rotation=35, ha="right")
    axes.set_ylabel("Dice with the consensus of the others")
    axes.legend(ncols=len(structures), loc="lower left", fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=110)


def draw_curve(points: dict[str, tuple[float, float]], path: Path) -> None:
    """Draw Dice against processor seconds; one line for each kind of method with a number."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    kinds: dict[str, list] = {}
    for method, at in points.items():
        name, count, precision = [*method.split(":"), "", ""][:3]
        kinds.setdefault(f"{name} {precision}".strip(), []).append((at, count))
    for number, (kind, own) in enumerate(kinds.items()):
        own.sort()
        axes.plot(*zip(*(at for at, _ in own), strict=True), "o-", label=kind)
        for at, count in own:
            place = (4, 5) if number % 2 else (4, -12)
            axes.annotate(count, at, place, textcoords="offset points", fontsize=8)
    axes.set_xlabel("processor seconds of the deformable registration, median")
    axes.set_ylabel("Dice, mean of pairs")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _means(values: np.ndarray) -> np.ndarray:
    """Means over both sides, of the people who have one."""
    return np.nanmean(values[np.isfinite(values).any(axis=1)], axis=1)


def _clock(who: int = resource.RUSAGE_SELF) -> tuple[float, float]:
    used = resource.getrusage(who)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def _since(began: tuple[float, float], who: int = resource.RUSAGE_SELF) -> dict[str, float]:
    """Wall and processor seconds, and the process's peak memory in GB."""
    wall, used = (now - then for now, then in zip(_clock(who), began, strict=True))
    if who == resource.RUSAGE_CHILDREN:
        peak = resource.getrusage(who).ru_maxrss / 2**20
    else:  # ru_maxrss would count what the parent held when it started this process
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        peak = int(line.split()[1]) / 2**20
    return {"wall": round(wall, 2), "cpu": round(used, 2), "peak": round(peak, 3)}


if __name__ == "__main__":
    main()
