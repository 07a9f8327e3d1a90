"""X5, the format of transforms that BIDS drafts and nitransforms reads."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

import vxmprep
from vxmprep.spatial.files import replacing, there
from vxmprep.spatial.grid import Grid
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


def read_x5(path: str | Path) -> Transform:
    """Read a chain of affines and displacement fields.

    Parameters
    ----------
    path : path
        ``.x5``; of several chains the first.

    Raises
    ------
    ValueError
        If it is none, or holds a transform of another kind.
    """
    there(path)
    try:
        with h5py.File(path) as file:
            if file.attrs["Format"] not in ("X5", b"X5"):
                raise ValueError(f"Format is {file.attrs['Format']}")
            order = file["TransformChain"]["0"][()]
            order = order.decode() if isinstance(order, bytes) else order
            nodes = [file["TransformGroup"][number] for number in order.split("/")]
            return Transform(tuple(_read_member(node) for node in nodes))
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: not an X5 file of affines and displacements ({error})"
        ) from error


def _read_member(node: h5py.Group) -> np.ndarray | Field:
    kind, values = node.attrs["Type"], node["Transform"][()]
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind == "linear" and values.size == 16:
        return values.reshape(4, 4).astype(float)
    if kind == "nonlinear" and node.attrs["Representation"] in ("displacements", b"displacements"):
        affine = np.array(node["Domain"]["Mapping"])
        return Field(values.astype(np.float32), Grid(values.shape[:3], affine))
    raise ValueError(f"holds a transform of type {kind}")


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
