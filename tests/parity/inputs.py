"""Write the pair of images: python tests/parity/inputs.py FOLDER [--small].

The default atlas in the frame of the original's networks, and its mirror image.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from vxmprep.atlas import find_atlas, prepare_atlas
from vxmprep.morph.frame import FREESURFER_CROP


def main(folder: str, *options: str) -> None:
    atlas = prepare_atlas(find_atlas()).network_brain
    image = torch.from_numpy(np.asarray(atlas.dataobj, dtype=np.float32) / 255)[None, None]
    fixed = FREESURFER_CROP.enter(image)
    if "--small" in options:
        fixed = fixed[..., 40:48, 80:92, 60:76]
    pair = {"fixed": fixed[0, 0], "moving": fixed.flip(2)[0, 0]}
    np.savez_compressed(
        Path(folder) / "inputs.npz", **{name: np.float16(v.numpy()) for name, v in pair.items()}
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
