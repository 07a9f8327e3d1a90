"""The page of a cohort: everything in one file that opens without a server or a network."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files

import numpy as np

from vxmprep.evaluation.labels import without_side
from vxmprep.wording import counted

NUMBERS = (
    "dice_affine", "dice", "hd95_affine_mm", "hd95_mm", "atlas_dice_affine", "atlas_dice", "ncc",
    "folded_percent", "non_diffeomorphic_percent", "sdlogj", "inverse_p99_mm", "mask_ml",
    "seconds",
)  # fmt: skip
"""What the page shows of a scan's row."""

PERCENTILES = ("1", "5", "25", "50", "75", "95", "99")


def group_page(
    registration: Sequence[Mapping[str, str]],
    overlap: Iterable[Mapping[str, str]],
    *,
    jacobians: Mapping[tuple[str, str], Mapping[str, float]],
    links: Mapping[tuple[str, str], tuple[str | None, str | None]],
    version: str,
    compare: Mapping | None = None,
) -> str:
    """Make the page of a cohort.

    Parameters
    ----------
    registration, overlap : sequence of mapping
        Rows of the two tables of `vxmprep.bids.tables`.
    jacobians : mapping
        Percentiles of the Jacobian determinant, by scan and atlas.
    links : mapping
        Page and thumbnail of a scan in an atlas, relative to the page; None for what is not there.
    version : str
        Of vxmprep.
    compare : mapping, optional
        What a comparison with another output found.

    Returns
    -------
    str
        HTML that asks nothing of any other machine.
    """
    structures = joined(overlap)
    named = [(row, "" if row["space"] == "n/a" else row["space"]) for row in registration]
    scans = [
        {
            "scan": row["scan"],
            "space": space,
            "quality": row["quality"],
            "why": "" if row["why"] == "n/a" else row["why"],
            "page": links.get((row["scan"], space), (None, None))[0],
            "thumb": links.get((row["scan"], space), (None, None))[1],
            "jacobian": _percentiles(jacobians.get((row["scan"], space), {})),
            "dice_of": structures.get((row["scan"], space), {}),
            **{name: number(row[name]) for name in NUMBERS},
        }
        for row, space in named
    ]
    spaces = sorted({scan["space"] for scan in scans} - {""})
    data = {
        "about": _about(registration, version),
        "dice_notes": {
            space: _note([row for row, where in named if where == space])
            for space in spaces or [""]
        },
        "spaces": spaces,
        "structures": ordered(scans),
        "scans": scans,
        "compare": compare,
    }
    template = files("vxmprep").joinpath("data", "group.html").read_text(encoding="utf-8")
    # Nothing in the data may end the element that holds it.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return template.replace("{{DATA}}", text)


def joined(
    overlap: Iterable[Mapping[str, str]],
) -> dict[tuple[str, str], dict[str, tuple[float | None, float | None]]]:
    """Give Dice by the affine and by all of every scan's structures, left and right joined.

    In one atlas all are with one reference, because Dice of different ones cannot be compared:
    with the consensus where any scan has it, else with the atlas's labels.

    Parameters
    ----------
    overlap : iterable of mapping
        Rows of the table of structures.

    Returns
    -------
    dict
        Means of left and right by the structure's name, by scan and atlas.
    """
    rows = list(overlap)
    agreed = {row["space"] for row in rows if row["reference"] != "n/a"}
    values: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        way = "" if row["space"] in agreed else "atlas_"
        pair = number(row[f"{way}dice_affine"]), number(row[f"{way}dice"])
        if None not in pair:
            name = without_side(row["name"]).replace("-", " ")
            of_scan = values.setdefault((row["scan"], row["space"]), {})
            of_scan.setdefault(name, []).append(pair)
    return {
        scan: {
            name: tuple(round(float(v), 4) for v in np.mean(pairs, axis=0))
            for name, pairs in of_scan.items()
        }
        for scan, of_scan in values.items()
    }


def ordered(scans: Iterable[Mapping]) -> list[str]:
    """Order structures by their median Dice over all scans, the best first."""
    values: dict[str, list[float]] = {}
    for scan in scans:
        for name, (_, full) in scan["dice_of"].items():
            values.setdefault(name, []).append(full)
    return sorted(values, key=lambda name: -float(np.median(values[name])))


def number(text: str) -> float | None:
    """Read a number of a table; None for ``n/a``."""
    value = math.nan if text == "n/a" else float(text)
    return value if math.isfinite(value) else None


def _percentiles(found: Mapping[str, float]) -> list[float] | None:
    return [found[share] for share in PERCENTILES] if set(PERCENTILES) <= found.keys() else None


def _about(registration: Sequence[Mapping[str, str]], version: str) -> str:
    people = len({row["scan"].split("_")[0] for row in registration})
    scans = len({row["scan"] for row in registration})
    return (
        f"{counted(scans, 'scan')} of {counted(people, 'participant')}, made by "
        f"vxmprep {version}. The numbers are in group_registration.tsv and group_overlap.tsv."
    )


def _note(registration: Sequence[Mapping[str, str]]) -> str:
    """Say what the Dice is with, and of which labels."""
    known = [row for row in registration if row["segmentation"] != "n/a"]
    if not known:
        return "No scan has a segmentation."
    first = next((row for row in known if row["reference"] != "n/a"), known[0])
    reference = (
        f"with the {first['reference']}"
        if first["reference"] != "n/a"
        else f"with the labels of the {first['atlas_reference']}; too few participants for a "
        "consensus"
    )
    sources = sorted({_source(row["segmentation"]) for row in known})
    return (
        f"Left and right averaged where they are two, the best structure first; {reference}. "
        f"Labels: {', '.join(sources[:3])}{' and others' * (len(sources) > 3)}."
    )


def _source(segmentation: str) -> str:
    """Name the kind of a segmentation: its path without what names the scan."""
    parts = [part for part in segmentation.split("/") if not re.match(r"(sub|ses)-[^_]*$", part)]
    parts = [part for part in parts if part != "anat"]
    return "/".join(re.sub(r"^(?:[a-z]+-[A-Za-z0-9]+_)*?(?=desc-)", "", part) for part in parts)
