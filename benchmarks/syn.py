"""ANTs SyN of two aligned images, in an environment with antspyx: FIXED MASK MOVING WARP."""

import sys
from pathlib import Path

import ants


def main(fixed: str, mask: str, moving: str, warp: str) -> None:
    """Register and leave ITK's displacement field."""
    identity = str(Path(warp).with_name("identity.mat"))
    ants.write_transform(ants.create_ants_transform(dimension=3), identity)
    found = ants.registration(
        ants.image_read(fixed),
        ants.image_read(moving),
        mask=ants.image_read(mask),
        type_of_transform="SyNOnly",
        initial_transform=identity,
        syn_metric="CC",
        syn_sampling=4,
        reg_iterations=(100, 70, 50, 20),
        singleprecision=True,
        verbose=True,
    )
    fields = [name for name in found["fwdtransforms"] if name.endswith(".nii.gz")]
    Path(warp).write_bytes(Path(fields[0]).read_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
