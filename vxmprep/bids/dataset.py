"""Which scans a BIDS dataset holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ENTITIES = (
    "subject",
    "session",
    "acquisition",
    "ceagent",
    "reconstruction",
    "run",
    "echo",
    "flip",
    "inv",
    "part",
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

    ignored = [re.compile(rf"^/{name}(/|$)") for name in IGNORED]
    indexer = BIDSLayoutIndexer(
        validate=False,
        index_metadata=False,
        ignore=[*ignored, re.compile(OTHER_DATATYPES), re.compile(r"/\.")],
    )
    layout = BIDSLayout(bids_dir, validate=False, indexer=indexer)
    wanted = _known(participants, "sub-", layout.get_subjects(), f"{bids_dir}: no participant")
    chosen = _known(sessions, "ses-", layout.get_sessions(), f"{bids_dir}: no session")
    query = {"subject": wanted} | ({"session": chosen} if sessions else {})
    files = layout.get(suffix="T1w", datatype="anat", extension=[".nii", ".nii.gz"], **query)
    if not files:
        raise DatasetError(
            f"{bids_dir}: no T1w scan found (sub-*/[ses-*/]anat/*_T1w.nii.gz); "
            "check the folder and the labels asked for"
        )
    scans = [Scan(Path(file.path), _entities(file.get_entities())) for file in files]
    return sorted(scans, key=lambda scan: scan.stem)


def _known(asked: Sequence[str], prefix: str, known: list[str], complaint: str) -> list[str]:
    labels = [label.removeprefix(prefix) for label in asked]
    for label in labels:
        if label not in known:
            raise DatasetError(f"{complaint} {prefix}{label}; check the label")
    return labels or known


def _entities(found: dict) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(found[name])) for name in ENTITIES if name in found)
