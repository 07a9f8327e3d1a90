"""Which scans a BIDS dataset holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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

IGNORED = ("derivatives", "sourcedata", "code", "stimuli", "models")
OTHER_DATATYPES = r"/(func|dwi|fmap|perf|eeg|meg|ieeg|beh|pet|micr|motion|nirs|mrs)(/|$)"


class DatasetError(ValueError):
    """A dataset that cannot be processed; the message is one line for the user."""


@dataclass(frozen=True)
class Scan:
    """One T1w scan.

    Attributes
    ----------
    path : Path
        The image.
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
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
) -> list[Scan]:
    """Find the T1w scans of a BIDS dataset with pybids.

    Parameters
    ----------
    bids_dir : path
        Root of the dataset.
    participants, sessions : sequence of str
        Labels to keep, with or without ``sub-`` and ``ses-``; all if empty.

    Returns
    -------
    list of Scan
        In order of their names.

    Raises
    ------
    DatasetError
        If the folder is no BIDS dataset, a participant is unknown or no scan is left.
    """
    if not bids_dir.is_dir():
        raise DatasetError(f"{bids_dir}: no such folder; give the root of a BIDS dataset")
    if not (bids_dir / "dataset_description.json").is_file():
        raise DatasetError(
            f"{bids_dir}: not a BIDS dataset, dataset_description.json is missing; "
            "give the folder that holds it"
        )
    from bids import BIDSLayout, BIDSLayoutIndexer
    from bids.layout import parse_file_entities

    ignored = [re.compile(rf"^/{name}(/|$)") for name in IGNORED]
    indexer = BIDSLayoutIndexer(
        validate=False,
        index_metadata=False,
        ignore=[*ignored, re.compile(OTHER_DATATYPES), re.compile(r"/\.")],
    )
    layout = BIDSLayout(bids_dir, validate=False, indexer=indexer)
    relative = {
        Path(file.path).relative_to(layout.root): Path(file.path)
        for file in layout.get(suffix="T1w", extension=[".nii", ".nii.gz"])
    }
    # pybids reads the whole path, folders above the dataset included; only what is below counts.
    scans = [
        Scan(path, _entities(parse_file_entities(f"/{below.as_posix()}")))
        for below, path in relative.items()
        if below.parts[0].startswith("sub-") and below.parts[-2] == "anat"
    ]
    _refuse_twins(scans)
    if not scans:
        raise DatasetError(
            f"{bids_dir}: no T1w scan found (sub-*/[ses-*/]anat/*_T1w.nii.gz); check the folder"
        )
    chosen = _known(participants, "sub-", {s.participant for s in scans}, bids_dir)
    scans = [scan for scan in scans if scan.participant in chosen]
    if sessions:
        chosen = _known(sessions, "ses-", {s.session for s in scans}, bids_dir)
        scans = [scan for scan in scans if scan.session in chosen]
    return sorted(scans, key=lambda scan: scan.stem)


def _refuse_twins(scans: list[Scan]) -> None:
    """Refuse scans whose derivatives would have the same names."""
    seen: dict[tuple, Scan] = {}
    for scan in sorted(scans, key=lambda scan: scan.path):
        twin = seen.setdefault(scan.entities, scan)
        if twin is not scan:
            raise DatasetError(
                f"{scan.path}: has the same BIDS entities as {twin.path.name}, so their results "
                "would overwrite each other; is this a folder of derivatives?"
            )


def _known(asked: Sequence[str], prefix: str, known: set[str], bids_dir: Path) -> set[str]:
    labels = {label.removeprefix(prefix) for label in asked}
    for label in sorted(labels - known):
        raise DatasetError(f"{bids_dir}: no T1w scan of {prefix}{label}; check the label")
    return labels or known


def _entities(found: dict) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(found[name])) for name in ENTITIES if name in found)
