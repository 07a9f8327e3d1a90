"""FreeSurfer's labels: names, colours and the sets that tables are made over."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

VXM30 = (
    2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 28, 31,
    41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 60, 63,
)  # fmt: skip
"""The 30 structures of the VoxelMorph paper."""

PARCELS = {
    3: (range(1000, 2000), range(11100, 11200)),
    42: (range(2000, 3000), range(12100, 12200)),
}
"""Left and right cortex, and the ids of their parcels by Desikan and Killiany and by Destrieux."""

SIDE = re.compile(r"^(?:Left|Right)-|^ctx-[lr]h-")


@dataclass(frozen=True)
class Label:
    """One structure of FreeSurfer's table."""

    index: int
    name: str
    color: str


@cache
def table() -> dict[int, Label]:
    """Read FreeSurfer's names and colours by id."""
    text = files("vxmprep").joinpath("data", "freesurfer_labels.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {int(r["index"]): Label(int(r["index"]), r["name"], r["color"]) for r in rows}


def name_of(label: int) -> str:
    """Give FreeSurfer's name of a label, or ``label-ID`` where its table has none."""
    known = table().get(label)
    return known.name if known else f"label-{label}"


def without_side(name: str) -> str:
    """Give FreeSurfer's name of a structure without its side.

    Examples
    --------
    >>> [without_side(name) for name in ("Right-Hippocampus", "ctx-lh-insula", "Brain-Stem")]
    ['Hippocampus', 'insula', 'Brain-Stem']
    """
    return SIDE.sub("", name)


def without_parcels(labels: np.ndarray) -> np.ndarray:
    """Count the parcels of the cortex as left and right cortex (3 and 42).

    Parameters
    ----------
    labels : integer array
        FreeSurfer ids, aseg or aparc+aseg, also of the atlas of Destrieux (a2009s).
    """
    out = labels.copy()
    for cortex, blocks in PARCELS.items():
        for ids in blocks:
            out[(labels >= ids.start) & (labels < ids.stop)] = cortex
    return out


def parcels_alone(labels: np.ndarray) -> np.ndarray:
    """Leave nothing but the parcels of the cortex."""
    return np.where(without_parcels(labels) != labels, labels, 0)


def without_sides(labels: np.ndarray) -> np.ndarray:
    """Count what has a name for either side as one structure, under the id of its left.

    Parameters
    ----------
    labels : integer array
        FreeSurfer ids, aseg or aparc+aseg.
    """
    left = _left_ids()
    out = labels.copy()
    named = (labels >= 0) & (labels < len(left))
    out[named] = left[labels[named]]
    return out


@cache
def _left_ids() -> np.ndarray:
    """Give the id of the left structure by the id of either."""
    left = np.arange(max(table()) + 1)
    first: dict[str, int] = {}
    for label in sorted(table()):  # the left ones have the smaller ids
        left[label] = first.setdefault(without_side(name_of(label)), label)
    return left
