"""The refinement against greedy's deformable registration, on the network's grid.

Takes the conformed scans and labels of a finished run, registers each to the atlas with `refine`
from zero and with greedy at its usual and at a smoother setting, in turn, and prints a table. Each
registration is a process of its own, so that its peak memory is its own; times leave out starting
it and reading the images.

    python benchmarks/refinement.py DERIVATIVES [--scans N] [--threads N]

One thread by default: on a busy machine threads that wait for each other count as work.

Dice is the mean over the paper's structures and over all pairs of different subjects, labels
carried by one nearest-neighbour interpolation for all methods alike. Of the labelled cohort the
first 19 scans are of different people. Folding is counted twice among the brain's voxels: in the
grid's own frame, and as ITK's filter counts it for the whole map (see `vxmprep.morph.fold`).
"""

import argparse
import itertools
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nb
import numpy as np
import SimpleITK as sitk
import torch
from picsl_greedy import Greedy3D

from vxmprep.atlas import find_atlas, prepare_atlas
from vxmprep.evaluation.labels import VXM30
from vxmprep.evaluation.overlap import mean_dice, overlaps
from vxmprep.morph.field import displaced, jacobian_determinant, warp
from vxmprep.morph.pyramid import to_image_grid
from vxmprep.morph.refine import refine
from vxmprep.spatial.itk import LPS, read_affine, to_sitk
from vxmprep.spatial.silence import silenced

USUAL = "1.732vox 0.7071vox"
SMOOTHER = "2vox 1.5vox"
"""Folds as little as the refinement by both counts; the usual setting only by the first."""

SCAN, LABELS = "desc-conformed_T1w.nii.gz", "desc-conformed_dseg.nii.gz"


def main() -> None:
    """Register every scan with every method and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("derivatives", type=Path)
    parser.add_argument("--scans", type=int, help="take the first N (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    scans = sorted(options.derivatives.glob(f"sub-*/**/*_res-network_{SCAN}"))[: options.scans]
    atlas = prepare_atlas(find_atlas())
    brain = _tensor(atlas.network_mask)[:, 0] > 0
    methods = {
        "vxmprep": (by_refine, None),
        "greedy": (by_greedy, USUAL),
        f"greedy -s {SMOOTHER}": (by_greedy, SMOOTHER),
    }
    found = {name: ([], [], []) for name in ("affine", *methods)}
    for scan in scans:
        labels = _tensor(nb.load(str(scan).replace(SCAN, LABELS)))
        found["affine"][0].append(_carried(labels, torch.zeros(1, 3, *labels.shape[2:])))
        for name, (method, smoothing) in methods.items():
            field, spent = alone(method, scan, atlas, smoothing, options.threads)
            maps, folds, costs = found[name]
            maps.append(_carried(labels, field))
            folds.append(folding(field, linear_part(scan, atlas), brain))
            costs.append(spent)
            print(scan.name.split("_")[0], name, *(f"{value:.1f}" for value in spent), flush=True)
    subjects = [scan.name.split("_")[0] for scan in scans]
    print("\n| | Dice | folding, % | by ITK, % | wall s | processor s | peak memory, GB |")
    print("|---|---|---|---|---|---|---|")
    for name, (maps, folds, costs) in found.items():
        row = [f"{pairwise(subjects, maps):.3f}"]
        if costs:
            wall, used, memory = zip(*costs, strict=True)
            row += [f"{share:.3f}" for share in np.mean(folds, axis=0)]
            row += [f"{np.median(wall):.1f}", f"{np.median(used):.1f}", f"{max(memory):.2f}"]
        print("|", name, "|", " | ".join(row + ["-"] * (6 - len(row))), "|")


def alone(method, *arguments) -> tuple[torch.Tensor, tuple[float, float, float]]:
    """Run a method in a fresh process: field in voxels; wall, processor seconds, peak GB."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        field, spent = pool.submit(method, *arguments).result()
    return torch.from_numpy(field), spent


def by_refine(scan: Path, atlas, _, threads: int) -> tuple[np.ndarray, tuple]:
    """Refine from zero."""
    torch.set_num_threads(threads)
    moving, fixed = (_tensor(image) / 255 for image in (nb.load(scan), atlas.network_brain))
    mask = _tensor(atlas.network_mask) > 0
    linear = linear_part(scan, atlas)
    began = _clock()
    state, _ = refine(moving, fixed, mask, linear=linear)
    spent = _since(began)
    return to_image_grid(state, fixed.shape[2:]).numpy(), spent


def by_greedy(scan: Path, atlas, smoothing: str, threads: int) -> tuple[np.ndarray, tuple]:
    """Register with greedy; its vectors are in LPS mm."""
    fixed, moving = (to_sitk(x, np.float32) for x in (atlas.network_brain, nb.load(scan)))
    options = f"-m NCC 2x2x2 -n 100x50x10 -s {smoothing} -threads {threads} -V 0"
    greedy = Greedy3D()
    began = _clock()
    with silenced():
        greedy.execute(f"-i fixed moving {options} -o warp", fixed=fixed, moving=moving, warp=None)
    spent = _since(began)
    mm = sitk.GetArrayFromImage(greedy["warp"]).transpose(2, 1, 0, 3) * np.diag(LPS)[:3]
    voxels = mm @ np.linalg.inv(atlas.network_brain.affine[:3, :3]).T
    return np.ascontiguousarray(voxels.transpose(3, 0, 1, 2)[None], np.float32), spent


def linear_part(scan: Path, atlas) -> torch.Tensor:
    """Matrix of the scan's affine in the axes of the network's grid."""
    name = scan.name.replace(f"_res-network_{SCAN}", "_mode-image_desc-affine_xfm.txt")
    affine = read_affine(scan.with_name(name.replace("_space-", "_from-T1w_to-")))
    axes = atlas.network_brain.affine[:3, :3]
    return torch.from_numpy(np.linalg.inv(axes) @ affine[:3, :3] @ axes).float()


def folding(field: torch.Tensor, linear: torch.Tensor, brain: torch.Tensor) -> tuple[float, float]:
    """Per cent of the brain that folds, and that ITK's filter takes for folded."""
    there = displaced(field)
    whole = torch.einsum("ij,njxyz->nixyz", linear, there) - (there - field)
    mirrored = whole * torch.tensor([-1.0, -1.0, 1.0]).view(1, 3, 1, 1, 1)
    return tuple(
        100 * float((jacobian_determinant(each)[brain] <= 0).float().mean())
        for each in (field, mirrored)
    )


def pairwise(subjects: list[str], maps: list[np.ndarray]) -> float:
    """Mean Dice over the pairs of scans of different subjects."""
    pairs = itertools.combinations(zip(subjects, maps, strict=True), 2)
    values = [
        mean_dice(overlaps(one, other), VXM30)[0]
        for (subject, one), (another, other) in pairs
        if subject != another
    ]
    return float(np.mean(values)) if values else float("nan")


def _carried(labels: torch.Tensor, field: torch.Tensor) -> np.ndarray:
    return warp(labels, field, "nearest")[0, 0].numpy().astype(np.int16)


def _tensor(image: nb.spatialimages.SpatialImage) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image.dataobj, dtype=np.float32))[None, None]


def _clock() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def _since(began: tuple[float, float]) -> tuple[float, float, float]:
    """Wall and processor seconds, and the process's peak memory in GB."""
    wall, used = (now - then for now, then in zip(_clock(), began, strict=True))
    # ru_maxrss would count what the parent held when it started this process
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return wall, used, int(peak.split()[1]) / 1e6


if __name__ == "__main__":
    main()
