"""Run the original Keras code: python original_keras.py FOLDER [--small], in its environment.

Reads inputs.npz of the folder; writes keras-CASE.h5 as the original saves it, and keras-CASE.npy,
its displacement.
"""

import inspect
import sys
from pathlib import Path

import numpy as np
from cases import CASES, IN_A_PLANE, KEPT, LARGEST, PAPER, SMALL

# Removed from Python 3.11; the original's decorator calls it.
inspect.getargspec = lambda function: tuple(inspect.getfullargspec(function)[:4])


def main(folder: str, *options: str) -> None:
    import tensorflow as tf
    import voxelmorph

    folder = Path(folder)
    pair = np.load(folder / "inputs.npz")
    volumes = [pair[name].astype(np.float32)[None, ..., None] for name in ("moving", "fixed")]
    planes = [volume[..., volume.shape[-2] // 2, :] for volume in volumes]
    small = "--small" in options
    for name, case in CASES.items():
        if small and f"keras-{name}" not in KEPT:
            continue
        moving, fixed = planes if name == IN_A_PLANE else volumes
        tf.keras.backend.clear_session()
        tf.keras.utils.set_random_seed(0)
        network = voxelmorph.networks.VxmDense(
            fixed.shape[1:-1],
            nb_unet_features=SMALL if small else PAPER,
            int_steps=case["steps"],
            int_resolution=case["downsize"],
            svf_resolution=2 if case["coarse"] else 1,
        )
        flow = next(layer for layer in network.layers if layer.name.endswith("_flow"))
        for _ in range(4):  # integration is not linear
            displacement = network.register(moving, fixed)
            scale = LARGEST / np.abs(displacement).max()
            flow.set_weights([scale * values for values in flow.get_weights()])
        displacement = network.register(moving, fixed)
        network.save(folder / f"keras-{name}.h5")
        np.save(folder / f"keras-{name}.npy", np.moveaxis(displacement[0], -1, 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
