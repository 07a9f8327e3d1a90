"""What a finished run has left of every scan, found from the records: no dataset is needed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vxmprep.bids.derivatives import read_json, sidecar_of
from vxmprep.bids.records import Record
from vxmprep.bids.status import status_row

PICTURES = ("preview", "report")
"""The stages that make nothing but pictures."""

NOBODY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Result:
    """What there is of one scan in one atlas space.

    Attributes
    ----------
    scan : str
        The scan's name, as ``sub-01_ses-1``.
    space : str
        The atlas's label; empty for a scan that was not evaluated in it.
    status : dict
        Its row in ``participants_status.tsv``, without a failure with another atlas.
    files : dict
        Files that are there, by what they hold (see `vxmprep.interfaces.SaveScan`).
    metrics : dict
        Content of its metrics; empty where there are none.
    missing : tuple of str
        Files that the record names and that are gone; pictures aside, which results do not need.
    segmentation : str
        Where the scan's labels come from; empty if it has none.
    doubts : tuple of str
        Flags of brain and affine: what comes after them cannot be trusted.
    person : str
        Who was scanned; people may have several participant labels.
    """

    scan: str
    space: str
    status: dict[str, str]
    files: dict[str, Path]
    metrics: dict
    missing: tuple[str, ...]
    segmentation: str
    doubts: tuple[str, ...]
    person: str

    @property
    def participant(self) -> str:
        """The participant's label with ``sub-``."""
        return self.scan.split("_")[0]

    def dice(self) -> list[dict[str, str]]:
        """Read the scan's table of Dice with the atlas's own labels."""
        if "dice" not in self.files:
            return []
        text = self.files["dice"].read_text(encoding="utf-8")
        return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def find_results(output_dir: Path, people: Mapping[str, str] = NOBODY) -> list[Result]:
    """Find the results of all scans, one for each atlas that a scan was evaluated in.

    A scan that was evaluated in none, or failed with another, has one without an atlas.

    Parameters
    ----------
    output_dir : path
        Root of the derivatives; it may have been moved.
    people : mapping
        People with several participant labels, see `vxmprep.bids.participants.read_people`.
    """
    return [result for record in Record.all(output_dir) for result in _results(record, people)]


def person_of(scan: str, people: Mapping[str, str]) -> str:
    """Say who was scanned: a person's own name, or else the participant's label with ``sub-``."""
    participant = scan.split("_")[0]
    return people.get(participant.removeprefix("sub-"), participant)


def _results(record: Record, people: Mapping[str, str]) -> list[Result]:
    person = person_of(record.content["scan"], people)
    spaces = [key.split()[1] for key in record.stages if key.startswith("evaluate ")]
    failed = record.failure.get("space", "")
    if not spaces or failed not in ("", *spaces):
        spaces.append("")
    return [_result(record, status_row(record, space), space, person) for space in spaces]


def _result(record: Record, status: dict[str, str], space: str, person: str) -> Result:
    """Gather what the stages of a scan have left: those of one atlas, as far as one is known."""
    atlas = space or record.failure.get("space", "")
    made: dict[str, str] = {}
    pictures: dict[str, str] = {}
    doubts: list[str] = []
    for key, stage in record.stages.items():
        name, _, where = key.partition(" ")
        if where in ("", atlas) or not atlas:
            (pictures if name in PICTURES else made).update(stage["files"])
            doubts += stage["flags"] if name in ("brain", "align") else []
    paths = {name: record.output_dir / path for name, path in (made | pictures).items()}
    files = {name: path for name, path in paths.items() if path.is_file()}
    return Result(
        record.content["scan"],
        space,
        status,
        files,
        read_json(files["metrics"]) if "metrics" in files else {},
        tuple(str(made[name]) for name in sorted(made.keys() - files.keys())),
        _segmentation(files.get("labels_in_atlas")),
        tuple(doubts),
        person,
    )


def _segmentation(labels: Path | None) -> str:
    """Name the file that a scan's labels come from, as their sidecar does."""
    sources = [] if labels is None else read_json(sidecar_of(labels)).get("Sources", [])
    named = sources[1:2] or ([] if labels is None else ["the scan's segmentation"])
    return named[0].removeprefix("bids:raw:") if named else ""
