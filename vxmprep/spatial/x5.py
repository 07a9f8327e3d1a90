"""X5, the format of transforms that BIDS drafts and nitransforms reads."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

import vxmprep
from vxmprep.spatial.files import replacing
from vxmprep.spatial.transform import Field, Transform


def write_x5(path: str | Path, transform: Transform) -> None:
    """Write a chain of affines and displacement fields, each on its own grid, nothing resampled.

    Parameters
    ----------
    path : path
        ``.x5``.
    transform : Transform
        Fixed points to moving points, RAS mm. The file names its first member first.

    References
    ----------
    The draft that nitransforms implements: https://nitransforms.readthedocs.io
    """
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["Format"] = "X5"
        file.attrs["Version"] = np.uint16(1)
        group = file.create_group("TransformGroup")
        for number, member in enumerate(transform.members):
            _write_member(group.create_group(str(number)), member)
        order = "/".join(str(number) for number in range(len(transform.members)))
        file.create_group("TransformChain").create_dataset("0", data=order)


def _write_member(node: h5py.Group, member: np.ndarray | Field) -> None:
    node.attrs["ArrayLength"] = 1
    node.attrs["Metadata"] = json.dumps({"WrittenBy": f"vxmprep {vxmprep.__version__}"})
    kinds = np.array(["space"] * 3 + ["vector"], dtype="S")
    node.create_dataset("DimensionKinds", data=kinds)
    if not isinstance(member, Field):
        node.attrs["Type"] = "linear"
        node.create_dataset("Transform", data=member)
        return
    node.attrs["Type"] = "nonlinear"
    node.attrs["SubType"] = "densefield"
    node.attrs["Representation"] = "displacements"
    node.create_dataset(
        "Transform",
        data=member.displacement.astype(np.float32),
        compression="gzip",
        shuffle=True,
    )
    domain = node.create_group("Domain")
    domain.create_dataset("Grid", data=np.uint8(1))
    domain.create_dataset("Size", data=np.array(member.grid.shape))
    domain.create_dataset("Mapping", data=member.grid.affine)
    domain.attrs["Coordinates"] = "cartesian"
