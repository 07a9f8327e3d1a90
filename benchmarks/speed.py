"""Time and memory of network, training step and losses beside the original code, in one run.

    python benchmarks/speed.py ORIGINAL NEWER [--rounds N] [--only TEXT]

ORIGINAL and NEWER are the Pythons of environments with voxelmorph 0.2 and 0.3.4 (`make bench`
makes both). Each measurement runs in a process of its own, in turn with the others; the table has
the least seconds of all rounds and the peak of the process's memory.
"""

import argparse
import contextlib
import inspect
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

GRID = (160, 192, 224)
TRAINING_GRID = (80, 96, 112)
REPEATS = 3

TASKS = {
    "inference": {
        "voxelmorph 0.2, float32": ("original", "original_inference"),
        "ours, float32": ("ours", "our_inference float32"),
        "ours, bfloat16": ("ours", "our_inference bfloat16"),
    },
    "inference, per multiply-add": {
        "voxelmorph 0.3.4, float32": ("newer", "newer_inference float32"),
        "voxelmorph 0.3.4, bfloat16": ("newer", "newer_inference bfloat16"),
        "ours, float32": ("ours", "our_inference float32"),
        "ours, bfloat16": ("ours", "our_inference bfloat16"),
    },
    "training step": {
        "voxelmorph 0.2, float32": ("original", "original_step"),
        "ours, float32": ("ours", "our_step float32"),
        "ours, bfloat16": ("ours", "our_step bfloat16"),
    },
    "local NCC, forward and backward": {
        "five dense convolutions": ("ours", "dense_ncc"),
        "MONAI": ("ours", "monai_ncc"),
        "ours": ("ours", "our_ncc"),
    },
}


def main() -> None:
    """Run all measurements and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original")
    parser.add_argument("newer")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    pythons = {"ours": sys.executable, "original": options.original, "newer": options.newer}
    chosen = {title: rows for title, rows in TASKS.items() if options.only in title}
    wanted = sorted({job for rows in chosen.values() for job in rows.values()}, reverse=True)
    found: dict[tuple[str, str], list[dict]] = {job: [] for job in wanted}
    for _ in range(options.rounds):
        for job in wanted:
            found[job].append(_measure(pythons[job[0]], job[1]))
    for title, rows in chosen.items():
        _print(title, {name: found[job] for name, job in rows.items()})


def _measure(python: str, task: str) -> dict:
    """Run a task in a process of its own."""
    command = [python, "-W", "ignore", __file__, "--task", *task.split()]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr}")
    measured = json.loads(result.stdout.splitlines()[-1])
    print(task, measured, file=sys.stderr, flush=True)
    return measured


def _print(title: str, rows: dict[str, list[dict]]) -> None:
    print(f"\n### {title}\n")
    print("| | wall s | processor s | peak GB | TFLOP/s | against the first |")
    print("|---|---|---|---|---|---|")
    first = None
    for name, rounds in rows.items():
        wall, cpu = (min(one[key] for one in rounds) for key in ("wall", "cpu"))
        rate = 2 * rounds[0]["multiply_adds"] / wall / 1e12
        cost = 1 / rate if "multiply-add" in title else wall
        first = first or cost
        peak = min(one["peak"] for one in rounds)
        print(
            f"| {name} | {wall:.3g} | {cpu:.3g} | {peak:.2f} | {rate:.2f} | {first / cost:.1f} x |"
        )


def _run(action: Callable[[], None], multiply_adds: int = 0) -> None:
    """Do something a few times and print the least time it took."""
    action()
    walls, cpus = [], []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {
                "wall": round(min(walls), 4),
                "cpu": round(min(cpus), 4),
                "peak": round(peak, 3),
                "multiply_adds": multiply_adds,
            }
        )
    )


def _pair(shape: tuple[int, ...]) -> list:
    """Two smooth images: what is in them costs nothing, but fields must be plausible."""
    import torch

    torch.manual_seed(0)
    coarse = torch.rand(2, 1, 1, *(size // 16 for size in shape))
    return [torch.nn.functional.interpolate(image, shape, mode="trilinear") for image in coarse]


def _multiply_adds(network: object, forward: Callable[[], None]) -> int:
    """Count those of all convolutions, as they are defined."""
    import torch

    total = 0

    def count(layer: torch.nn.Conv3d, _: tuple, output: torch.Tensor) -> None:
        nonlocal total
        total += output[0].numel() // output.shape[1] * layer.weight.numel()

    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv3d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    forward()
    for hook in hooks:
        hook.remove()
    return total


PAPER_MULTIPLY_ADDS = 27 * (
    (2 * 16 + 48 * 32 + 32 * 16 + 16 * 16 + 16 * 3)
    + (16 * 32 + 64 * 32) / 8
    + (32 * 32 + 64 * 32) / 64
    + (32 * 32 + 64 * 32) / 512
    + 32 * 32 / 4096
)
"""Of the paper's network per voxel, as it is defined."""


def our_inference(precision: str) -> None:
    """Network, integration and warp."""
    import torch

    from vxmprep.morph.field import resize, warp
    from vxmprep.morph.network import VxmNet

    network = VxmNet().eval()
    torch.nn.init.normal_(network.flow.weight, std=1e-3)
    moving, fixed = _pair(GRID)

    def forward() -> None:
        velocity = network(moving, fixed, getattr(torch, precision))
        warp(moving, resize(network.integrate(velocity), GRID))

    with torch.inference_mode():
        _run(forward, int(PAPER_MULTIPLY_ADDS * GRID[0] * GRID[1] * GRID[2]))


def original_inference() -> None:
    """Run voxelmorph 0.2's."""
    torch, voxelmorph = _original()
    network = voxelmorph.networks.VxmDense(GRID).eval()
    torch.nn.init.normal_(network.flow.weight, std=1e-3)
    moving, fixed = _pair(GRID)
    with torch.no_grad():
        _run(
            lambda: network(moving, fixed, registration=True),
            int(PAPER_MULTIPLY_ADDS * GRID[0] * GRID[1] * GRID[2]),
        )


def newer_inference(precision: str) -> None:
    """Run voxelmorph 0.3.4's, with the paper's encoder."""
    import torch
    from voxelmorph.nn.models import VxmPairwise

    network = VxmPairwise(
        ndim=3, source_channels=1, target_channels=1, nb_features=[16, 32, 32, 32]
    ).eval()
    moving, fixed = _pair(GRID)
    cast = (
        torch.autocast("cpu", torch.bfloat16)
        if precision == "bfloat16"
        else contextlib.nullcontext()
    )

    def forward() -> None:
        network(moving, fixed, return_warped_source=True)

    with torch.no_grad(), cast:
        _run(forward, _multiply_adds(network, forward))


def our_step(precision: str) -> None:
    """Forward, local NCC, gradient penalty, backward, Adam."""
    import torch

    from vxmprep.morph.field import resize, warp
    from vxmprep.morph.losses import gradient_penalty, local_ncc
    from vxmprep.morph.network import VxmNet

    torch.manual_seed(0)
    network = VxmNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    moving, fixed = _pair(TRAINING_GRID)

    def step() -> None:
        optimizer.zero_grad()
        velocity = network(moving, fixed, getattr(torch, precision))
        displacement = resize(network.integrate(velocity), TRAINING_GRID)
        loss = gradient_penalty(velocity) - local_ncc(fixed, warp(moving, displacement))
        loss.backward()
        optimizer.step()

    _run(step)


def original_step() -> None:
    """Take the same step with voxelmorph 0.2's network and losses."""
    torch, voxelmorph = _original()
    to = torch.Tensor.to  # its loss asks for a GPU
    torch.Tensor.to = lambda self, *a, **k: self if a == ("cuda",) else to(self, *a, **k)
    torch.manual_seed(0)
    network = voxelmorph.networks.VxmDense(TRAINING_GRID)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    moving, fixed = _pair(TRAINING_GRID)
    similarity = voxelmorph.losses.NCC().loss
    smoothness = voxelmorph.losses.Grad("l2", loss_mult=2).loss

    def step() -> None:
        optimizer.zero_grad()
        warped, velocity = network(moving, fixed)
        loss = similarity(fixed, warped) + smoothness(None, velocity)
        loss.backward()
        optimizer.step()

    _run(step)


def our_ncc() -> None:
    """Local correlation in a window of 9, and its gradient."""
    from vxmprep.morph.losses import local_ncc

    _ncc(lambda fixed, moving: -local_ncc(fixed, moving))


def monai_ncc() -> None:
    """Take MONAI's."""
    from monai.losses import LocalNormalizedCrossCorrelationLoss

    _ncc(LocalNormalizedCrossCorrelationLoss(kernel_size=9))


def dense_ncc() -> None:
    """Sum over windows by dense convolutions, as the original does."""
    import torch
    from torch.nn.functional import conv3d

    ones, count = torch.ones(1, 1, 9, 9, 9), 9**3

    def loss(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        volumes = (fixed, moving, fixed * fixed, moving * moving, fixed * moving)
        f, m, ff, mm, fm = (conv3d(volume, ones, padding=4) for volume in volumes)
        cross = fm - f * m / count
        return -(cross * cross / ((ff - f * f / count) * (mm - m * m / count) + 1e-5)).mean()

    _ncc(loss)


def _ncc(loss: Callable) -> None:
    fixed, moving = _pair(GRID)
    moving.requires_grad_()

    def forward_and_backward() -> None:
        moving.grad = None
        loss(fixed, moving).backward()

    _run(forward_and_backward)


def _original() -> tuple:
    """Import voxelmorph 0.2 with what Python 3.11 took from it."""
    os.environ["VXM_BACKEND"] = os.environ["NEURITE_BACKEND"] = "pytorch"
    inspect.getargspec = lambda function: tuple(inspect.getfullargspec(function)[:4])
    import torch
    import voxelmorph

    return torch, voxelmorph


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        if sys.argv[2] == "our_inference":
            from vxmprep.resources import keep_freed_memory

            keep_freed_memory()  # as the command's worker processes do
        globals()[sys.argv[2]](*sys.argv[3:])
    else:
        main()
