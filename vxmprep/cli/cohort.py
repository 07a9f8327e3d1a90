"""How far a cohort is that goes through Slurm: from the scans' records and the jobs' logs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vxmprep.bids.records import Record

if TYPE_CHECKING:
    from vxmprep.bids.dataset import Scan
    from vxmprep.config import Settings

ENDS = (
    (r"DUE TO TIME LIMIT", "ran out of time; give more --time or a smaller --width"),
    (
        r"oom[_-]kill|out.of.memory|exceeded .*memory limit",
        "ran out of memory; give more --mem-mb",
    ),
    (r"DUE TO NODE FAILURE", "was lost with its node; submit again"),
    (r"DUE TO PREEMPTION", "had to make room for another; submit again"),
    (
        r"^vxmprep: interrupted",
        "was interrupted, by the end of its time or by somebody; submit again",
    ),
    (r"CANCELLED AT", "was cancelled; submit again"),
)
"""What Slurm and vxmprep say at the end of a job that was ended, and what that means."""

SIGNS = re.IGNORECASE | re.MULTILINE

PEOPLE = "participants: "
"""How the line begins that a task of an array says first."""

ARRAYS = ("prepare", "participant")

SUFFICIENT = {"prepare": ("prepared", "registered", "done"), "participant": ("done",)}
"""What a level has come to at its end."""

WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "SUSPENDED")

RESULTS = ("done", "registered", "prepared", "failed", "unfinished")

LEVELS = ("prepare", "train", "participant", "group")


@dataclass(frozen=True)
class Ended:
    """A job that was ended: its level, why, and its log."""

    level: str
    why: str
    log: Path


def tell(settings: Settings, folder: Path) -> int:
    """Say how far a cohort is, and note in the records which scans' jobs Slurm has ended.

    Parameters
    ----------
    settings : Settings
        The dataset, the output, and which scans.
    folder : Path
        Where `vxmprep-slurm` has put scripts and logs.

    Returns
    -------
    int
        0 if all scans are done, 1 if not.
    """
    from vxmprep.bids.dataset import choose_scans, find_scans
    from vxmprep.bids.filters import read_filter_file
    from vxmprep.bids.status import write_status

    filters = settings.bids_filter_file and read_filter_file(settings.bids_filter_file)
    scans = choose_scans(
        find_scans(settings.bids_dir, filters=filters),
        participants=settings.participant_label,
        sessions=settings.session_label,
        bids_dir=settings.bids_dir,
    )
    queue = read_queue(folder)
    ended = read_logs(folder)
    records = {scan.stem: Record.of(settings.output_dir, scan.stem) for scan in scans}
    if _note(scans, records, ended):
        write_status(settings.output_dir)
    counts = Counter(_state(record) for record in records.values())
    print(f"T1w scans: {len(scans)}")
    for state in (*RESULTS, "not begun"):
        if counts[state]:
            print(f"  {state:12}{counts[state]:6}")
    for level, states in queue.items():
        print(f"  {level}: " + ", ".join(f"{n} {state}" for state, n in states.items()))
    if settings.model_folder.is_dir():
        print(f"training of {_training(settings.model_folder)}")
    for level in ("train", "group"):
        if (last := ended.get(level)) is not None:
            print(f"ENDED {level}: its job {last.why} ({last.log})", file=sys.stderr)
    for stem, record in records.items():
        if record.failure:
            print(f"FAILED {stem}: {record.failure['cause']}", file=sys.stderr)
    return int(any(record.status != "done" for record in records.values()))


def read_queue(folder: Path) -> dict[str, Counter]:
    """Ask Slurm for the jobs that were submitted; nothing where it cannot be asked.

    Returns
    -------
    dict
        Numbers of jobs by their state, and by why they wait in Slurm's own word, by level.
    """
    try:
        lines = (folder / "jobs.txt").read_text(encoding="utf-8").split("\n")
    except OSError:
        return {}
    levels = {job: level for level, _, job in (line.partition(" ") for line in lines) if job}
    if not levels:
        return {}
    words = ["squeue", "--noheader", "--array", "--format=%F %T %r", f"--jobs={','.join(levels)}"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found: dict[str, Counter] = {}
    for line in said.stdout.splitlines():
        job, state, reason = (*line.split(" ", 2), "", "")[:3]
        if job in levels and state in (*WAITING, "RUNNING", "COMPLETING"):
            why = f" ({reason})" if state == "PENDING" and reason not in ("", "None") else ""
            found.setdefault(levels[job], Counter())[state.lower() + why] += 1
    return {level: found[level] for level in LEVELS if level in found}


def read_logs(folder: Path) -> dict[str, Ended]:
    """Find the jobs that were ended, from the logs.

    Returns
    -------
    dict
        By participant's label, and by level where a job is no participant's: the newest job, if
        it was ended.
    """
    logs = [(log.stat().st_mtime, log) for log in (folder / "logs").glob("vxmprep-*.log")]
    newest: dict[str, Ended | None] = {}
    for _, log in sorted(logs):
        level = log.name.split("-")[1]
        # What a job said before it was put back into the queue is over.
        said = log.read_text(encoding="utf-8", errors="replace").rpartition(PEOPLE)[2]
        people, _, said = said.partition("\n") if level in ARRAYS else (level, "", said)
        why = next((why for sign, why in ENDS if re.search(sign, said, SIGNS)), None)
        for one in people.split():
            newest[one] = None if why is None else Ended(level, why, log)
    return {one: end for one, end in newest.items() if end is not None}


def counted(number: int, what: str) -> str:
    """Write a number of things, as ``1 job`` and ``2 jobs``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _note(scans: Sequence[Scan], records: dict[str, Record], ended: dict[str, Ended]) -> int:
    """Note in the records of scans why their job was ended; give how many these are."""
    noted = 0
    for scan in scans:
        record, end = records[scan.stem], ended.get(scan.participant)
        if end is None or record.failure or record.status in SUFFICIENT[end.level]:
            continue
        record.fail(step=end.level, cause=f"its job {end.why} ({end.log.name})")
        noted += 1
    return noted


def _state(record: Record) -> str:
    begun = record.stages or record.failure
    return record.status if begun else "not begun"


def _training(folder: Path) -> str:
    """Say how far the training in a model's folder is."""
    from vxmprep.training.card import card_of
    from vxmprep.training.folder import ModelFolder

    model = ModelFolder(folder)
    if (card := card_of(model)) is not None and model.model.is_file():
        progress = counted(card["progress"]["iteration"], "iteration")
        return f"{folder.name}: trained, {progress}, ended by {card['ended']}"
    try:
        rows = model.iterations.read_text(encoding="utf-8").count("\n") - 1
    except OSError:
        return f"{folder.name}: not begun"
    return f"{folder.name}: {counted(max(rows, 0), 'iteration')}"
