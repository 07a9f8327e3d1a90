"""The table of what became of every scan, made from the records."""

from __future__ import annotations

from pathlib import Path

from vxmprep.bids.derivatives import write_rows
from vxmprep.bids.records import FOLDER, Record, turn

COLUMNS = ("scan", "status", "step", "why", "seconds", "peak_gb", "flags", "version")
FILE = "participants_status.tsv"


def status_row(record: Record, evaluated: str = "") -> dict[str, str]:
    """Say what became of a scan.

    Parameters
    ----------
    record : Record
        Of the scan.
    evaluated : str, optional
        An atlas that it was evaluated with: a failure with another is not told.

    Returns
    -------
    dict
        Text by the names of `COLUMNS`: ``status`` is done, registered, prepared, failed or
        unfinished; ``step`` the step that failed; ``seconds`` the sum of its steps; ``peak_gb``
        the largest memory of any.
    """
    content, failure, status = record.content, record.failure, record.status
    if evaluated and failure.get("space", "") not in ("", evaluated):
        failure, status = {}, "done"
    space = failure.get("space", "")
    others = {key.partition(" ")[2] for key in record.stages} - {"", space}
    where = f" (atlas {space})" if space and others else ""
    steps = content.get("steps", {}).values()
    versions = sorted({stage["version"] for stage in record.stages.values()})
    row = {
        "scan": content["scan"],
        "status": status,
        "step": failure.get("step", ""),
        "why": failure.get("cause", "") + where,
        "seconds": f"{sum(step['seconds'] for step in steps):.0f}" if steps else "",
        "peak_gb": f"{max(step['peak_gb'] for step in steps):.2f}" if steps else "",
        "flags": "; ".join(record.flags),
        "version": ", ".join(versions),
    }
    return {name: " ".join(text.split()) or "n/a" for name, text in row.items()}


def write_status(output_dir: Path) -> None:
    """Write ``participants_status.tsv`` from the records of all scans.

    Jobs that end at the same time take turns, so that the last of them sees the records of all.
    """
    with turn(output_dir / FOLDER / ".status.lock"):
        rows = [status_row(record) for record in Record.all(output_dir)]
        write_rows(output_dir / FILE, COLUMNS, rows)
