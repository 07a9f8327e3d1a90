"""Compare with the original: python tests/parity/compare.py FOLDER; exit status 1 if they differ.

Reads what inputs.py, original_torch.py and original_keras.py wrote there.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from cases import CASES, IN_A_PLANE

from vxmprep.morph.checkpoint import load_checkpoint
from vxmprep.morph.field import resize

LIMIT = 1e-3
"""Voxels."""


@torch.inference_mode()
def main(folder: str) -> int:
    pair = np.load(Path(folder) / "inputs.npz")
    moving, fixed = (
        torch.from_numpy(pair[name].astype(np.float32))[None, None] for name in ("moving", "fixed")
    )
    print(
        "| original | largest displacement, voxels | largest difference, voxels |\n|---|---|---|"
    )
    differences = []
    for expected in sorted(Path(folder).glob("*.npy")):
        suffix = ".h5" if expected.name.startswith("keras") else ".pt"
        network = load_checkpoint(expected.with_suffix(suffix)).network
        images = [moving, fixed]
        if expected.stem.endswith(IN_A_PLANE):
            images = [image[..., image.shape[-1] // 2] for image in images]
        displacement = resize(network.integrate(network(*images)), images[1].shape[2:])
        original = torch.from_numpy(np.load(expected))
        differences.append(float((displacement[0] - original).abs().max()))
        print(f"| {expected.stem} | {float(original.abs().max()):.2f} | {differences[-1]:.1e} |")
    return int(len(differences) < 2 * len(CASES) or not max(differences) < LIMIT)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
