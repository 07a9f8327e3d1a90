"""What a run will do: which scans, with which files, by which graph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nb
import numpy as np

import vxmprep
from vxmprep.atlas import Atlas, AtlasError, find_atlas
from vxmprep.bids.dataset import DatasetError, Scan, find_scans
from vxmprep.bids.derivatives import source_uri
from vxmprep.bids.names import METRICS, derivative_path
from vxmprep.bids.segmentations import find_brain_mask, find_freesurfer_dir, find_segmentation
from vxmprep.config import Settings, UsageError
from vxmprep.spatial.files import checksum

if TYPE_CHECKING:
    from pathlib import Path

    from nipype.pipeline import engine as pe


@dataclass(frozen=True)
class Plan:
    """A run, ready to start.

    Attributes
    ----------
    settings : Settings
        What was asked for.
    scans : tuple of Scan
        The scans to process.
    atlas : Atlas
        The atlas's files.
    branches : dict
        Arguments of `init_scan_wf` by the scan's stem.
    threads : int
        Processor threads per scan.
    """

    settings: Settings
    scans: tuple[Scan, ...]
    atlas: Atlas
    branches: dict[str, dict]
    threads: int

    def graph(self) -> pe.Workflow:
        """Build the graph."""
        from vxmprep.workflows import init_cohort_wf

        settings, atlas = self.settings, self.atlas
        approximate = "approximate, " if atlas.approximate_labels else ""
        return init_cohort_wf(
            scans=list(self.branches.values()),
            atlas_image=str(atlas.image),
            atlas_mask=None if atlas.mask is None else str(atlas.mask),
            atlas_labels=None if atlas.labels is None else str(atlas.labels),
            space=atlas.name,
            output_dir=str(settings.output_dir),
            common=self._provenance(),
            bias_correct=settings.n4,
            affine=settings.affine,
            model=None if settings.model is None else str(settings.model),
            iterations=settings.refine_iterations,
            device=_device(settings.device),
            omp_nthreads=self.threads,
            reference=f"atlas ({approximate}{atlas.labels.name})" if atlas.labels else "none",
        )

    def metrics_files(self) -> dict[str, Path]:
        """Give the file of measures that each scan will have."""
        name = {"space": self.atlas.name, **METRICS}
        return {
            scan.stem: derivative_path(self.settings.output_dir, scan.entities, **name)
            for scan in self.scans
        }

    def _provenance(self) -> dict:
        model = self.settings.model
        return {
            "GeneratedBy": {"Name": "vxmprep", "Version": vxmprep.__version__},
            "Atlas": self.atlas.description(),
            "Model": "none" if model is None else {"File": model.name, "SHA256": checksum(model)},
            "Settings": self.settings.that_matter(),
        }


def branch_name(scan: Scan) -> str:
    """Name a scan's branch of the graph, which is also its folder in the work directory."""
    return re.sub(r"\W", "_", scan.stem) + "_wf"


def make_plan(settings: Settings) -> Plan:
    """Find scans, atlas, masks and segmentations.

    Raises
    ------
    DatasetError, AtlasError
        If something is missing, before any work starts.
    """
    freesurfer = find_freesurfer_dir(
        settings.fs_subjects_dir, settings.output_dir, settings.bids_dir
    )
    atlas = find_atlas(
        settings.atlas,
        name=settings.atlas_name,
        labels=settings.atlas_labels,
        freesurfer_dir=freesurfer,
    )
    _check(settings, atlas)
    scans = find_scans(
        settings.bids_dir,
        participants=settings.participant_label,
        sessions=settings.session_label,
    )
    method, masks = _masks(settings, scans, freesurfer)
    branches = {
        scan.stem: _branch(scan, settings, freesurfer, method, masks.get(scan.stem))
        for scan in scans
    }
    return Plan(settings, tuple(scans), atlas, branches, settings.threads(len(scans)))


def _masks(
    settings: Settings, scans: list[Scan], freesurfer: Path | None
) -> tuple[str, dict[str, Path]]:
    """Decide once for the cohort where masks come from: mixed methods are a confound."""
    method = settings.skull_strip
    if method not in ("auto", "derivatives", "freesurfer"):
        return method, {}
    places = (
        {"freesurfer_dir": freesurfer}
        if method == "freesurfer"
        else {"derivatives": settings.derivatives}
    )
    found = {scan.stem: find_brain_mask(scan, **places) for scan in scans}
    lacking = [stem for stem, mask in found.items() if mask is None]
    if not lacking:
        return "freesurfer" if method == "freesurfer" else "derivatives", found
    if method == "auto":
        return "auto", {}
    raise DatasetError(
        f"--skull-strip {method}: no brain mask for {lacking[0]}"
        + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else "")
        + "; check --derivatives or --fs-subjects-dir, or choose --skull-strip auto"
    )


def _branch(
    scan: Scan, settings: Settings, freesurfer: Path | None, method: str, mask: Path | None
) -> dict:
    segmentation = find_segmentation(
        scan, freesurfer_dir=freesurfer, derivatives=settings.derivatives
    )
    root = settings.bids_dir
    return {
        "name": branch_name(scan),
        "t1w": str(scan.path),
        "entities": scan.entities,
        "source": source_uri(scan.path, root),
        "segmentation": None if segmentation is None else str(segmentation),
        "segmentation_source": None if segmentation is None else source_uri(segmentation, root),
        "mask_file": None if mask is None else str(mask),
        "skull_strip": method,
        "mem_gb": _gigabytes(scan.path),
    }


def _gigabytes(path: Path) -> float:
    """Estimate a scan's size in memory at float32 from its header; 0.1 where there is none."""
    try:
        return float(np.prod(nb.load(path).shape) * 4 / 2**30)
    except Exception:
        return 0.1  # the scan's own branch will say what is wrong with it


def _check(settings: Settings, atlas: Atlas) -> None:
    """Look at what every scan needs, before any work starts."""
    try:
        nb.load(atlas.image)
    except Exception as error:
        raise AtlasError(f"--atlas {atlas.image}: cannot be read as an image") from error
    if settings.device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise UsageError(
                f"--device {settings.device}: torch sees no GPU here; use --device auto or cpu"
            )
    if settings.model is not None:
        from vxmprep.morph.checkpoint import CheckpointError, load_checkpoint

        try:
            load_checkpoint(settings.model)
        except CheckpointError as error:
            raise UsageError(f"--model {error}") from error


def _device(name: str) -> str:
    if name != "auto":
        return name
    from vxmprep.registration import chosen_device

    return chosen_device(name)
