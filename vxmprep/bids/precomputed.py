"""A cohort's results as fMRIPrep and sMRIPrep take them in place of their own (``--derivatives``).

What they look for is named in sMRIPrep's ``io_spec.json`` (0.19.5): ``desc-preproc_T1w`` and
``desc-brain_mask`` without a space, and any ``_xfm.h5`` or ``_xfm.txt`` between T1w and a space.
They must find one of each, so a folder as vxmprep writes it, with the affine beside the whole
transform, will not do.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import vxmprep
from vxmprep.bids.derivatives import read_json, sidecar_of, write_json
from vxmprep.bids.names import METRICS
from vxmprep.bids.transforms import SCAN, entities_of, grid_file, opposite
from vxmprep.config import UsageError
from vxmprep.spatial.files import replacing
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import write_composite
from vxmprep.spatial.opening import open_series
from vxmprep.spatial.transform import Field, Transform, read_itk

NAME = "vxmprep: registered scans for fMRIPrep"

STEPS_PER_MM = 64
"""Displacements are rounded to this fraction of a millimetre: smaller files."""


@dataclass(frozen=True)
class Source:
    """One scan's transforms to one atlas, and what belongs to them.

    Attributes
    ----------
    forward, inverse : Path
        What resamples the scan onto the atlas, and back.
    scan, mask : Path
        Bias-corrected scan and its brain mask.
    atlas : Path
        An image on the atlas's grid.
    space : str
        What fMRIPrep calls the atlas.
    verdict : str
        That of the registration; empty where it was not judged.
    """

    forward: Path
    inverse: Path
    scan: Path
    mask: Path
    atlas: Path
    space: str
    verdict: str
    damaged: tuple[str, ...]

    @classmethod
    def of(cls, forward: Path) -> Source:
        """Name what lies beside a transform."""
        inverse = opposite(forward)
        scan, atlas = grid_file(inverse), grid_file(forward)
        stem, own = scan.name.split("_desc-")[0], entities_of(forward)["to"]
        end = f"_desc-{METRICS['desc']}_{METRICS['suffix']}{METRICS['extension']}"
        beside = (sidecar_of(forward), forward.with_name(f"{stem}_space-{own}{end}"))
        sidecar, metrics = (read_json(path) for path in beside)
        told = zip(beside, (sidecar, metrics), strict=True)
        damaged = tuple(path.name for path, content in told if path.is_file() and not content)
        mask = forward.with_name(f"{stem}_desc-brain_mask.nii.gz")
        space = _templateflow_name(sidecar) or own
        verdict = metrics.get("Quality", {}).get("Verdict", "")
        return cls(forward, inverse, scan, mask, atlas, space, verdict, damaged)

    @property
    def stem(self) -> str:
        """What the names of the scan's files begin with."""
        return self.scan.name.split("_desc-")[0]

    @property
    def missing(self) -> list[str]:
        """Names of the files that are not there."""
        files = (self.inverse, self.scan, self.mask, self.atlas)
        return [path.name for path in files if not path.is_file()]


def find_sources(output_dir: Path, *, sessionwise: bool = False) -> dict[str, list[Source]]:
    """Find what can be handed over, by participant: scans in the order of their names.

    Parameters
    ----------
    output_dir : path
        What vxmprep wrote.
    sessionwise : bool
        By participant and session instead.

    Raises
    ------
    UsageError
        If nothing in the folder is registered.
    """
    found: dict[str, list[Source]] = {}
    for path in sorted(output_dir.glob(f"sub-*/**/anat/*_from-{SCAN}_to-*_mode-image_xfm.h5")):
        own = entities_of(path)
        if "desc" in own:
            continue
        whose = f"sub-{own['sub']}"
        if sessionwise and "ses" in own:
            whose += f"_ses-{own['ses']}"
        found.setdefault(whose, []).append(Source.of(path))
    if not found:
        raise UsageError(f"{output_dir}: no registered scans there; give an output of vxmprep")
    return found


def check_target(target: Path, output_dir: Path) -> None:
    """Refuse a folder that holds something else.

    Raises
    ------
    UsageError
        If it is the output itself, or holds another dataset.
    """
    path = target / "dataset_description.json"
    ours = read_json(path).get("Name") == NAME
    if target.resolve() == output_dir.resolve() or (
        target.exists() and not (target.is_dir() and (ours or not any(target.iterdir())))
    ):
        raise UsageError(f"-o {target}: is not empty; give a folder of its own")


def hand_over(output_dir: Path, target: Path, *, sessionwise: bool = False) -> Iterator[str]:
    """Write a folder for fMRIPrep's ``--derivatives``; what is there and newer is kept.

    What an earlier call wrote and this one would not is removed: fMRIPrep must find one of each.

    fMRIPrep takes one scan of each participant, which is the first here, or with
    ``--subject-anatomical-reference sessionwise`` one of each session. Transforms get a field at
    every voxel of the atlas's grid: fMRIPrep's resampler interpolates between them with splines,
    which bends a coarser field by up to 0.6 mm.

    Parameters
    ----------
    output_dir : path
        What vxmprep wrote.
    target : path
        The folder, made if it is not there.
    sessionwise : bool
        Hand over the first scan of each session.

    Yields
    ------
    str
        What became of each participant, in one line that names the scans left out.

    Raises
    ------
    UsageError
        If there is nothing to hand over, or the folder holds something else.
    """
    sources = find_sources(output_dir, sessionwise=sessionwise)
    check_target(target, output_dir)
    description = {
        "Name": NAME,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "vxmprep", "Version": vxmprep.__version__}],
    }
    write_json(target / "dataset_description.json", description)
    written: set[Path] = set()
    found = [source for every in sources.values() for source in every]
    for participant, every in sources.items():
        ours = [source for source in every if source.scan == every[0].scan]
        others = sorted({source.stem for source in every} - {ours[0].stem})
        reason = _unfit(ours)
        if reason:
            yield f"{participant}: left out, {reason}"
            continue
        anew = False
        for source in ours:
            folder = target / source.forward.parent.relative_to(output_dir)
            names, changed = _write(source, folder)
            written |= names
            anew |= changed
        spaces = ", ".join(source.space for source in ours)
        one = "session" if sessionwise else "participant"
        more = f"; not {', '.join(others)}: fMRIPrep takes one scan of a {one}" if others else ""
        kept = "" if anew else ", up to date"
        yield f"{participant} -> {folder} ({spaces}){kept}{more}"
    for person in sorted({source.forward.parts[len(output_dir.parts)] for source in found}):
        # What an earlier call has handed over of these, fMRIPrep would find beside it.
        for path in sorted((target / person).glob("**/anat/sub-*")):
            if path not in written:
                path.unlink()
                yield f"{person}: removed {path.name}, which is no longer handed over"


def _unfit(sources: list[Source]) -> str:
    missing = [name for source in sources for name in source.missing]
    if missing:
        return f"{missing[0]} is not there"
    damaged = [name for source in sources for name in source.damaged]
    if damaged:
        return f"{damaged[0]} is damaged; register it anew, with --force"
    failed = [source.space for source in sources if source.verdict == "fail"]
    return f"its registration to {failed[0]} was judged a failure" if failed else ""


def _templateflow_name(sidecar: dict) -> str:
    """Name the template, as ``NAME`` or ``NAME+COHORT``, if the atlas is one of TemplateFlow's."""
    file = sidecar.get("Atlas", {}).get("Image", {}).get("File", "")
    found = re.match(r"tpl-([a-zA-Z0-9]+)(?:_cohort-([a-zA-Z0-9]+))?_", file)
    return "+".join(part for part in found.groups() if part) if found else ""


def _write(source: Source, folder: Path) -> tuple[set[Path], bool]:
    """Name what belongs into the folder, and tell whether any of it had to be written."""
    grid, written, anew = None, set(), False
    for path in (source.scan, source.mask, source.forward, source.inverse):
        own = entities_of(source.forward)["to"]
        new = folder / path.name.replace(f"-{own}_", f"-{source.space}_")
        written |= {new, sidecar_of(new)}
        if new.is_file() and new.stat().st_mtime >= path.stat().st_mtime:
            continue
        anew = True
        if path.suffix == ".h5":
            grid = grid or Grid.of(open_series(source.atlas))
            _write_full(path, new, grid)
        else:
            _copy(path, new)
        if sidecar_of(path).is_file():
            _copy(sidecar_of(path), sidecar_of(new))
    return written, anew


def _write_full(path: Path, new: Path, grid: Grid) -> None:
    """Write a composite with its field at every voxel of a grid."""
    members = read_itk(path).members
    fields = [member for member in members if isinstance(member, Field)]
    affines = [member for member in members if not isinstance(member, Field)]
    if (len(fields), len(affines)) != (1, 1):
        raise UsageError(f"{path}: not a transform of vxmprep's, of one affine and one field")
    displacement = Transform((fields[0],)).displacements(grid)
    write_composite(
        new,
        affine=affines[0],
        displacement=np.rint(displacement * STEPS_PER_MM) / STEPS_PER_MM,
        grid=grid,
        field_acts_first=isinstance(members[0], Field),
    )


def _copy(path: Path, new: Path) -> None:
    with replacing(new) as temporary:
        shutil.copyfile(path, temporary)
