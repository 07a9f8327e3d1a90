"""The page of a participant: pictures, numbers, methods and errors of all its scans.

It is assembled from what the output folder holds, needs nothing else to be shown, and opens from a
folder without a server.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import vxmprep
from vxmprep.bids.derivatives import write_text
from vxmprep.bids.records import FOLDER, Record, turn
from vxmprep.evaluation.quality import Quality, tries
from vxmprep.reports.boilerplate import ModelUsed, bibtex, methods_text
from vxmprep.reports.contents import STEPS
from vxmprep.reports.methods import methods_of_records
from vxmprep.reports.overlap import read_dice

ASSETS = "assets"
"""Folder of the output for what all pages share."""

PROGRAM = ("niivue.js", "niivue-licence.txt")
"""The viewer's program and its licence."""

COHORT = "cohort.js"
"""What the level ``group`` says of all scans; pages that were written before it read it, too: a
script, because a page that is opened as a file may read nothing else."""

CRASH_LINES = 40
"""Of a crash file the last lines are shown."""


def write_page(output_dir: Path, participant: str, model: ModelUsed | None = None) -> Path | None:
    """Write the page of a participant from its records and the files that they name.

    Jobs that work on scans of one participant take turns: the last one's page shows all scans.

    Parameters
    ----------
    output_dir : path
        Root of the derivatives.
    participant : str
        Label, without ``sub-``.
    model : ModelUsed, optional
        The network, for the methods text.

    Returns
    -------
    Path or None
        ``sub-<label>.html``; None if nothing of the participant has been processed.
    """
    path = output_dir / f"sub-{participant}.html"
    with turn(output_dir / FOLDER / ".pages.lock"):
        records = Record.of_participant(output_dir, participant)
        if not records:
            return None
        for name in PROGRAM:
            write_text(output_dir / ASSETS / name, _asset(name))
        if not (output_dir / ASSETS / COHORT).is_file():
            _write_cohort(output_dir, {})
        write_text(path, render(output_dir, participant, records, model))
    return path


def write_verdicts(output_dir: Path, verdicts: Iterable[tuple[str, str, Path, Quality]]) -> None:
    """Write what a cohort's level says of scans, for the pages of the participants.

    Parameters
    ----------
    output_dir : path
        Root of the derivatives.
    verdicts : iterable of (str, str, Path, Quality)
        Scan, atlas, file of metrics and verdict.
    """
    found = {
        _result_key(scan, space, metrics): {
            "verdict": quality.verdict,
            "reasons": [words for _, words in quality.reasons],
        }
        for scan, space, metrics, quality in verdicts
    }
    with turn(output_dir / FOLDER / ".pages.lock"):
        _write_cohort(output_dir, found)


def _write_cohort(output_dir: Path, verdicts: Mapping[str, dict]) -> None:
    text = json.dumps(verdicts, ensure_ascii=False, indent=1)
    write_text(output_dir / ASSETS / COHORT, f"window.vxmprepCohort = {text};\n")


def _result_key(scan: str, space: str, metrics: Path) -> str:
    """Name a result so that a verdict on another one, of another run, is not taken for its own."""
    return f"{scan} {space} {hashlib.sha256(metrics.read_bytes()).hexdigest()[:16]}"


def render(
    output_dir: Path, participant: str, records: list[Record], model: ModelUsed | None = None
) -> str:
    """Give the page of a participant as HTML."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["link"] = lambda text: quote(str(text))
    spaces = sorted({key.split()[1] for one in records for key in one.stages if " " in key})
    return environment.from_string(_asset("page.html")).render(
        participant=participant,
        scans=[_scan(output_dir, record) for record in records],
        methods=[
            found for space in spaces if (found := _methods(records, space, model)) is not None
        ],
        cohort=(output_dir / "group.html").is_file(),
        version=vxmprep.__version__,
        style=_asset("page.css"),
        script=_asset("page.js") + _asset("viewer.js"),
        program=f"{ASSETS}/{PROGRAM[0]}",
        verdicts=f"{ASSETS}/{COHORT}",
    )


def _asset(name: str) -> str:
    return files("vxmprep").joinpath("data", "report", name).read_text(encoding="utf-8")


def _methods(records: list[Record], space: str, model: ModelUsed | None) -> dict | None:
    """Give the methods text of a participant for one atlas."""
    from markdown_it import MarkdownIt

    methods = methods_of_records(records, space, model)
    if methods is None:
        return None
    text = methods_text(methods)
    shown = MarkdownIt("commonmark", {"linkify": False}).render(text)
    programs = {name: version for name, version in methods.versions.items() if version}
    return {
        "space": space,
        "html": shown,
        "markdown": text,
        "bibtex": bibtex(methods),
        "versions": programs,
    }


def _scan(output_dir: Path, record: Record) -> dict:
    """Give what the page shows of one scan."""
    content = record.content
    steps = content.get("steps", {})
    spaces = sorted({key.split()[1] for key in record.stages if " " in key})
    failures = [dict(one) for one in content.get("failures", [])]
    if record.failure and not failures:
        failures = [dict(record.failure)]
    for failure in failures:
        failure["text"] = _crash(output_dir, failure.get("crash", ""))
    return {
        "name": content["scan"],
        "status": record.status,
        "failure": record.failure,
        "failures": failures,
        "flags": record.flags,
        "results": [_result(output_dir, record, space) for space in spaces],
        "steps": [
            {"name": STEPS.get(name, name.replace("_", " ")), **took}
            for name, took in steps.items()
        ],
        "seconds": sum(took["seconds"] for took in steps.values()),
        "peak_gb": max((took["peak_gb"] for took in steps.values()), default=0),
        "inputs": _inputs(record),
    }


def _result(output_dir: Path, record: Record, space: str) -> dict:
    """Give what the page shows of a scan's registration to one atlas."""
    stages = {
        name: record.stages.get(f"{name} {space}", {})
        for name in ("align", "preview", "evaluate", "report")
    }
    made = {
        name: path
        for stage in stages.values()
        for name, path in stage.get("files", {}).items()
        if (output_dir / path).is_file()
    }
    metrics = _json(output_dir / made["metrics"]) if "metrics" in made else {}
    rows = read_dice(output_dir / made["dice"]) if "dice" in made else []
    columns = [name for name in (rows[0] if rows else {}) if name not in ("reference", "label")]
    shown = [name for name in columns if any(row[name] != "n/a" for row in rows)]
    return {
        "space": space,
        "key": _result_key(record.content["scan"], space, output_dir / made["metrics"])
        if "metrics" in made
        else "",
        "figures": {name: path for name, path in made.items() if name.startswith("figure_")},
        "viewer": made.get("viewer"),
        "problems": [
            flag for name in ("preview", "report") for flag in stages[name].get("flags", [])
        ],
        "quality": _quality(metrics.get("Quality") or {}),
        "tries": tries(metrics),
        "cards": _cards(metrics),
        "folded": metrics.get("Folding", {}).get("FoldedVoxels"),
        "reference": rows[0]["reference"] if rows else "",
        "approximate": any(
            "LabelsNote" in stage.get("settings", {}).get("Atlas", {}) for stage in stages.values()
        ),
        "columns": shown,
        "rows": rows,
        "metrics": json.dumps(metrics, indent=2) if metrics else "",
    }


def _quality(found: Mapping) -> dict:
    """Give the verdict and the words of its reasons; empty for results of an earlier version."""
    reasons = [reason["Reason"] for reason in found.get("Reasons", [])]
    return {"verdict": found["Verdict"], "reasons": reasons} if found else {}


def _cards(metrics: Mapping) -> list[tuple[str, str, str]]:
    """Give the numbers that are looked at first: what, how much, and how it is to be read."""
    overlap, folding = metrics.get("Overlap", {}), metrics.get("Folding", {})
    deformable, affine = metrics.get("Deformable", {}), metrics.get("Affine", {})
    similarity, missed = metrics.get("Similarity", {}), metrics.get("InverseConsistency", {})
    cards = []
    if overlap.get("DiceMean") is not None:
        before = f"{overlap['DiceMeanAffine']:.3f}"
        count = overlap.get("Structures", "")
        cards.append(
            (
                "mean Dice",
                f"{overlap['DiceMean']:.3f}",
                f"{before} by the affine alone; {count} structures, with those of the "
                f"{overlap['Reference']}",
            )
        )
    if similarity.get("LocalCorrelation") is not None:
        more = "with the atlas, mean squared"
        if len(deformable.get("LocalCorrelation") or []) == 2:
            before, after = deformable["LocalCorrelation"]
            more += f"; what was optimised went from {before:.3f} to {after:.3f}"
        cards.append(("local correlation", f"{similarity['LocalCorrelation']:.3f}", more))
    if "FoldedVoxels" in folding:
        cards.append(
            (
                "folded voxels",
                f"{folding['FoldedVoxels']:,}",
                f"{folding['FoldedPercent']:.3g} % of {folding['MaskVoxels']:,} in the mask",
            )
        )
    if "JacobianMin" in folding:
        cards.append(
            (
                "Jacobian determinant",
                f"{folding['JacobianMin']:.2f} to {folding['JacobianMax']:.2f}",
                "least and most local change of volume, affine left out",
            )
        )
    if missed.get("P99mm") is not None:
        cards.append(
            (
                "what the inverse misses",
                f"{missed['P99mm']:.2f} mm",
                f"99th percentile of there and back; at most {missed['Maxmm']:.2f} mm",
            )
        )
    if "Scales" in affine:
        scales = " \u00d7 ".join(f"{scale:.2f}" for scale in affine["Scales"])
        cards.append(
            (
                "affine scales",
                scales,
                f"rotation {affine.get('RotationDegrees', 0):.0f}\u00b0; "
                f"similarity {affine.get('Similarity', 0):.2f}",
            )
        )
    return cards


def _inputs(record: Record) -> list[dict]:
    """Give the files that a scan's results come from, each once."""
    found = {}
    for stage in record.stages.values():
        for one in stage["inputs"]:
            found[one["sha256"]] = {"file": one["file"], "sha256": one["sha256"]}
    return list(found.values())


def _crash(output_dir: Path, name: str) -> str:
    """Give the end of a crash file; empty where there is none."""
    path = output_dir / FOLDER / name
    if not name or not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-CRASH_LINES:])


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
