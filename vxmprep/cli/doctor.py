"""``vxmprep-doctor``: what would go wrong with a dataset, or be wrong, before hours are spent."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import vxmprep
from vxmprep.cli.options import Parser, named_path, positive
from vxmprep.resources import available_memory_gb, available_processors
from vxmprep.wording import counted

if TYPE_CHECKING:
    from vxmprep.bids.dataset import Scan
    from vxmprep.preparation.checkup import Checkup
    from vxmprep.preparation.shape import MaskShape

SECONDS_PER_SCAN = 120
GB_PER_SCAN = 3.6
MB_OF_OUTPUT = 57
"""Of one scan on one processor; see benchmarks."""

LEVELS = ("error", "warning", "note")

LEAVE_OUT = (
    "look at it; to leave the scan out, choose the others with --participant-label or "
    "--bids-filter-file"
)

DESCRIPTION = """\
Check a BIDS dataset and name the files that would fail or give a wrong result. Nothing is written.
Every T1w scan is read once, which takes a second or a few each; --headers-only is faster.
"""

EPILOG = """\
what is checked:
  every scan     downloaded and readable; orientation (left and right), voxel sizes, sform against
                 qform; skull-stripped or not; a brain that is cut off, or whose size or shape is
                 not an adult's; voxels not finite
  the dataset    names that are not BIDS; participants without a T1w; several T1w in a session; one
                 scan under two names; stripped scans and whole heads mixed
  other files    FreeSurfer subjects missing, labels absent, segmentations and masks that were not
                 downloaded or belong to another scan
  this machine   processors, memory, GPU, disk, and the time that it will take

exit codes:
  0  nothing that would fail or be wrong (there may be warnings and notes)
  1  errors were found, listed first
  2  bad usage
"""


@dataclass(frozen=True)
class Finding:
    """Something to know.

    Attributes
    ----------
    level : {"error", "warning", "note"}
        Fails or is wrong; is doubtful; is good to know.
    file : str
        What it is about.
    what : str
        One line: what is found, and what to do.
    """

    level: str
    file: str
    what: str


def build_parser() -> Parser:
    """Describe the command's options."""
    parser = Parser(
        prog="vxmprep-doctor",
        usage="vxmprep-doctor BIDS_DIR [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("bids_dir", metavar="BIDS_DIR", type=Path, help="root of the dataset")
    parser.add_argument(
        "--participant-label",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="participants to check, with or without sub- (default: all)",
    )
    parser.add_argument(
        "--session-label",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="sessions to check, with or without ses- (default: all)",
    )
    parser.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="FILE",
        help="JSON with the entities that scans must have, as for vxmprep",
    )
    parser.add_argument(
        "--fs-subjects-dir",
        type=Path,
        metavar="PATH",
        help="FreeSurfer's subjects directory (default: where vxmprep looks for it)",
    )
    parser.add_argument(
        "-d",
        "--derivatives",
        nargs="+",
        action="extend",
        default=[],
        type=named_path,
        metavar="NAME=PATH",
        help="derivatives with segmentations or brain masks, as for vxmprep",
    )
    parser.add_argument(
        "-o",
        "--output-dir",
        type=Path,
        metavar="PATH",
        help="where results would go, to check for room (default: the dataset's disk)",
    )
    parser.add_argument(
        "--nprocs",
        type=positive,
        default=available_processors(),
        metavar="N",
        help="processors that would be used (default: all)",
    )
    parser.add_argument("--headers-only", action="store_true", help="do not read voxels")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--version", action="version", version=f"vxmprep {vxmprep.__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    from vxmprep.bids.filters import read_filter_file
    from vxmprep.bids.index import DatasetError

    parser = build_parser()
    options = parser.parse_args(argv)
    if not options.bids_dir.is_dir():
        parser.error(f"{options.bids_dir}: no such folder; give the root of a BIDS dataset")
    for folder in options.derivatives:
        if not folder.is_dir():
            parser.error(f"--derivatives {folder}: no such folder")
    if options.fs_subjects_dir is not None and not options.fs_subjects_dir.is_dir():
        parser.error(f"--fs-subjects-dir {options.fs_subjects_dir}: no such folder")
    try:
        if options.bids_filter_file is not None:
            read_filter_file(options.bids_filter_file)
    except DatasetError as error:
        parser.error(str(error))
    scans, findings = examine(options)
    findings = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    counts = Counter(finding.level for finding in findings)
    if options.json:
        found = [asdict(finding) for finding in findings]
        print(json.dumps({"scans": len(scans), "findings": found}, indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            print(f"{finding.level}: {finding.file}: {finding.what}")
        said = ", ".join(counted(counts[level], level) for level in LEVELS)
        print(f"{counted(len(scans), 'T1w scan')}: {said}")
    return 1 if counts["error"] else 0


def examine(options: argparse.Namespace) -> tuple[list[Scan], list[Finding]]:
    """Look at everything."""
    from vxmprep.bids.dataset import find_scans, labelled, misnamed, well_named
    from vxmprep.bids.index import DatasetError

    try:
        every = find_scans(options.bids_dir, filter_file=options.bids_filter_file)
        asked = labelled(
            every,
            participants=options.participant_label,
            sessions=options.session_label,
            bids_dir=options.bids_dir,
        )
    except DatasetError as error:
        return [], [_finding("error", options.bids_dir, error)]
    refused = misnamed(asked, options.bids_dir)
    scans = [scan for scan in asked if scan not in refused]
    findings = [_finding("error", scan.path, why) for scan, why in refused.items()]
    findings += _without_scans(every, options)
    if not scans:
        return [], findings
    segmentations = _segmentations(scans, options)
    every = well_named(every, options.bids_dir)
    found = _masks(every, options)
    masks = found if len(found) == len(every) else {}  # none is taken where some lack one
    here = [{s: f for s, f in some.items() if f.exists()} for some in (segmentations, masks)]
    seen = list(_each_scan(scans, *here, options))
    findings += [finding for _, _, some in seen for finding in some]
    checkups = {scan.path: checkup for scan, checkup, _ in seen if checkup is not None}
    findings += _sessions(scans)
    findings += _twins(checkups)
    findings += _strip(every, found, checkups)
    findings += _not_fetched(scans, segmentations, "warning")
    findings += _not_fetched(scans, masks, "error")
    findings += _labels(scans, segmentations, options)
    return scans, findings + list(_machine(len(scans), options))


def _finding(level: str, file: Path | str, what: object) -> Finding:
    """Make a finding of a message that may begin with the file's name."""
    text = " ".join(str(what).split())
    return Finding(level, str(file), text.removeprefix(f"{file}: "))


def _without_scans(every: Sequence[Scan], options: argparse.Namespace) -> list[Finding]:
    """Name the participants of whom there is no T1w scan, where all are asked for."""
    from vxmprep.bids.participants import read_labels

    if options.participant_label or options.session_label:
        return []
    root = options.bids_dir
    scanned = {scan.path.relative_to(root.absolute()).parts[0] for scan in every}
    folders = {folder.name for folder in root.glob("sub-*") if folder.is_dir()}
    kept = " that --bids-filter-file lets pass" if options.bids_filter_file else ""
    empty = f"a folder, but no T1w scan (anat/*_T1w.nii.gz){kept}: nothing to register"
    absent = "in participants.tsv, but without a folder in the dataset"
    listed = {f"sub-{label}" for label in read_labels(root)}
    return [
        _finding("note", _some(sorted(names)), text)
        for names, text in ((folders - scanned, empty), (listed - folders, absent))
        if names
    ]


def _segmentations(scans: Sequence[Scan], options: argparse.Namespace) -> dict[Path, Path]:
    from vxmprep.bids.segmentations import find_segmentation

    found = {
        scan.path: find_segmentation(
            scan, freesurfer_dir=_freesurfer(options), derivatives=options.derivatives
        )
        for scan in scans
    }
    return {path: segmentation for path, segmentation in found.items() if segmentation}


def _freesurfer(options: argparse.Namespace) -> Path | None:
    from vxmprep.bids.segmentations import find_freesurfer_dir

    return find_freesurfer_dir(options.fs_subjects_dir, options.output_dir, options.bids_dir)


def _each_scan(
    scans: Sequence[Scan],
    segmentations: dict[Path, Path],
    masks: dict[Path, Path],
    options: argparse.Namespace,
) -> Iterator[tuple[Scan, Checkup | None, list[Finding]]]:
    """Look at one scan after the other."""
    for number, scan in enumerate(scans, start=1):
        if sys.stderr.isatty():
            print(
                f"\r{number} of {counted(len(scans), 'scan')}", end="", file=sys.stderr, flush=True
            )
        path = scan.path
        yield scan, *_scan(path, segmentations.get(path), masks.get(path), options)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _scan(
    path: Path, segmentation: Path | None, mask: Path | None, options: argparse.Namespace
) -> tuple[Checkup | None, list[Finding]]:
    from vxmprep.preparation.checkup import examine_header, examine_voxels
    from vxmprep.spatial.headers import inspect
    from vxmprep.spatial.images import ImageError

    try:
        inspect(path)
        findings = [
            _finding("error" if "opposite sides" in what else "warning", path, what)
            for what in examine_header(path)
        ]
        if options.headers_only:
            return None, findings
        checkup = examine_voxels(path, segmentation, mask, usual=_usual())
    except ImageError as error:
        return None, [_finding("error", path, error)]
    except MemoryError:
        return None, [_finding("error", path, "does not fit into memory; crop it")]
    if checkup.cut:
        what = "brain" if checkup.stripped else "head"
        text = f"the {what} is cut off ({', '.join(checkup.cut)}), which registers badly"
        findings.append(_finding("warning", path, f"{text}; {LEAVE_OUT}"))
    elif checkup.doubts:
        text = f"{'; '.join(checkup.doubts)}; {LEAVE_OUT}"
        whose = mask if mask is not None and not checkup.mask else path
        findings.append(_finding("warning", whose, text))
    if checkup.not_finite:
        what = "voxel is" if checkup.not_finite == 1 else "voxels are"
        text = f"{checkup.not_finite} {what} not finite and will count as 0"
        findings.append(_finding("warning", path, text))
    if checkup.segmentation:
        findings.append(_finding("error", segmentation, checkup.segmentation))
    if checkup.mask:
        findings.append(_finding("error", mask, checkup.mask))
    return checkup, findings


@cache
def _usual() -> MaskShape:
    """Give size and shape of the default atlas's brain."""
    from vxmprep.atlas import default_files
    from vxmprep.preparation.shape import MaskShape
    from vxmprep.spatial.images import load

    return MaskShape.of(load(default_files()[0]))


def _sessions(scans: Sequence[Scan]) -> list[Finding]:
    """Tell where a session has several scans."""
    groups: dict[tuple, list[Scan]] = {}
    for scan in scans:
        groups.setdefault((scan.participant, scan.session), []).append(scan)
    return [
        _finding(
            "note",
            ", ".join(scan.path.name for scan in group),
            f"{len(group)} T1w of one session: each is registered and counts in the group; choose "
            "with --bids-filter-file",
        )
        for group in groups.values()
        if len(group) > 1
    ]


def _twins(checkups: dict[Path, Checkup]) -> list[Finding]:
    first: dict[str, Path] = {}
    findings = []
    for path, checkup in checkups.items():
        other = first.setdefault(checkup.fingerprint, path)
        if other is not path:
            text = (
                f"its values are those of {other.name}, in place or turned: one scan under two "
                "names; remove one"
            )
            findings.append(_finding("error", path, text))
    return findings


def _masks(scans: Sequence[Scan], options: argparse.Namespace) -> dict[Path, Path]:
    from vxmprep.bids.segmentations import find_brain_mask

    found = {scan.path: find_brain_mask(scan, derivatives=options.derivatives) for scan in scans}
    return {path: mask for path, mask in found.items() if mask}


def _not_fetched(scans: Sequence[Scan], given: dict[Path, Path], level: str) -> list[Finding]:
    """Tell of segmentations or masks that are links to nothing."""
    from vxmprep.spatial.opening import NOT_FETCHED

    files = (given.get(scan.path) for scan in scans)
    return [_finding(level, f, NOT_FETCHED) for f in files if f is not None and not f.exists()]


def _strip(
    every: Sequence[Scan], masks: dict[Path, Path], checkups: dict[Path, Checkup]
) -> list[Finding]:
    """Tell where the brain masks will come from, which is decided for the whole dataset."""
    lacking = [scan for scan in every if scan.path not in masks]
    if not lacking:
        return [
            _finding("note", "skull", "all scans have a mask in --derivatives, which is taken")
        ]
    findings = _mixed(checkups)
    if len(lacking) < len(every):
        lack = "lacks" if len(lacking) == 1 else "lack"
        text = (
            f"{len(lacking)} of {len(every)} scans {lack} the brain mask in --derivatives that "
            "the others have, so none of these is taken; complete them"
        )
        findings.append(_finding("warning", _some([scan.path.name for scan in lacking]), text))
    return findings


def _some(names: Sequence[str]) -> str:
    """Name the first few."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _mixed(checkups: dict[Path, Checkup]) -> list[Finding]:
    stripped = [path for path, checkup in checkups.items() if checkup.stripped]
    heads = [path for path, checkup in checkups.items() if not checkup.stripped]
    if not (stripped and heads):
        kind = "skull-stripped already" if stripped else "whole heads; deepbet will strip them"
        return [_finding("note", "skull", f"all scans are {kind}")] if checkups else []
    fewer, what = (stripped, "") if len(stripped) <= len(heads) else (heads, "not ")
    text = (
        f"{len(fewer)} of {len(checkups)} scans {'is' if len(fewer) == 1 else 'are'} {what}"
        "skull-stripped, unlike the others: masks of different makers are a confound"
    )
    return [_finding("warning", _some([path.name for path in fewer]), text)]


def _labels(
    scans: Sequence[Scan], segmentations: dict[Path, Path], options: argparse.Namespace
) -> list[Finding]:
    lacking = [scan.path.name for scan in scans if scan.path not in segmentations]
    if not lacking:
        return []
    folder = _freesurfer(options)
    if not segmentations:
        where = f"in {folder}" if folder else "(no FreeSurfer directory was found)"
        text = f"no scan has labels {where}: no Dice will be measured; see --fs-subjects-dir, -d"
        return [_finding("warning" if folder else "note", "labels", text)]
    return [_finding("warning", _some(lacking), "without labels: no Dice will be measured")]


def _machine(scans: int, options: argparse.Namespace) -> Iterator[Finding]:
    """Tell what the machine has, against what the scans need."""
    memory = available_memory_gb()
    at_once = max(1, min(options.nprocs, int(memory / GB_PER_SCAN), scans))
    if memory < GB_PER_SCAN:
        text = f"{memory:.1f} GB, a registration takes {GB_PER_SCAN} GB and may be killed"
        yield _finding("error", "memory", text)
    hours = scans * SECONDS_PER_SCAN / at_once / 3600
    time = f"{hours:.1f} hours" if hours >= 1 else f"{max(2, math.ceil(60 * hours))} minutes"
    text = (
        f"about {time} for {counted(scans, 'scan')}, {at_once} at once ({memory:.0f} GB of memory)"
    )
    yield _finding("note", "time", f"{text}; training comes on top")
    yield _finding("note", "GPU", _gpu())
    place = (options.output_dir or options.bids_dir).absolute()
    while not place.exists():
        place = place.parent
    free, needed = shutil.disk_usage(place).free / 1e6, scans * MB_OF_OUTPUT
    level = "error" if free < needed else "note"
    text = f"{needed / 1000:.1f} GB of results, {free / 1000:.1f} GB are free"
    yield _finding(level, f"disk of {place}", text)


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none: registration does not need one; training does at 1 mm, less so at 2 mm"
    name, memory = torch.cuda.get_device_name(0), torch.cuda.mem_get_info(0)[1] / 2**30
    return f"{name}, {memory:.0f} GB"


if __name__ == "__main__":
    sys.exit(main())
