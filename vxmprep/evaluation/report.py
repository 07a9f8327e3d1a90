"""What is measured of one registration: the table of Dice and the metrics."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path

import numpy as np

from vxmprep.evaluation.folding import PERCENTILES, Folding
from vxmprep.evaluation.labels import VXM30, name_of, parcels_alone, without_parcels
from vxmprep.evaluation.overlap import Overlap, mean_dice, overlaps
from vxmprep.evaluation.quality import judge
from vxmprep.evaluation.similarity import local_correlation, mutual_information
from vxmprep.evaluation.surface import (
    SurfaceDistance,
    box_of,
    present,
    surface_distances,
    union,
)

COLUMNS = (
    "label",
    "name",
    "reference",
    "voxels_fixed",
    "voxels_moving",
    "dice_affine",
    "dice",
    "hd95_mm",
    "average_distance_mm",
    "jaccard",
    "volume_difference_percent",
)


def dice_table(
    fixed: np.ndarray,
    affine: np.ndarray,
    full: np.ndarray,
    *,
    reference: str,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[list[dict], dict]:
    """Compare a scan's segmentation in atlas space with the atlas's labels.

    Parameters
    ----------
    fixed, affine, full : (X, Y, Z) integer arrays
        Atlas labels, and the scan's segmentation brought there by the affine and by all;
        cortical parcels count as cortex and, where both sides have the same, are compared
        one by one, too.
    reference : str
        Where the fixed labels come from.
    spacing : sequence of float
        Voxel size along each axis, mm.

    Returns
    -------
    tuple
        Rows with the columns of `COLUMNS`, and mean Dice over the paper's structures. What either
        side lacks is ``n/a`` and counted.
    """
    window = reduce(union, map(box_of, (fixed, affine, full)))
    fixed, affine, full = (labels[window] for labels in (fixed, affine, full))
    structures, regions = (
        tuple(pick(labels) for labels in (fixed, affine, full))
        for pick in (without_parcels, parcels_alone)
    )
    by_affine, by_all = overlaps(*structures[:2]), overlaps(structures[0], structures[2])
    distances = surface_distances(structures[0], structures[2], spacing)
    rows = _rows(by_affine, by_all, distances, reference)
    # Regions of another parcellation than the atlas's have nothing to be compared with.
    if np.isin(regions[2], present(regions[0])).any():
        rows += _rows(
            overlaps(*regions[:2]),
            overlaps(regions[0], regions[2]),
            surface_distances(regions[0], regions[2], spacing),
            reference,
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
        "JaccardMean": rounded(_mean(by_all[k].jaccard for k in common)),
        "HD95Meanmm": rounded(_mean(distances[k].hd95 for k in common)),
        "AverageDistanceMeanmm": rounded(_mean(distances[k].average for k in common)),
        "VolumeDifferenceMeanPercent": rounded(
            _mean(abs(by_all[k].volume_difference) for k in common)
        ),
    }
    return rows, summary


def _rows(
    by_affine: dict[int, Overlap],
    by_all: dict[int, Overlap],
    distances: dict[int, SurfaceDistance],
    reference: str,
) -> list[dict]:
    rows = []
    for label in sorted(by_affine.keys() | by_all.keys()):
        found, before = by_all.get(label), by_affine.get(label)
        counts, far = found or before, distances.get(label)
        rows.append(
            {
                "label": label,
                "name": name_of(label),
                "reference": reference,
                "voxels_fixed": counts.voxels_fixed,
                "voxels_moving": found.voxels_moving if found else 0,
                "dice_affine": number(before.dice if before else float("nan")),
                "dice": number(found.dice if found else float("nan")),
                "hd95_mm": number(far.hd95 if far else float("nan")),
                "average_distance_mm": number(far.average if far else float("nan")),
                "jaccard": number(found.jaccard if found else float("nan")),
                "volume_difference_percent": number(
                    found.volume_difference if found else float("nan")
                ),
            }
        )
    return rows


def folding_summary(
    found: Folding, *, learn2reg: float | None = None, reversed_volume: float | None = None
) -> dict:
    """Give the folding for the metrics, with its denominator.

    Parameters
    ----------
    found : Folding
        Of the voxels of the mask.
    learn2reg : float, optional
        What `vxmprep.evaluation.folding.learn2reg_sdlogj` gives.
    reversed_volume : float, optional
        What `vxmprep.evaluation.folding.non_diffeomorphic_volume` gives, voxels.
    """
    summary = {
        "FoldedVoxels": found.folded,
        "MaskVoxels": found.voxels,
        "FoldedPercent": round(found.percent, 6),
        "JacobianMin": round(found.lowest, 4),
        "JacobianMax": round(found.highest, 4),
        "JacobianPercentiles": {
            str(share): round(value, 4)
            for share, value in zip(PERCENTILES, found.percentiles, strict=True)
        },
        "SDlogJ": rounded(found.sdlogj),
    }
    if learn2reg is not None:
        summary["SDlogJLearn2Reg"] = rounded(learn2reg)
    if reversed_volume is not None:
        summary["NonDiffeomorphicVoxels"] = round(reversed_volume, 4)
        summary["NonDiffeomorphicPercent"] = round(100 * reversed_volume / found.voxels, 6)
    return summary


def similarity_summary(fixed: np.ndarray, moving: np.ndarray, mask: np.ndarray) -> dict:
    """Say how alike the atlas and the warped scan are inside the atlas's mask.

    Parameters
    ----------
    fixed, moving : (X, Y, Z) arrays
        Skull-stripped atlas and scan on the atlas's grid.
    mask : (X, Y, Z) bool array
        The atlas's brain.
    """
    return {
        "LocalCorrelation": rounded(local_correlation(fixed, moving, mask)),
        "MutualInformation": rounded(mutual_information(fixed, moving, mask)),
    }


def read_summary(path: str | Path) -> dict:
    """Read what was measured of a step from its JSON, or from the sidecar that holds it.

    Raises
    ------
    ValueError
        If it is no JSON object.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); give what a node wrote") from error
    found = content.get("Measures", content) if isinstance(content, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: JSON, but no object of measures; give what a node wrote")
    return found


def inverse_summary(mean: float, p99: float, largest: float) -> dict:
    """Give the distances of `vxmprep.evaluation.folding.inverse_consistency` for the metrics."""
    return {"Meanmm": rounded(mean), "P99mm": rounded(p99), "Maxmm": rounded(largest)}


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

    Returns
    -------
    dict
        With the verdict of `vxmprep.evaluation.quality.judge` under ``Quality``.
    """
    flags = [flag for section in sections.values() for flag in section.get("Flags", [])] + flags
    plain = {
        name: {key: value for key, value in section.items() if key != "Flags"}
        for name, section in sections.items()
    }
    metrics = {"Flags": flags, **plain, "Overlap": overlap}
    return {"Quality": judge(metrics).summary(), **metrics}


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else float("nan")
