"""What is measured of one registration: the table of Dice and the metrics."""

from __future__ import annotations

import numpy as np

from vxmprep.evaluation.folding import Folding
from vxmprep.evaluation.labels import VXM30, name_of, without_parcels
from vxmprep.evaluation.overlap import mean_dice, overlaps

COLUMNS = (
    "label",
    "name",
    "reference",
    "voxels_fixed",
    "voxels_moving",
    "dice_affine",
    "dice",
    "hd95_mm",
)


def dice_table(
    fixed: np.ndarray, affine: np.ndarray, full: np.ndarray, *, reference: str
) -> tuple[list[dict], dict]:
    """Compare a scan's segmentation in atlas space with the atlas's labels.

    Parameters
    ----------
    fixed, affine, full : (X, Y, Z) integer arrays
        Atlas labels, and the scan's segmentation brought there by the affine and by all;
        cortical parcels count as cortex.
    reference : str
        Where the fixed labels come from.

    Returns
    -------
    tuple
        Rows with the columns of `COLUMNS`, and mean Dice over the paper's structures. What either
        side lacks is ``n/a`` and counted.
    """
    fixed, affine, full = (without_parcels(labels) for labels in (fixed, affine, full))
    by_affine, by_all = overlaps(fixed, affine), overlaps(fixed, full)
    rows = []
    for label in sorted(by_affine.keys() | by_all.keys()):
        found, before = by_all.get(label), by_affine.get(label)
        counts = found or before
        rows.append(
            {
                "label": label,
                "name": name_of(label),
                "reference": reference,
                "voxels_fixed": counts.voxels_fixed,
                "voxels_moving": found.voxels_moving if found else 0,
                "dice_affine": number(before.dice if before else float("nan")),
                "dice": number(found.dice if found else float("nan")),
                "hd95_mm": "n/a",
            }
        )
    # Both means are over the same structures: those that neither side of either pair lacks.
    common = tuple(
        k for k in VXM30 if mean_dice(by_affine, (k,))[1] and mean_dice(by_all, (k,))[1]
    )
    mean_affine, structures = mean_dice(by_affine, common)
    mean_all, _ = mean_dice(by_all, common)
    summary = {
        "Reference": reference,
        "Structures": structures,
        "StructuresAbsent": len(VXM30) - structures,
        "DiceMeanAffine": rounded(mean_affine),
        "DiceMean": rounded(mean_all),
    }
    return rows, summary


def folding_summary(found: Folding) -> dict:
    """Give the folding for the metrics, with its denominator."""
    return {
        "FoldedVoxels": found.folded,
        "MaskVoxels": found.voxels,
        "FoldedPercent": round(found.percent, 6),
        "JacobianMin": round(found.lowest, 4),
        "JacobianMax": round(found.highest, 4),
    }


def as_tsv(rows: list[dict]) -> str:
    """Give rows as tab-separated text with a header."""
    lines = ["\t".join(str(row[column]) for column in COLUMNS) for row in rows]
    return "\n".join(["\t".join(COLUMNS), *lines]) + "\n"


def number(value: float) -> str:
    """Give a number for a table, ``n/a`` where there is none."""
    return "n/a" if np.isnan(value) else f"{value:.4f}"


def rounded(value: float) -> float | None:
    """Give a number for JSON, null where there is none."""
    return None if np.isnan(value) else round(value, 4)


def gather(sections: dict[str, dict], overlap: dict, flags: list[str]) -> dict:
    """Put all measures of a scan together.

    Parameters
    ----------
    sections : dict
        Summaries by name; their own ``Flags`` are moved to the top.
    overlap : dict
        Summary of the table of Dice; empty where the scan or the atlas has no labels.
    flags : list of str
        Further reasons to distrust the result.
    """
    flags = [flag for section in sections.values() for flag in section.get("Flags", [])] + flags
    plain = {
        name: {key: value for key, value in section.items() if key != "Flags"}
        for name, section in sections.items()
    }
    return {"Flags": flags, **plain, "Overlap": overlap}
