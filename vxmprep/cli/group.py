"""The level ``group``: tables and a page of a cohort, from its output folder alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from urllib.parse import quote

import vxmprep
from vxmprep.bids.comparison import (
    COMPARISON,
    COMPARISON_COLUMNS,
    Compared,
    check_output,
    compare_outputs,
)
from vxmprep.bids.derivatives import write_text
from vxmprep.bids.participants import read_exclusions, read_people
from vxmprep.bids.results import Result, find_results
from vxmprep.bids.tables import (
    LABELS,
    OVERLAP,
    OVERLAP_COLUMNS,
    REGISTRATION,
    REGISTRATION_COLUMNS,
    means,
    overlap_rows,
    registration_row,
    write_table,
)
from vxmprep.config import LABEL_SETS, Settings, UsageError
from vxmprep.evaluation.cohort import CohortOverlap, LabelMaps, cohort_overlap
from vxmprep.evaluation.quality import (
    FAIL,
    UNFINISHED,
    VERDICTS,
    WARN,
    Quality,
    judge,
    judge_cohort,
)
from vxmprep.wording import counted

PAGE = "group.html"

PEOPLE = "group_people.tsv"

PEOPLE_COLUMNS = {
    "participant_id": "the participant",
    "person": "who that is, by the column of this name in the dataset's participants.tsv",
}

THUMBNAILS = ("figure_full", "figure_mask")
"""Pictures of a scan by what they hold; the first that there is stands in the cohort's page."""

LACKING = {
    "unfinished": "not yet prepared",
    "prepared": "prepared, not yet registered",
    "registered": "registered, not yet evaluated",
}
"""What is still to come of a scan, by its status."""

LARGEST_WORKER_GB = 1.5
"""Memory of a process that counts or compares label maps of 1 mm."""


@dataclass(frozen=True)
class Cohort:
    """What the tables of a cohort say.

    Attributes
    ----------
    registration, overlap : list of dict
        Rows of the tables.
    qualities : dict
        Verdicts, by scan and atlas.
    found : dict
        What was compared, by atlas.
    """

    registration: list[dict[str, str]]
    overlap: list[dict[str, str]]
    qualities: dict[tuple[str, str], Quality]
    found: dict[str, CohortOverlap]


def check_group(settings: Settings) -> None:
    """Refuse files that the level cannot use, before anything is done.

    Raises
    ------
    UsageError, DatasetError
        If a file of ``--compare``, ``--labels`` or ``--exclude`` cannot be used.
    """
    if settings.compare is not None:
        check_output(settings.compare, joined=settings.join_hemispheres)
    _chosen(settings)
    if settings.exclude is not None:
        read_exclusions(settings.exclude, (), tell=lambda _: None)


def _chosen(settings: Settings) -> str | tuple[int, ...]:
    """Give the structures that the tables are to be over."""
    labels = settings.labels
    return labels if labels in LABEL_SETS else read_ids(Path(labels))


def group(settings: Settings, work: Path) -> None:
    """Judge a cohort: write its tables and its page.

    Parameters
    ----------
    settings : Settings
        Only the two folders (that of the dataset may be gone), ``labels``, ``join_hemispheres``,
        ``exclude``, ``compare`` and ``nprocs`` matter.
    work : Path
        Folder for what is needed meanwhile.

    Raises
    ------
    UsageError
        If the folder holds no scans of ours, or all are left out. Files are checked before, see
        `check_group`.
    """
    from vxmprep.reports.page import write_verdicts

    output_dir = settings.output_dir
    people = _people(settings)
    results = find_results(output_dir, people)
    if not results:
        raise UsageError(
            f"{output_dir}: no records of scans in its folder logs; run the level participant "
            "first, or give the output of such a run"
        )
    if settings.exclude is not None:
        stems = sorted({result.scan for result in results})
        left_out = read_exclusions(settings.exclude, stems, tell=print)
        for name, reason in left_out.items():
            print(f"left out of the group: {name}: {reason}", flush=True)
        results = [result for result in results if result.scan not in left_out]
        if not results:
            raise UsageError(f"--exclude {settings.exclude}: leaves out every scan")
    cohort = judge_results(
        results,
        work,
        _chosen(settings),
        joined=settings.join_hemispheres,
        processes=settings.nprocs,
    )
    compared = None
    if settings.compare is not None:
        compared = compare_outputs(cohort.overlap, settings.compare, people)
    write_table(output_dir / REGISTRATION, REGISTRATION_COLUMNS, cohort.registration)
    write_table(output_dir / OVERLAP, OVERLAP_COLUMNS, cohort.overlap)
    _write_labels(output_dir / LABELS, cohort)
    if compared is not None:
        write_table(output_dir / COMPARISON, COMPARISON_COLUMNS, compared.rows)
        print(compared.words, flush=True)
    else:  # one of an earlier call is not of these tables
        for path in (output_dir / COMPARISON, (output_dir / COMPARISON).with_suffix(".json")):
            path.unlink(missing_ok=True)
    write_text(output_dir / PAGE, _page(results, cohort, output_dir, compared))
    write_verdicts(
        output_dir,
        [
            (one.scan, one.space, one.files["metrics"], cohort.qualities[one.scan, one.space])
            for one in results
            if "metrics" in one.files
        ],
    )
    verdicts = [row["quality"] for row in cohort.registration]
    print(summary(cohort))
    counts = ", ".join(
        f"{verdicts.count(verdict)} {verdict}"
        for verdict in reversed(VERDICTS)
        if verdict != UNFINISHED or verdict in verdicts
    )
    print(f"{counted(len(verdicts), 'scan')}: {counts}; see {output_dir / PAGE}", flush=True)


def _people(settings: Settings) -> dict[str, str]:
    """Read who has several participant labels, and keep it for when the dataset is gone."""
    table, kept = settings.bids_dir / "participants.tsv", settings.output_dir / PEOPLE
    if not table.is_file():
        return read_people(kept)
    people = read_people(table)
    if people:
        rows = [{"participant_id": f"sub-{who}", "person": one} for who, one in people.items()]
        write_table(kept, PEOPLE_COLUMNS, rows)
    else:
        for path in (kept, kept.with_suffix(".json")):
            path.unlink(missing_ok=True)
    return people


def judge_results(
    results: Sequence[Result],
    work: Path,
    labels: str | Sequence[int],
    *,
    joined: bool,
    processes: int,
) -> Cohort:
    """Compare and judge all scans, each atlas by itself.

    Parameters
    ----------
    results : sequence of Result
        All scans.
    work : Path
        Folder for what is needed meanwhile.
    labels : str or sequence of int
        See `vxmprep.evaluation.cohort.cohort_overlap`.
    joined : bool
        See there.
    processes : int
        Most worker processes; memory may allow fewer.
    """
    registration, overlap, qualities, compared = [], [], {}, {}
    for space in sorted({result.space for result in results}):
        here = [result for result in results if result.space == space]
        found = _compare(
            here, work / f"consensus-{space}", labels, joined=joined, processes=processes
        )
        compared[space] = found
        rows = {result.scan: overlap_rows(result, found) for result in here}
        averages = {name: means(own) for name, own in rows.items()}
        metrics = {
            result.scan: {
                **result.metrics,
                "Consensus": {
                    "DiceMeanAffine": averages[result.scan]["dice_affine"],
                    "DiceMean": averages[result.scan]["dice"],
                },
            }
            for result in here
        }
        judged = judge_cohort(metrics)
        for result in here:
            reasons = [*_reasons(result, found), *judged[result.scan].reasons]
            quality = qualities[result.scan, space] = Quality.of(reasons)
            own = rows[result.scan]
            # Of those that failed, first what has no result at all.
            verdict, *reasons = quality.severity
            order = verdict, result.status["status"] == "done", *reasons, result.scan, space
            row = registration_row(result, averages[result.scan], quality, own)
            registration.append((order, row))
            overlap += own
    rows = [row for _, row in sorted(registration, key=itemgetter(0))]
    return Cohort(rows, overlap, qualities, compared)


def summary(cohort: Cohort) -> str:
    """Say in lines which scans are not sound, and how the cohort does as a whole."""
    lines = []
    for row in cohort.registration:
        if row["quality"] != "pass":
            lines.append(f"{row['quality'].upper()} {row['scan']}: {row['why']}")
    for space, found in cohort.found.items():
        scans = [row for row in cohort.registration if row["space"] == space]
        sound = [row for row in scans if row["quality"] != FAIL] or scans
        failed = len(scans) - len(sound)
        without = f", without {failed} that failed" if failed else ""
        if found.rows:
            lines.append(
                f"{space}: mean Dice with the consensus of the others: "
                f"{_means(sound, 'dice_affine', 'dice')}{without}"
            )
        elif space:
            lines.append(
                f"{space}: {counted(len(found.voters), 'participant')} with a segmentation, too "
                "few for a consensus; at least 4 are needed"
            )
            if any(row["atlas_dice"] != "n/a" for row in sound):
                lines.append(
                    f"{space}: mean Dice with the atlas's labels: "
                    f"{_means(sound, 'atlas_dice_affine', 'atlas_dice')}{without}"
                )
    return "\n".join(lines)


def _means(rows: Sequence[Mapping[str, str]], *names: str) -> str:
    """Give the means of the columns for affine and whole transform, and of how many scans."""
    columns = [[float(row[name]) for row in rows if row[name] != "n/a"] for name in names]
    means = ", ".join(f"{sum(values) / len(values):.3f}" for values in columns if values)
    return f"{means or 'none'} (affine, full) of {counted(len(columns[-1]), 'scan')}"


def read_ids(path: Path) -> tuple[int, ...]:
    """Read label ids from a text file.

    Parameters
    ----------
    path : path
        Ids between blanks, commas or line ends; ``#`` begins a comment. A table with a column
        ``index`` or ``label``, as our own tables of labels, is read too.

    Raises
    ------
    UsageError
        If there is none, or something else stands there.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UsageError(f"--labels {path}: cannot be read ({reason})") from error
    header = lines[0].split("\t") if lines else []
    column = next((i for i, name in enumerate(header) if name in ("index", "label")), None)
    if column is not None:
        lines = ["".join(line.split("\t")[column : column + 1]) for line in lines[1:]]
    words = [w for line in lines for w in re.split(r"[\s,]+", line.partition("#")[0]) if w]
    wrong = [word for word in words if not word.isdecimal() or int(word) == 0]
    if wrong or not words:
        what = f"{wrong[0]!r} is no label" if wrong else "holds no label"
        raise UsageError(f"--labels {path}: {what}; give FreeSurfer ids, as 17 53")
    return tuple(int(word) for word in words)


def _compare(
    results: Sequence[Result],
    folder: Path,
    labels: str | Sequence[int],
    *,
    joined: bool,
    processes: int,
) -> CohortOverlap:
    """Compare the scans of one atlas that have labels there."""
    from rich.progress import Progress

    from vxmprep.resources import available_memory_gb

    maps = [
        LabelMaps(
            result.scan,
            result.person,
            result.files["labels_in_atlas_affine"],
            result.files["labels_in_atlas"],
            votes=result.status["status"] == "done" and judge(result.metrics).verdict != FAIL,
        )
        for result in results
        if {"labels_in_atlas_affine", "labels_in_atlas"} <= result.files.keys()
    ]
    memory = max(1, int(available_memory_gb() / LARGEST_WORKER_GB))
    with Progress(transient=True, disable=not maps) as progress:
        task = progress.add_task("labels of the cohort", total=2 * len(maps))
        return cohort_overlap(
            maps,
            folder,
            labels=labels,
            joined=joined,
            processes=min(processes, memory, max(1, len(maps))),
            seen=lambda count: progress.advance(task, count),
        )


def _reasons(result: Result, found: CohortOverlap) -> list[tuple[str, str]]:
    """Say what speaks against a scan beside what was measured of it."""
    reasons = []
    status = result.status
    if status["status"] == "failed":
        reasons.append((FAIL, f"failed at the step {status['step']}: {status['why']}"))
    elif status["status"] != "done":
        lacking = LACKING[status["status"]]
        reasons.append((UNFINISHED, f"{lacking}; run the level participant to go on"))
        reasons += [(FAIL, doubt) for doubt in result.doubts]
    if result.missing:
        first, *others = result.missing
        lost = f"{first} and {len(others)} more are" if others else f"{first} is"
        reasons.append((WARN, f"{lost} not there any more; run the level participant again"))
    if result.scan in found.refused:
        reasons.append((WARN, found.refused[result.scan]))
    return reasons


def _page(
    results: Sequence[Result], cohort: Cohort, output_dir: Path, compared: Compared | None
) -> str:
    """Make the page of the cohort."""
    from vxmprep.reports.group import group_page

    jacobians = {
        (result.scan, result.space): (result.metrics.get("Folding") or {}).get(
            "JacobianPercentiles", {}
        )
        for result in results
    }
    links = {}
    for result in results:
        page = output_dir / f"{result.participant}.html"
        pictures = [result.files[name] for name in THUMBNAILS if name in result.files]
        links[result.scan, result.space] = tuple(
            None if path is None else quote(path.relative_to(output_dir).as_posix())
            for path in (page if page.is_file() else None, next(iter(pictures), None))
        )
    return group_page(
        cohort.registration,
        cohort.overlap,
        jacobians=jacobians,
        links=links,
        version=vxmprep.__version__,
        compare=None if compared is None else compared.shown(),
    )


def _write_labels(path: Path, cohort: Cohort) -> None:
    """Write which structures the tables are over."""
    columns = {
        "space": "the atlas",
        "index": OVERLAP_COLUMNS["label"],
        "name": OVERLAP_COLUMNS["name"],
    }
    rows = [
        {"space": space or "n/a", "index": str(label), "name": found.name_of(label)}
        for space, found in cohort.found.items()
        for label in found.labels
        if space
    ]
    write_table(path, columns, rows)
