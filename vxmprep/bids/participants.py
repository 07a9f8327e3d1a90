"""What the dataset's own tables say of its participants, and of itself."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from vxmprep.bids.derivatives import read_json
from vxmprep.bids.index import DatasetError

SITE = ("site", "site_id")
"""Columns of participants.tsv that name the site; BIDS prescribes none."""

PERSON = ("person", "person_id")
"""Columns that tell people who have several participant labels; neither is of BIDS's."""


def read_sites(bids_dir: Path) -> dict[str, str]:
    """Read from participants.tsv where participants were scanned.

    Parameters
    ----------
    bids_dir : path
        Root of the dataset.

    Returns
    -------
    dict
        The site by the participant's label without ``sub-``; empty where there is no such table
        or column, and without participants whose site is not known.
    """
    return _read_column(bids_dir / "participants.tsv", SITE)


def read_labels(bids_dir: Path) -> list[str]:
    """Read which participants a participants.tsv lists: labels without ``sub-``, as there.

    Parameters
    ----------
    bids_dir : path
        Root of the dataset.
    """
    return list(_read_column(bids_dir / "participants.tsv", ["participant_id"]))


def read_people(table: Path) -> dict[str, str]:
    """Read who stands behind participants that are one person under several labels.

    Parameters
    ----------
    table : path
        A participants.tsv.

    Returns
    -------
    dict
        The person by the participant's label without ``sub-``; those whom a column ``person``
        does not name are people of their own.
    """
    return _read_column(table, PERSON)


def _read_column(table: Path, names: Collection[str]) -> dict[str, str]:
    """Read a column of a participants.tsv, what is known of it, by participants' labels."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return {}
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    found_names = [name for name in (rows[0] if rows else {}) if name and name.lower() in names]
    found = {}
    for row in rows:
        label = row.get("participant_id")
        value = row.get(found_names[0]) if found_names else None
        if label and value and value != "n/a":
            found[label.removeprefix("sub-")] = value
    return found


def read_licence(bids_dir: Path) -> str | None:
    """Read the licence of a dataset from its description, or None where it gives none."""
    licence = read_json(bids_dir / "dataset_description.json").get("License")
    return licence if isinstance(licence, str) and licence.strip() else None


def read_exclusions(
    path: Path, stems: Iterable[str], *, tell: Callable[[str], None] | None = None
) -> dict[str, str]:
    """Read which scans a file leaves out.

    Parameters
    ----------
    path : path
        Text with the name of a participant, session or scan at the beginning of each line, as
        ``sub-01``, ``01``, ``sub-01_ses-1`` or ``sub-01_ses-1_run-2_T1w``; what follows a blank
        or ``#`` says why.
    stems : iterable of str
        All scans of the dataset, as ``sub-01_ses-1``.
    tell : function, optional
        Takes a line on each name that no scan has, for stems that are not all of the dataset's.

    Returns
    -------
    dict
        Why a scan is left out by its stem: what stands in the file, which is named.

    Raises
    ------
    DatasetError
        If the file cannot be read, or names what the dataset lacks and nobody is told.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise DatasetError(f"--exclude {path}: cannot be read ({reason})") from error
    stems = list(stems)
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        word, _, why = line.strip().replace("\t", " ").partition(" ")
        if not word or word.startswith("#"):
            continue
        name = "sub-" + word.removeprefix("sub-").removesuffix("_T1w")
        matching = [stem for stem in stems if stem == name or stem.startswith(f"{name}_")]
        if not matching and tell is not None:
            tell(f"--exclude {path}: line {number}: there is no result of {word}")
        elif not matching:
            raise DatasetError(
                f"--exclude {path}: line {number}: the dataset has no T1w scan of {word}; mend or "
                "remove the line"
            )
        reason = why.lstrip(" #") or "no reason given"
        found |= {stem: f"{path.name}: {reason}" for stem in matching}
    return found
