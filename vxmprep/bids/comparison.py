"""The Dice of two outputs of the same participants, compared."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vxmprep.bids.tables import OVERLAP, OVERLAP_COLUMNS
from vxmprep.config import UsageError
from vxmprep.evaluation.compare import Difference, compare, holm
from vxmprep.evaluation.labels import name_of, without_side

COMPARISON = "group_comparison.tsv"

COMPARISON_COLUMNS = {
    "space": "the atlas",
    "label": "FreeSurfer id; 0 is the mean of a participant's structures",
    "name": "FreeSurfer's name, without a side where left and right are joined",
    "reference": "what Dice is with in both outputs",
    "participants": "people whom both outputs have",
    "dice": "mean Dice in this output, whole transform",
    "other_dice": "mean Dice in the other output",
    "difference": "this output's less the other's, mean over participants",
    "low": "lower end of its 95 % interval (bootstrap over participants)",
    "high": "upper end",
    "effect_size": "matched-pairs rank-biserial correlation, -1 to 1",
    "p": "Wilcoxon's signed-rank test, two-sided",
    "p_holm": "corrected for the number of structures by Holm's method",
}

REFERENCES = {"dice": "leave-one-out consensus", "atlas_dice": "the atlas's labels"}
"""Columns of the table of structures that can be compared, the better first."""

SURE = 0.05


@dataclass(frozen=True)
class Compared:
    """What a comparison found.

    Attributes
    ----------
    other : str
        The other output's name.
    rows : list of dict
        Of ``group_comparison.tsv``.
    words : str
        What was compared and how, for the page and the log.
    """

    other: str
    rows: list[dict[str, str]]
    words: str

    def shown(self) -> dict:
        """Give what the page of a cohort shows."""
        names = {"p_holm": "p_holm", "effect": "effect_size", "other": "other_dice"}
        keys = ("dice", "difference", "low", "high", "participants")
        rows = [
            {
                "name": row["name"],
                **{
                    name: None if row[column] == "n/a" else float(row[column])
                    for name, column in {**names, **{key: key for key in keys}}.items()
                },
            }
            for row in self.rows
        ]
        return {"other": self.other, "words": self.words, "rows": rows}


def check_output(folder: Path, *, joined: bool) -> None:
    """Refuse an output whose cohort has not been judged alike, before anything is done.

    Parameters
    ----------
    folder : path
        The other output.
    joined : bool
        Whether left and right are one structure in this output's tables.

    Raises
    ------
    UsageError
        If it has no table of structures that can be compared.
    """
    if not (folder / OVERLAP).is_file():
        raise UsageError(f"--compare {folder}: has no {OVERLAP}; run the level group on it first")
    for row in _read(folder / OVERLAP):
        name = name_of(int(row["label"]))
        if without_side(name) != name and joined != (row["name"] != name):
            there, here, more = ("apart", "joined", "") if joined else ("joined", "apart", "out")
            raise UsageError(
                f"--compare {folder}: left and right are {there} in its {OVERLAP}, {here} in this "
                f"output's; run the level group on it again with{more} --join-hemispheres"
            )


def compare_outputs(ours: Iterable[Mapping[str, str]], other_dir: Path) -> Compared:
    """Compare an output with another, structure by structure, paired over participants.

    Several scans of a participant count as their mean.

    Parameters
    ----------
    ours : iterable of mapping
        Rows of this output's table of structures.
    other_dir : path
        The other output.

    Raises
    ------
    UsageError
        If the two have no participant, atlas and reference in common.
    """
    ours, theirs = list(ours), _read(other_dir / OVERLAP)
    rows: list[dict[str, str]] = []
    lines = []
    for space in sorted({row["space"] for row in ours} & {row["space"] for row in theirs}):
        one, other = ([row for row in all_ if row["space"] == space] for all_ in (ours, theirs))
        reference, found = _differences(one, other)
        if found:
            corrected = _corrected(found)
            names = {int(row["label"]): row["name"] for row in one}
            names[0] = "mean of the structures"
            rows += [
                _row(space, label, names[label], reference, difference, corrected[label])
                for label, difference in found.items()
            ]
            words = _words(found, corrected, other_dir.name)
            lines.append(f"{space}: mean Dice with {reference} {words}{_warning(one, other)}")
    if not rows:
        raise UsageError(
            f"--compare {other_dir}: no participant has a segmentation in the same atlas in both "
            "outputs"
        )
    return Compared(other_dir.name, rows, " ".join(lines))


def _differences(one: list[dict], other: list[dict]) -> tuple[str, dict[int, Difference]]:
    """Compare with the better reference that both have."""
    for column, reference in REFERENCES.items():
        found = compare(_by_participant(one, column), _by_participant(other, column))
        if found:
            return reference, found
    return "", {}


def _corrected(found: Mapping[int, Difference]) -> dict[int, float]:
    """Correct the p-values of the structures; the mean of all is a question of its own."""
    labels = [label for label in found if label]
    corrected = holm([found[label].p for label in labels])
    return {0: found[0].p, **dict(zip(labels, corrected, strict=True))}


def _row(
    space: str,
    label: int,
    name: str,
    reference: str,
    difference: Difference,
    corrected: float,
) -> dict[str, str]:
    return {
        "space": space,
        "label": str(label),
        "name": name,
        "reference": reference,
        "participants": str(difference.participants),
        "dice": _text(difference.first),
        "other_dice": _text(difference.second),
        "difference": _text(difference.difference),
        "low": _text(difference.low),
        "high": _text(difference.high),
        "effect_size": _text(difference.effect),
        "p": _text(difference.p),
        "p_holm": _text(corrected),
    }


def _words(found: Mapping[int, Difference], corrected: Mapping[int, float], name: str) -> str:
    """Say in a sentence what was found."""
    overall = found[0]
    sure = [found[label].difference for label in found if label and corrected[label] < SURE]
    better = sum(difference > 0 for difference in sure)
    return (
        f"{overall.first:.3f}, in {name} {overall.second:.3f} (difference "
        f"{overall.difference:+.4f}, 95 % interval {overall.low:+.4f} to {overall.high:+.4f}, "
        f"{overall.participants} participants); of {len(found) - 1} structures {better} better "
        f"and {len(sure) - better} worse (Wilcoxon, Holm, p < {SURE})"
    )


def _warning(one: list[dict], other: list[dict]) -> str:
    """Say where the two are not of the same labels: such Dice cannot be compared."""
    sources = [
        {row["scan"]: row["segmentation"] for row in rows if row["segmentation"] != "n/a"}
        for rows in (one, other)
    ]
    differing = [
        scan
        for scan in sorted(sources[0].keys() & sources[1].keys())
        if sources[0][scan] != sources[1][scan]
    ]
    if not differing:
        return ""
    return (
        f". Beware: the segmentations are not the same, those of {differing[0]} for example are "
        f"{sources[0][differing[0]]} and {sources[1][differing[0]]}"
    )


def _by_participant(rows: Iterable[Mapping[str, str]], column: str) -> dict:
    """Give a column by structure of each participant, the mean of their scans."""
    values: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if row[column] != "n/a":
            person = values.setdefault(row["scan"].split("_")[0], {})
            person.setdefault(int(row["label"]), []).append(float(row[column]))
    return {
        person: {label: float(np.mean(found)) for label, found in by_label.items()}
        for person, by_label in values.items()
    }


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            table = csv.DictReader(lines, delimiter="\t")
            rows, columns = list(table), table.fieldnames or []
    except (OSError, ValueError) as error:
        raise UsageError(f"--compare {path}: cannot be read ({error})") from error
    if lacking := sorted(OVERLAP_COLUMNS.keys() - set(columns)):
        raise UsageError(
            f"--compare {path}: has no column {lacking[0]}; run the level group on it again"
        )
    return rows


def _text(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else "n/a"
