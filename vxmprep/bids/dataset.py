"""Which scans a BIDS dataset holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vxmprep.bids.derivatives import is_ours
from vxmprep.bids.filters import passes, read_filter_file
from vxmprep.bids.index import DATABASE, DatasetError, t1w_files

ENTITIES = (
    "subject",
    "session",
    "task",
    "acquisition",
    "ceagent",
    "reconstruction",
    "run",
    "echo",
    "flip",
    "inv",
    "part",
    "chunk",
)
"""Entities of a scan that its derivatives keep, in BIDS's order."""

MAGNITUDE = (None, "mag")
"""Values of ``part`` that are an image to register; phase, real and imaginary parts are not."""

FOLDERS = re.compile(r"sub-[a-zA-Z0-9+]+(_ses-[a-zA-Z0-9+]+)?")


@dataclass(frozen=True)
class Scan:
    """One T1w scan.

    Attributes
    ----------
    path : Path
        The image; a link to content that is not fetched is a scan too.
    entities : tuple of (str, str)
        Its BIDS entities, pybids' names, in BIDS's order.
    """

    path: Path
    entities: tuple[tuple[str, str], ...]

    @property
    def stem(self) -> str:
        """The file's name without suffix and extension, for example ``sub-01_ses-1_run-2``."""
        return re.sub(r"_T1w\.nii(\.gz)?$", "", self.path.name)

    @property
    def participant(self) -> str:
        """The participant's label, without ``sub-``."""
        return dict(self.entities)["subject"]

    @property
    def session(self) -> str | None:
        """The session's label, without ``ses-``, if it has one."""
        return dict(self.entities).get("session")


def find_scans(
    bids_dir: Path,
    *,
    filter_file: Path | None = None,
    database_dir: Path | None = None,
) -> list[Scan]:
    """Find all T1w scans of a BIDS dataset with pybids.

    Parameters
    ----------
    bids_dir : path
        Root of the dataset.
    filter_file : path, optional
        Which scans to list, see `vxmprep.bids.filters.read_filter_file`; all if None.
    database_dir : path, optional
        Folder of pybids' database of the dataset: made if it is not there (it lists T1w scans
        only), else read instead of the dataset. It does not notice changes of the dataset.

    Returns
    -------
    list of Scan
        In order of their names. Phase, real and imaginary parts are left out.

    Raises
    ------
    DatasetError
        If the folder is no BIDS dataset, no scan is left, or filter file or database are of no
        use.
    """
    filters = {} if filter_file is None else read_filter_file(filter_file)
    _check_root(bids_dir)
    listed = t1w_files(bids_dir, database_dir)
    found = {below: parsed for below, parsed in listed.items() if parsed.get("part") in MAGNITUDE}
    if not found and database_dir is not None and (database_dir / DATABASE).is_file():
        raise DatasetError(
            f"--bids-database-dir {database_dir}: lists no T1w scan of {bids_dir}; remove it, so "
            "that it is made anew"
        )
    if not found:
        raise DatasetError(
            f"{bids_dir}: no T1w scan found (sub-*/[ses-*/]anat/*_T1w.nii.gz); check the folder"
        )
    kept = {below: parsed for below, parsed in found.items() if passes(parsed, filters)}
    if not kept:
        raise DatasetError(
            f"--bids-filter-file {filter_file}: none of the {len(found)} T1w scans of "
            f"{bids_dir} passes; check {json.dumps(filters, ensure_ascii=False)}"
        )
    root = bids_dir.absolute()
    scans = [Scan(root / below, _entities(parsed)) for below, parsed in kept.items()]
    return sorted(scans, key=lambda scan: scan.stem)


def choose_scans(
    scans: Sequence[Scan],
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    bids_dir: Path,
) -> list[Scan]:
    """Keep the scans of some participants and sessions, if results of all will be their own.

    Parameters
    ----------
    scans : sequence of Scan
        As `find_scans` gives them.
    participants, sessions : sequence of str
        Labels to keep, with or without ``sub-`` and ``ses-``; all if empty.
    bids_dir : path
        The dataset, named in errors.

    Returns
    -------
    list of Scan
        In the order of `scans`.

    Raises
    ------
    DatasetError
        If no scan has one of the labels, nothing is left, or `misnamed` is any that is left.
    """
    chosen = labelled(scans, participants=participants, sessions=sessions, bids_dir=bids_dir)
    if wrong := misnamed(chosen, bids_dir):
        raise DatasetError(next(iter(wrong.values())))
    return chosen


def labelled(
    scans: Sequence[Scan],
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    bids_dir: Path,
) -> list[Scan]:
    """Keep the scans of some participants and sessions, whatever their names.

    As `choose_scans`, which refuses those that are `misnamed`.
    """
    people = _known(participants, "sub-", {scan.participant for scan in scans}, bids_dir)
    visits = _known(sessions, "ses-", {scan.session for scan in scans}, bids_dir)
    chosen = [scan for scan in scans if scan.participant in people and scan.session in visits]
    if scans and not chosen:
        who, when = (
            ", ".join(f"{prefix}{label}" for label in sorted(labels))
            for prefix, labels in (("sub-", people), ("ses-", visits))
        )
        raise DatasetError(
            f"{bids_dir}: no T1w scan of {who} in {when}; check --participant-label and "
            "--session-label"
        )
    return chosen


def misnamed(scans: Sequence[Scan], bids_dir: Path) -> dict[Scan, str]:
    """Say which scans have names that would make their results another's.

    Parameters
    ----------
    scans : sequence of Scan
        As `find_scans` gives them.
    bids_dir : path
        The dataset.

    Returns
    -------
    dict
        What is wrong with a name and what to do, in one line, by the scan.
    """
    sound = set(well_named(scans, bids_dir))
    wrong = {
        scan: f"{scan.path}: its name must begin with its folders' labels, "
        f"{_folders(scan, bids_dir)}_, and labels have letters and digits only; rename it"
        for scan in scans
        if scan not in sound
    }
    return wrong | _twins(sound)


def well_named(scans: Sequence[Scan], bids_dir: Path) -> list[Scan]:
    """Keep the scans whose names are those of their folders: others' results would be another's.

    Parameters
    ----------
    scans : sequence of Scan
        As `find_scans` gives them.
    bids_dir : path
        The dataset.
    """
    return [
        scan
        for scan in scans
        if FOLDERS.fullmatch(folders := _folders(scan, bids_dir))
        and scan.path.name.startswith(f"{folders}_")
    ]


def _folders(scan: Scan, bids_dir: Path) -> str:
    return "_".join(scan.path.relative_to(bids_dir.absolute()).parts[:-2])


def _check_root(bids_dir: Path) -> None:
    try:
        there, described = bids_dir.is_dir(), (bids_dir / "dataset_description.json").is_file()
    except OSError as error:
        raise DatasetError(f"{bids_dir}: cannot be read ({error.strerror})") from error
    if not there:
        raise DatasetError(f"{bids_dir}: no such folder; give the root of a BIDS dataset")
    if described and is_ours(bids_dir):
        raise DatasetError(
            f"{bids_dir}: holds what vxmprep has written; are BIDS_DIR and OUTPUT_DIR swapped?"
        )
    if not described:
        raise DatasetError(
            f"{bids_dir}: not a BIDS dataset, dataset_description.json is missing; "
            "give the folder that holds it"
        )


def _twins(scans: Iterable[Scan]) -> dict[Scan, str]:
    """Say which scans would have derivatives of the same names as one before."""
    seen: dict[tuple, Scan] = {}
    wrong = {}
    for scan in sorted(scans, key=lambda scan: scan.path):
        twin = seen.setdefault(scan.entities, scan)
        if twin is not scan:
            wrong[scan] = (
                f"{scan.path}: has the same BIDS entities as {twin.path.name}, so their results "
                "would overwrite each other; remove one of them, or choose with "
                "--bids-filter-file (is this a folder of derivatives?)"
            )
    return wrong


def _known(
    asked: Sequence[str], prefix: str, known: set[str | None], bids_dir: Path
) -> set[str | None]:
    labels = {label.removeprefix(prefix) for label in asked}
    for label in sorted(labels - known):
        raise DatasetError(
            f"{bids_dir}: no T1w scan of {prefix}{label}; check the label, and what "
            "--bids-filter-file or an old --bids-database-dir leaves out"
        )
    return labels or known


def _entities(parsed: Mapping) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(parsed[name])) for name in ENTITIES if name in parsed)
