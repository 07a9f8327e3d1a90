"""How far a cohort is that goes through Slurm: from the scans' records and the jobs' logs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vxmprep.bids.records import Record
from vxmprep.config import LEVELS
from vxmprep.wording import counted

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
        r"vxmprep: interrupted",
        "was interrupted, by the end of its time or by somebody; submit again",
    ),
    (r"CANCELLED AT", "was cancelled; submit again"),
)
"""What Slurm and vxmprep say at the end of a job that was ended, and what that means."""

ENDERS = ("slurmstepd", "srun", "vxmprep: interrupted")
"""How their lines begin; what the job itself prints may tell of the ends of others."""

PEOPLE = "participants: "
"""How the line begins that a task of an array says first."""

SUFFICIENT = {"prepare": ("prepared", "registered", "done"), "participant": ("done",)}
"""What a level whose job is an array has come to at its end."""

WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "SUSPENDED")

RESULTS = ("done", "registered", "prepared", "failed", "unfinished")


@dataclass(frozen=True)
class Log:
    """What the log of a job tells.

    Attributes
    ----------
    level : str
        What the job does.
    path : Path
        The log.
    ended : str or None
        Why the job was ended; None where it is at work or has come to an end by itself.
    last : str
        Its last line.
    """

    level: str
    path: Path
    ended: str | None
    last: str


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
    from vxmprep.bids.status import write_status

    scans = choose_scans(
        find_scans(settings.bids_dir, filter_file=settings.bids_filter_file),
        participants=settings.participant_label,
        sessions=settings.session_label,
        bids_dir=settings.bids_dir,
    )
    queue = read_queue(folder)
    logs = read_logs(folder)
    records = {scan.stem: Record.of(settings.output_dir, scan.stem) for scan in scans}
    if _note(scans, records, logs):
        write_status(settings.output_dir)
    counts = Counter(_state(record) for record in records.values())
    print(f"T1w scans: {len(scans)}")
    for state in (*RESULTS, "not begun"):
        if counts[state]:
            print(f"  {state:12}{counts[state]:6}")
    for level, states in (queue or {}).items():
        print(f"  {level}: " + ", ".join(f"{n} {state}" for state, n in states.items()))
    if settings.model_folder.is_dir():
        print(f"training of {_training(settings.model_folder)}")
    for line in _problems(settings, scans, records, logs, queue):
        print(line, file=sys.stderr)
    return int(any(record.status != "done" for record in records.values()))


def ask_slurm(words: Sequence[str]) -> subprocess.CompletedProcess | None:
    """Ask one of Slurm's programs; None where it does not answer, or is not here."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def read_queue(folder: Path) -> dict[str, Counter] | None:
    """Ask Slurm for the jobs that were submitted.

    Returns
    -------
    dict or None
        Numbers of jobs by their state, and by why they wait in Slurm's own word, by level; None
        where Slurm does not answer, or is not here.
    """
    try:
        lines = (folder / "jobs.txt").read_text(encoding="utf-8").split("\n")
    except OSError:
        return None
    levels = {job: level for level, _, job in (line.partition(" ") for line in lines) if job}
    if not levels:
        return None
    words = ["squeue", "--noheader", "--array", "--format=%F %T %r", f"--jobs={','.join(levels)}"]
    said = ask_slurm(words)
    # Jobs long over have no valid id.
    if said is None or (said.returncode and "Invalid job id" not in said.stderr):
        return None
    found: dict[str, Counter] = {}
    for line in said.stdout.splitlines():
        job, state, reason = (*line.split(" ", 2), "", "")[:3]
        if job in levels and state in (*WAITING, "RUNNING", "COMPLETING"):
            why = f" ({reason})" if state == "PENDING" and reason not in ("", "None") else ""
            found.setdefault(levels[job], Counter())[state.lower() + why] += 1
    return {level: found[level] for level in LEVELS if level in found}


def read_logs(folder: Path) -> dict[str, Log]:
    """Read the logs of the jobs.

    Returns
    -------
    dict
        By participant, as ``sub-01``, and by level where a job is no participant's: the newest.
    """
    logs = [(log.stat().st_mtime, log) for log in (folder / "logs").glob("vxmprep-*.log")]
    newest: dict[str, Log] = {}
    for _, log in sorted(logs):
        level = log.name.split("-")[1]
        # What a job said before it was put back into the queue is over.
        said = log.read_text(encoding="utf-8", errors="replace").rpartition(PEOPLE)[2]
        whose = [level]
        if level in SUFFICIENT:
            people, _, said = said.partition("\n")
            whose = [f"sub-{one}" for one in people.split()]
        lines = said.strip().splitlines() or ["its log is empty"]
        end = "\n".join(line for line in lines if line.startswith(ENDERS))
        why = next((why for sign, why in ENDS if re.search(sign, end, re.IGNORECASE)), None)
        last = lines[-1].strip()
        for one in whose:
            newest[one] = Log(level, log, why, last)
    return newest


def _note(scans: Sequence[Scan], records: dict[str, Record], logs: dict[str, Log]) -> int:
    """Note in the records of scans why their job was ended; give how many these are."""
    noted = 0
    for scan in scans:
        record, log = records[scan.stem], logs.get(f"sub-{scan.participant}")
        if log is None or not log.ended:
            continue
        if record.failure or record.status in SUFFICIENT[log.level]:
            continue
        record.fail(step=log.level, cause=f"its job {log.ended} ({log.path.name})")
        noted += 1
    return noted


def _problems(
    settings: Settings,
    scans: Sequence[Scan],
    records: dict[str, Record],
    logs: dict[str, Log],
    queue: dict[str, Counter] | None,
) -> Iterator[str]:
    """Say which jobs were ended or came to nothing, and which scans have failed."""
    for level in ("train", "group"):
        if level in logs and logs[level].ended:
            yield f"ENDED {level}: its job {logs[level].ended} ({logs[level].path})"
    nothing = {}
    for scan in scans:
        record, log = records[scan.stem], logs.get(f"sub-{scan.participant}")
        if log and not record.failure and record.status not in SUFFICIENT[log.level]:
            nothing[log.level] = log
    if "train" in logs and not (settings.model_folder / "model.pt").is_file():
        nothing["train"] = logs["train"]
    for level, log in nothing.items():
        if queue is not None and level not in queue and not log.ended:
            yield f"NOTHING DONE by a job of {level}, which said at last: {log.last} ({log.path})"
    for stem, record in records.items():
        if record.failure:
            yield f"FAILED {stem}: {record.failure['cause']}"


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
