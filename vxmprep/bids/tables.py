"""The tables of a cohort: a row per scan, and a row per scan and structure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vxmprep.bids.derivatives import write_json, write_rows
from vxmprep.bids.results import Result
from vxmprep.evaluation.cohort import CohortOverlap
from vxmprep.evaluation.labels import without_parcels, without_sides
from vxmprep.evaluation.overlap import joined_dice
from vxmprep.evaluation.quality import Quality, tries

REGISTRATION = "group_registration.tsv"
OVERLAP = "group_overlap.tsv"
LABELS = "group_labels.tsv"

CONSENSUS = "leave-one-out consensus"

OVERLAP_COLUMNS = {
    "scan": "the scan",
    "space": "the atlas",
    "label": "FreeSurfer id, the left one's where left and right are joined",
    "name": "FreeSurfer's name, without a side where left and right are joined",
    "segmentation": "where the scan's labels come from",
    "reference": "what they are compared with: the majority of the other participants' labels in "
    "atlas space",
    "voxels_fixed": "voxels in the reference",
    "voxels_moving": "voxels in the scan's labels, whole transform",
    "dice_affine": "Dice by the affine alone, with the majority by the affine alone",
    "dice": "Dice by the whole transform",
    "hd95_affine_mm": "95th percentile of the distance of the surfaces by the affine alone",
    "hd95_mm": "the same by the whole transform",
    "atlas_reference": "the second reference: the atlas's own labels",
    "atlas_dice_affine": "Dice with it by the affine alone; where left and right are joined, what "
    "of one side lies on the other counts as missed",
    "atlas_dice": "the same by the whole transform",
    "atlas_hd95_mm": "95th percentile of the distance of the surfaces to it; n/a where left and "
    "right are joined",
}

MEASURES = {
    "similarity_affine": ("Affine", "Similarity"),
    "mask_overlap": ("Affine", "MaskOverlap"),
    "mask_ml": ("Affine", "MaskMl"),
    "affine_determinant": ("Affine", "Determinant"),
    "ncc": ("Similarity", "LocalCorrelation"),
    "mutual_information": ("Similarity", "MutualInformation"),
    "folded_voxels": ("Folding", "FoldedVoxels"),
    "folded_percent": ("Folding", "FoldedPercent"),
    "non_diffeomorphic_percent": ("Folding", "NonDiffeomorphicPercent"),
    "jacobian_p1": ("Folding", "JacobianPercentiles", "1"),
    "jacobian_p99": ("Folding", "JacobianPercentiles", "99"),
    "sdlogj": ("Folding", "SDlogJ"),
    "sdlogj_learn2reg": ("Folding", "SDlogJLearn2Reg"),
    "inverse_mean_mm": ("InverseConsistency", "Meanmm"),
    "inverse_p99_mm": ("InverseConsistency", "P99mm"),
}
"""Columns that come from a scan's metrics, and where they stand there."""

REGISTRATION_COLUMNS = {
    "scan": "the scan",
    "space": "the atlas",
    "quality": "pass, warn or fail; unfinished where there is no result to judge yet",
    "why": "the reasons, the worst first",
    "tried_again": "what was tried once more because it was poor at first, and whether it helped",
    "status": "done, registered, prepared, failed or unfinished",
    "segmentation": "where the scan's labels come from",
    "reference": "what they are compared with, and of how many other participants",
    "structures": "structures in the means, present on all sides",
    "dice_affine": "mean Dice by the affine alone",
    "dice": "mean Dice by the whole transform",
    "hd95_affine_mm": "mean 95th percentile of the distance of the surfaces, affine alone",
    "hd95_mm": "the same by the whole transform",
    "atlas_reference": "the second reference: the atlas's own labels",
    "atlas_dice_affine": "mean Dice with it by the affine alone",
    "atlas_dice": "mean Dice with it by the whole transform",
    "atlas_hd95_mm": "mean 95th percentile of the distance of the surfaces to it",
    "similarity_affine": "correlation of edges with the atlas by the affine",
    "mask_overlap": "Dice of the brain masks by the affine",
    "mask_ml": "volume of the brain mask",
    "affine_determinant": "scan volume per atlas volume by the affine",
    "ncc": "mean squared local correlation with the atlas, windows of 9 voxels",
    "mutual_information": "with the atlas, nats, 64 bins",
    "folded_voxels": "voxels of the atlas's mask with a Jacobian determinant of 0 or less",
    "folded_percent": "their share of the mask",
    "non_diffeomorphic_percent": "volume of reversed tetrahedra, percent of the mask",
    "jacobian_p1": "1st percentile of the Jacobian determinant",
    "jacobian_p99": "99th percentile of the Jacobian determinant",
    "sdlogj": "standard deviation of its logarithm where it is positive, inside the mask",
    "sdlogj_learn2reg": "standard deviation of log(determinant + 3), the whole volume",
    "inverse_mean_mm": "mean of what a point misses that goes to the scan and back",
    "inverse_p99_mm": "99th percentile of it",
    "seconds": "of all steps",
    "peak_gb": "largest memory of any step",
    "version": "of vxmprep",
}


def overlap_rows(result: Result, cohort: CohortOverlap) -> list[dict[str, str]]:
    """Give the rows of one scan in the table of structures.

    Parameters
    ----------
    result : Result
        The scan.
    cohort : CohortOverlap
        What was found of all scans in this atlas.
    """
    ours = {found.label: found for found in cohort.rows.get(result.scan, [])}
    others = len(cohort.voters - {result.person})
    atlas = _with_atlas(result, cohort)
    rows = []
    for label in cohort.labels:
        found, own = ours.get(label), atlas.get(label, {})
        if found is None and not own:
            continue
        numbers = (
            {
                "voxels_fixed": str(found.voxels_fixed),
                "voxels_moving": str(found.voxels_moving),
                "dice_affine": text_of(found.dice_affine),
                "dice": text_of(found.dice),
                "hd95_affine_mm": text_of(found.hd95_affine),
                "hd95_mm": text_of(found.hd95),
                "reference": f"{CONSENSUS} of {others} others",
            }
            if found
            else {"voxels_moving": own.get("voxels_moving", "n/a")}
        )
        rows.append(
            _complete(
                OVERLAP_COLUMNS,
                {
                    "scan": result.scan,
                    "space": result.space,
                    "label": str(label),
                    "name": cohort.name_of(label),
                    "segmentation": result.segmentation,
                    **numbers,
                    "atlas_reference": own.get("reference", "n/a"),
                    "atlas_dice_affine": own.get("dice_affine", "n/a"),
                    "atlas_dice": own.get("dice", "n/a"),
                    "atlas_hd95_mm": own.get("hd95_mm", "n/a"),
                },
            )
        )
    return rows


def means(rows: Iterable[Mapping[str, str]]) -> dict[str, float]:
    """Average a scan's structures; each pair of columns over the structures that both have.

    Returns
    -------
    dict
        ``structures`` and the means of the numbers of `overlap_rows`; NaN where there is none.
    """
    rows = list(rows)
    found: dict[str, float] = {}
    for columns in (
        ("dice_affine", "dice", "hd95_affine_mm", "hd95_mm"),
        ("atlas_dice_affine", "atlas_dice"),
        ("atlas_hd95_mm",),
    ):
        values = np.array([[_number(row[name]) for name in columns] for row in rows])
        values = values.reshape(-1, len(columns))
        values = values[np.isfinite(values).all(axis=1)]
        found.setdefault("structures", len(values))
        for name, column in zip(columns, values.T, strict=True):
            found[name] = float(column.mean()) if column.size else math.nan
    if not found["structures"] and rows:
        found["structures"] = sum(math.isfinite(_number(row["atlas_dice"])) for row in rows)
    return found


def registration_row(
    result: Result, averages: Mapping[str, float], quality: Quality, rows: Sequence[Mapping]
) -> dict[str, str]:
    """Give the row of one scan in the table of scans.

    Parameters
    ----------
    result : Result
        The scan.
    averages : mapping
        What `means` gives of its structures.
    quality : Quality
        The verdict.
    rows : sequence of mapping
        Its rows in the table of structures.
    """
    named = {
        key: next((row[key] for row in rows if row[key] != "n/a"), "")
        for key in ("reference", "atlas_reference")
    }
    numbers = {name: text_of(value) for name, value in averages.items() if name != "structures"}
    measured = {name: text_of(_found(result.metrics, path)) for name, path in MEASURES.items()}
    return _complete(
        REGISTRATION_COLUMNS,
        {
            "scan": result.scan,
            "space": result.space,
            "quality": quality.verdict,
            "why": quality.words,
            "tried_again": "; ".join(tries(result.metrics)),
            "segmentation": result.segmentation,
            **named,
            "structures": str(int(averages["structures"])) if rows else "",
            **numbers,
            **measured,
            **{name: result.status[name] for name in ("status", "seconds", "peak_gb", "version")},
        },
    )


def write_table(path: Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, str]]) -> None:
    """Write rows as tab-separated text, and what the columns mean as JSON beside it."""
    write_rows(path, columns, rows)
    meaning = {name: {"Description": words} for name, words in columns.items()}
    write_json(path.with_suffix(".json"), meaning)


def _with_atlas(result: Result, cohort: CohortOverlap) -> dict[int, Mapping[str, str]]:
    """Give what a scan's own table says of the atlas's labels, by the cohort's structures."""
    rows = {int(row["label"]): row for row in result.dice()}
    if not cohort.joined:
        return rows
    # The table has no voxels by the affine alone. In it parcels count as cortex, too.
    ids, affine, _ = cohort.voxels.get(result.scan, np.zeros((0, 3), int)).T
    cortex = without_parcels(ids)
    sides: dict[int, list[int]] = {}
    for label in rows:
        sides.setdefault(int(without_sides(np.array([label]))[0]), []).append(label)
    return {
        left: _joined([(rows[k], int(affine[(ids == k) | (cortex == k)].sum())) for k in labels])
        for left, labels in sides.items()
    }


def _joined(sides: Sequence[tuple[Mapping[str, str], int]]) -> dict[str, str]:
    """Join rows of a scan's own table, each with the voxels of the scan by the affine alone.

    Of the distances of two surfaces none of both follows; were those of structures without a side
    kept, means over distances would be of others than means over Dice.
    """
    fixed, moving = (
        [int(row[name]) for row, _ in sides] for name in ("voxels_fixed", "voxels_moving")
    )
    voxels = {"dice_affine": [count for _, count in sides], "dice": moving}
    return {
        "reference": sides[0][0]["reference"],
        "voxels_moving": str(sum(moving)),
        **{
            name: text_of(
                joined_dice(zip((_number(row[name]) for row, _ in sides), fixed, own, strict=True))
            )
            for name, own in voxels.items()
        },
    }


def _complete(columns: Mapping[str, str], row: Mapping[str, str]) -> dict[str, str]:
    """Put a row into the order of the columns; what is not there is not available."""
    return {name: " ".join(row.get(name, "").split()) or "n/a" for name in columns}


def _found(metrics: Mapping, path: Sequence[str]) -> float:
    found: object = metrics
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else math.nan


def text_of(value: float) -> str:
    """Write a number of a table; ``n/a`` where it is none."""
    if not math.isfinite(value):
        return "n/a"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.5g}"


def _number(text: str) -> float:
    return math.nan if text == "n/a" else float(text)
