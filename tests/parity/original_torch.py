"""Run the original torch code: python original_torch.py FOLDER [--small], in its environment.

Reads inputs.npz of the folder; writes torch-CASE.pt as the original saves it, and torch-CASE.npy,
its displacement.
"""

import inspect
import os
import sys
from pathlib import Path

import numpy as np
from cases import CASES, IN_A_PLANE, KEPT, LARGEST, PAPER, SMALL

os.environ["VXM_BACKEND"] = os.environ["NEURITE_BACKEND"] = "pytorch"
# Removed from Python 3.11; the original's decorator calls it.
inspect.getargspec = lambda function: tuple(inspect.getfullargspec(function)[:4])


def main(folder: str, *options: str) -> None:
    import torch
    import voxelmorph

    folder = Path(folder)
    pair = np.load(folder / "inputs.npz")
    volumes = [
        torch.from_numpy(pair[name].astype(np.float32))[None, None] for name in ("moving", "fixed")
    ]
    planes = [volume[..., volume.shape[-1] // 2] for volume in volumes]
    small = "--small" in options
    for name, case in CASES.items():
        if small and f"torch-{name}" not in KEPT:
            continue
        moving, fixed = planes if name == IN_A_PLANE else volumes
        torch.manual_seed(0)
        network = voxelmorph.networks.VxmDense(
            tuple(fixed.shape[2:]),
            nb_unet_features=SMALL if small else PAPER,
            int_steps=case["steps"],
            int_downsize=case["downsize"],
            unet_half_res=case["coarse"],
        )
        with torch.no_grad():
            torch.nn.init.normal_(network.flow.bias, std=0.01)
            for _ in range(4):  # integration is not linear
                displacement = network(moving, fixed, registration=True)[1]
                scale = LARGEST / displacement.abs().max()
                network.flow.weight *= scale
                network.flow.bias *= scale
            displacement = network(moving, fixed, registration=True)[1]
        network.save(folder / f"torch-{name}.pt")
        np.save(folder / f"torch-{name}.npy", displacement[0].numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
