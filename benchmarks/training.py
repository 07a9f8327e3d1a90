"""The training loop beside the same loop made of the original code's parts, on prepared scans.

    python benchmarks/training.py ORIGINAL OUTPUT_DIR [--iterations N] [--rounds N]

ORIGINAL is the Python of an environment with voxelmorph 0.2 (`make parity` makes one), OUTPUT_DIR
what `vxmprep ... prepare` wrote. Both register scans to the default atlas at 2 mm: batch 1, the
paper's network, velocity at half resolution in 7 steps, local NCC + 1.0 x gradient penalty, Adam.
Each runs in a process of its own, in turn; the table has the least median of the seconds of an
iteration, reading of the data included, and the process's peak memory.
"""

import argparse
import csv
import inspect
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SKIPPED = 2
"""Iterations at the start that do not count."""


def main() -> None:
    """Run both loops and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        inputs = _write_inputs(options.output_dir, Path(folder))
        jobs = {
            "voxelmorph 0.2, float32": [options.original, "original"],
            "ours, float32": [sys.executable, "ours", "float32"],
            "ours, bfloat16": [sys.executable, "ours", "bfloat16"],
        }
        found = {name: [] for name in jobs}
        for _ in range(options.rounds):
            for name, (python, *task) in jobs.items():
                words = [python, "-W", "ignore", __file__, "--task", str(inputs)]
                words += [str(options.iterations), *task]
                result = subprocess.run(words, capture_output=True, text=True)
                if result.returncode:
                    sys.exit(f"{' '.join(words)} failed:\n{result.stderr}")
                found[name].append(json.loads(result.stdout.splitlines()[-1]))
                print(name, found[name][-1], file=sys.stderr, flush=True)
    print("\n| | s an iteration | peak GB | against the original |\n|---|---|---|---|")
    first = None
    for name, rounds in found.items():
        seconds, peak = (min(one[key] for one in rounds) for key in ("seconds", "peak"))
        first = first or (seconds, peak)
        ratios = f"{first[0] / seconds:.1f} x the speed, {peak / first[1]:.0%} of the memory"
        print(f"| {name} | {seconds:.2f} | {peak:.2f} | {ratios} |")


def _write_inputs(output_dir: Path, folder: Path) -> Path:
    """Write the volumes as the original's generator reads them, and what both are told."""
    import nibabel as nb
    import numpy as np

    from vxmprep.atlas import find_atlas, prepare_atlas
    from vxmprep.spatial.grid import Grid
    from vxmprep.training.volumes import read_image

    atlas = prepare_atlas(find_atlas())
    for name in ("brain", "mask"):
        nb.save(getattr(atlas, f"network_{name}"), folder / f"{name}.nii.gz")
    grid = Grid.of(atlas.network_brain)
    pattern = "sub-*/**/*_space-MNI152NLin2009cAsym_res-network_desc-conformed_T1w.nii.gz"
    scans = sorted(output_dir.glob(pattern))
    if len(scans) < 2:
        sys.exit(f"{output_dir}: no prepared scans of the default atlas; run the level prepare")
    for number, path in enumerate([folder / "brain.nii.gz", *scans]):
        volume = read_image(path, grid, 2)
        padded = np.pad(volume, [(0, -size % 16) for size in volume.shape])
        np.savez_compressed(folder / f"{number}.npz", vol=padded.astype(np.float32) / 255)
    told = folder / "inputs.json"
    told.write_text(json.dumps([str(path.absolute()) for path in scans]))
    return told


def ours(inputs: Path, iterations: int, precision: str) -> None:
    """Train with `python -m vxmprep.training`."""
    import tomli_w

    scans = json.loads(inputs.read_text())
    folder = inputs.parent / f"ours-{precision}-{time.time_ns()}"
    content = {
        "folder": str(folder),
        "cohort": str(inputs.parent / "cohort"),
        "atlas": {
            "name": "MNI152NLin2009cAsym",
            "image": str(inputs.parent / "brain.nii.gz"),
            "mask": str(inputs.parent / "mask.nii.gz"),
        },
        "settings": {"voxel_size": 2, "iterations": iterations, "precision": precision},
        "scans": [
            {"name": str(number), "participant": str(number), "image": scan}
            for number, scan in enumerate(scans)
        ],
    }
    config = folder.with_suffix(".toml")
    config.write_text(tomli_w.dumps(content))
    words = [sys.executable, "-m", "vxmprep.training", str(config)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    with (folder / "iterations.csv").open() as file:
        times = [float(row["seconds"]) for row in csv.DictReader(file)]
    _print(times, resource.RUSAGE_CHILDREN)


def original(inputs: Path, iterations: int) -> None:
    """Train with the original's generator, network and losses, as its train.py does."""
    os.environ["VXM_BACKEND"] = os.environ["NEURITE_BACKEND"] = "pytorch"
    # What newer Pythons took from it; and its loss asks for a GPU.
    inspect.getargspec = lambda function: tuple(inspect.getfullargspec(function)[:4])
    import numpy as np
    import torch
    import voxelmorph

    to = torch.Tensor.to
    torch.Tensor.to = lambda self, *a, **k: self if a == ("cuda",) else to(self, *a, **k)
    count = len(json.loads(inputs.read_text()))
    names = [str(inputs.parent / f"{number}.npz") for number in range(1, count + 1)]
    atlas = np.load(inputs.parent / "0.npz")["vol"][None, ..., None]
    generator = voxelmorph.generators.scan_to_atlas(names, atlas, batch_size=1)
    network = voxelmorph.networks.VxmDense(atlas.shape[1:-1])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    similarity = voxelmorph.losses.NCC().loss
    smoothness = voxelmorph.losses.Grad("l2", loss_mult=2).loss
    times = []
    for _ in range(iterations):
        begin = time.perf_counter()
        moving, fixed = (
            torch.from_numpy(volume).float().permute(0, 4, 1, 2, 3)
            for volume in next(generator)[0]
        )
        warped, velocity = network(moving, fixed)
        loss = similarity(fixed, warped) + smoothness(None, velocity)
        float(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - begin)
    _print(times, resource.RUSAGE_SELF)


def _print(times: list[float], who: int) -> None:
    peak = resource.getrusage(who).ru_maxrss / 2**20
    print(json.dumps({"seconds": statistics.median(times[SKIPPED:]), "peak": round(peak, 3)}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        inputs, iterations, task, *precision = sys.argv[2:]
        globals()[task](Path(inputs), int(iterations), *precision)
    else:
        main()
