"""The Dice of two outputs of the same participants, compared."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vxmprep.bids.results import NOBODY, person_of
from vxmprep.bids.tables import OVERLAP, OVERLAP_COLUMNS, text_of
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
    "p_holm": "corrected for the number of structures by Holm's method; n/a for their mean, which "
    "is a question of its own",
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
        names = {"effect": "effect_size", "other": "other_dice"}
        keys = ("dice", "difference", "low", "high", "participants")
        rows = [
            {
                "name": row["name"],
                **{
                    name: _number(row[column])
                    for name, column in {**names, **{key: key for key in keys}}.items()
                },
                "p": _number(row["p" if row["label"] == "0" else "p_holm"]),
                "corrected": row["label"] != "0",
            }
            for row in self.rows
        ]
        return {"other": self.other, "words": self.words, "rows": rows}


def participants_needed(tests: int) -> int:
    """Give the fewest participants with whom a p-value can be below `SURE`.

    Parameters
    ----------
    tests : int
        How many there are to correct for, by Holm's method.

    Notes
    -----
    Wilcoxon's smallest p-value is that of differences which all have the same sign: 2 in 2^n.

    Examples
    --------
    >>> participants_needed(1), participants_needed(30)
    (6, 11)
    """
    needed = 1
    while tests * 2 ** (1 - needed) >= SURE:
        needed += 1
    return needed


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


def compare_outputs(
    ours: Iterable[Mapping[str, str]], other_dir: Path, people: Mapping[str, str] = NOBODY
) -> Compared:
    """Compare an output with another, structure by structure, paired over participants.

    Several scans of a person count as their mean.

    Parameters
    ----------
    ours : iterable of mapping
        Rows of this output's table of structures.
    other_dir : path
        The other output.
    people : mapping
        People with several participant labels, see `vxmprep.bids.participants.read_people`.

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
        reference, found = _differences(one, other, people)
        if found:
            corrected = _corrected(found)
            names = {int(row["label"]): row["name"] for row in one}
            names[0] = "mean of the structures"
            rows += [
                _row(space, label, names[label], reference, difference, corrected.get(label))
                for label, difference in found.items()
            ]
            words = _words(found, corrected, other_dir.name)
            lines.append(
                f"{space}: mean Dice with {reference} {words}{_warning(one, other, reference)}"
            )
    if not rows:
        raise UsageError(
            f"--compare {other_dir}: no participant has a segmentation in the same atlas in both "
            "outputs"
        )
    return Compared(other_dir.name, rows, " ".join(lines))


def _differences(
    one: list[dict], other: list[dict], people: Mapping[str, str]
) -> tuple[str, dict[int, Difference]]:
    """Compare with the better reference that both have."""
    for column, reference in REFERENCES.items():
        found = compare(*(_by_person(rows, column, people) for rows in (one, other)))
        if found:
            return reference, found
    return "", {}


def _corrected(found: Mapping[int, Difference]) -> dict[int, float]:
    """Correct the p-values of the structures; the mean of all is a question of its own."""
    labels = [label for label in found if label]
    return dict(zip(labels, holm([found[label].p for label in labels]), strict=True))


def _row(
    space: str,
    label: int,
    name: str,
    reference: str,
    difference: Difference,
    corrected: float | None,
) -> dict[str, str]:
    return {
        "space": space,
        "label": str(label),
        "name": name,
        "reference": reference,
        "participants": str(difference.participants),
        "dice": text_of(difference.first),
        "other_dice": text_of(difference.second),
        "difference": text_of(difference.difference),
        "low": text_of(difference.low),
        "high": text_of(difference.high),
        "effect_size": text_of(difference.effect),
        "p": text_of(difference.p),
        "p_holm": "n/a" if corrected is None else text_of(corrected),
    }


def _words(found: Mapping[int, Difference], corrected: Mapping[int, float], name: str) -> str:
    """Say in a sentence what was found."""
    overall = found[0]
    sure = [found[label].difference for label, p in corrected.items() if p < SURE]
    better = sum(difference > 0 for difference in sure)
    return (
        f"{overall.first:.3f}, in {name} {overall.second:.3f} (difference "
        f"{overall.difference:+.4f}, 95 % interval {overall.low:+.4f} to {overall.high:+.4f}, "
        f"{overall.participants} participants); of {len(found) - 1} structures {better} better "
        f"and {len(sure) - better} worse (Wilcoxon, Holm, p < {SURE})"
        f"{_too_few(overall.participants, len(found) - 1)}"
    )


def _too_few(participants: int, structures: int) -> str:
    """Say what the test cannot find, however large a difference is."""
    for what, tests in (("that of the mean", 1), ("that of a structure", structures)):
        needed = participants_needed(tests)
        if participants < needed:
            return (
                f". {participants} participants are too few for p < {SURE}, however large a "
                f"difference is: {needed} are needed for {what}"
            )
    return ""


def _warning(one: list[dict], other: list[dict], reference: str) -> str:
    """Say where the two are not of the same labels, or not with alike consensuses."""
    columns = {"segmentation": "segmentations"}
    if reference == REFERENCES["dice"]:
        columns["reference"] = "references"
    said = []
    for column, what in columns.items():
        here, there = (
            {row["scan"]: row[column] for row in rows if row[column] != "n/a"}
            for rows in (one, other)
        )
        differing = [
            scan for scan in sorted(here.keys() & there.keys()) if here[scan] != there[scan]
        ]
        if differing:
            scan = differing[0]
            said.append(
                f". Beware: the {what} are not the same, that of {scan} for example is "
                f"{here[scan]} in this output and {there[scan]} in the other"
            )
    return "".join(said)


def _by_person(
    rows: Iterable[Mapping[str, str]], column: str, people: Mapping[str, str]
) -> dict[str, dict[int, float]]:
    """Give a column by structure of each person, the mean of their scans."""
    values: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if row[column] != "n/a":
            person = values.setdefault(person_of(row["scan"], people), {})
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


def _number(text: str) -> float | None:
    return None if text == "n/a" else float(text)
