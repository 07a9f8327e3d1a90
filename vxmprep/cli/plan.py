"""What a run will do: which scans, with which files, by which graph."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import vxmprep
from vxmprep.atlas import Atlas, default_files, find_atlas, read_atlas
from vxmprep.bids.dataset import Scan, choose_scans, find_scans, well_named
from vxmprep.bids.derivatives import source_uri
from vxmprep.bids.index import DatasetError
from vxmprep.bids.records import FIRST, Record, Stage, seen_of
from vxmprep.bids.results import PICTURES
from vxmprep.bids.segmentations import find_brain_mask, find_freesurfer_dir, find_segmentation
from vxmprep.config import BUNDLED, Settings, UsageError
from vxmprep.spatial.files import checksum
from vxmprep.spatial.images import ImageError

if TYPE_CHECKING:
    from nipype.pipeline import engine as pe

    from vxmprep.morph.compute import Compute
    from vxmprep.reports.boilerplate import ModelUsed

PREPARED = ("brain", "align", "labels", "preview")
"""The stages of the level ``prepare``; ``participant`` has ``register``, ``evaluate`` and
``report`` too."""


@dataclass(frozen=True)
class Task:
    """What is to be done with one scan.

    Attributes
    ----------
    scan : Scan
        The scan.
    stages : tuple of Stage
        The stages asked for, in their order.
    missing : tuple of str
        Those that are not done, or no longer hold.
    record : Record
        What is done.
    segmentation, mask : Path or None
        Files of other programs.
    unfetched : Path or None
        A segmentation of which only a link is here; the scan goes on without it.
    problem : str
        Why the scan cannot be processed, as far as its header tells; empty if it can.
    gigabytes : float
        Memory of the scan at float32.
    """

    scan: Scan
    stages: tuple[Stage, ...]
    missing: tuple[str, ...]
    record: Record
    segmentation: Path | None
    mask: Path | None
    unfetched: Path | None = None
    problem: str = ""
    gigabytes: float = 0.1

    @property
    def pending(self) -> bool:
        """Whether there is work to do, and it can be done."""
        return bool(self.missing) and not self.problem


@dataclass(frozen=True)
class Plan:
    """A run, ready to start.

    Attributes
    ----------
    settings : Settings
        What was asked for.
    atlas : Atlas
        The atlas's files.
    tasks : tuple of Task
        A task per scan asked for.
    skull_strip : str
        How brains are found, decided for the whole dataset.
    scans : tuple of Scan
        All of the dataset, also those not asked for.
    """

    settings: Settings
    atlas: Atlas
    tasks: tuple[Task, ...]
    skull_strip: str
    scans: tuple[Scan, ...]

    @property
    def pending(self) -> tuple[Task, ...]:
        """The tasks with work to do."""
        return tuple(task for task in self.tasks if task.pending)

    @property
    def threads(self) -> int:
        """Processor threads per scan."""
        return self.settings.threads(len(self.tasks))

    @cached_property
    def compute(self) -> Compute:
        """Where the deformable registration runs, and in which precision."""
        from vxmprep.morph.compute import choose_compute

        return choose_compute(self.settings.device, self.settings.precision)

    @cached_property
    def model(self) -> ModelUsed | None:
        """What is said of the network, if there is one."""
        from vxmprep.cli.methods import model_used

        return model_used(self)

    def graph(self, tasks: Sequence[Task]) -> pe.Workflow:
        """Build the graph of some of the pending tasks."""
        from vxmprep.workflows import init_cohort_wf

        settings, atlas = self.settings, self.atlas
        approximate = "approximate, " if atlas.approximate_labels else ""
        return init_cohort_wf(
            scans=[self._branch(task) for task in tasks],
            atlas_image=str(atlas.image),
            atlas_mask=None if atlas.mask is None else str(atlas.mask),
            atlas_labels=None if atlas.labels is None else str(atlas.labels),
            space=atlas.name,
            output_dir=str(settings.output_dir),
            skull_strip=self.skull_strip,
            bias_correct=settings.n4,
            affine=settings.affine,
            model=None if settings.model is None else str(settings.model),
            iterations=settings.refine_iterations,
            device=self.compute.device,
            precision=self.compute.precision,
            omp_nthreads=self.threads,
            reference=f"atlas ({approximate}{atlas.labels.name})" if atlas.labels else "none",
        )

    def _branch(self, task: Task) -> dict:
        """Give the arguments of `init_scan_wf` that are this scan's own."""
        ready: dict = {}
        for stage in task.stages:
            if stage.name not in task.missing:
                ready |= {name: str(path) for name, path in task.record.files(stage).items()}
                if stage.name == "brain":
                    done = task.record.stages[stage.key]
                    ready |= {name: done[name] for name in ("strip_method", "flags")}
        generator = {"GeneratedBy": {"Name": "vxmprep", "Version": vxmprep.__version__}}
        root, segmentation = self.settings.bids_dir, task.segmentation
        return {
            "name": branch_name(task.scan),
            "t1w": str(task.scan.path),
            "entities": task.scan.entities,
            "source": source_uri(task.scan.path, root),
            "stages": task.missing,
            "ready": ready,
            "segmentation": None if segmentation is None else str(segmentation),
            "segmentation_source": segmentation and source_uri(segmentation, root),
            "mask_file": None if task.mask is None else str(task.mask),
            "provenance": {stage.name: {**generator, **stage.settings} for stage in task.stages},
            "mem_gb": task.gigabytes,
        }


def branch_name(scan: Scan) -> str:
    """Name a scan's branch of the graph, which is also its folder in the work directory."""
    return re.sub(r"\W", "_", scan.stem) + "_wf"


def make_plan(settings: Settings) -> Plan:
    """Find scans, atlas, masks and segmentations, and what is done already.

    Raises
    ------
    DatasetError, AtlasError, UsageError
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
    every = find_scans(
        settings.bids_dir,
        filter_file=settings.bids_filter_file,
        database_dir=settings.bids_database_dir,
    )
    scans = choose_scans(
        every,
        participants=settings.participant_label,
        sessions=settings.session_label,
        bids_dir=settings.bids_dir,
    )
    # An explicit choice concerns the scans asked for; the automatic one is the dataset's.
    method, masks = _masks(
        settings,
        well_named(every, settings.bids_dir) if settings.skull_strip == "auto" else scans,
        freesurfer,
    )
    provenance = _provenance(settings, atlas, method)
    tasks = [
        _task(scan, settings, atlas, provenance, masks.get(scan.stem), freesurfer)
        for scan in scans
    ]
    return Plan(settings, atlas, tuple(tasks), method, tuple(every))


def _task(
    scan: Scan,
    settings: Settings,
    atlas: Atlas,
    provenance: Mapping[str, dict],
    mask: Path | None,
    freesurfer: Path | None,
) -> Task:
    from vxmprep.spatial.headers import inspect
    from vxmprep.spatial.opening import open_image

    segmentation = find_segmentation(
        scan, freesurfer_dir=freesurfer, derivatives=settings.derivatives
    )
    record = Record.of(settings.output_dir, scan.stem)
    stages = _stages(scan, settings, atlas, provenance, mask, segmentation)
    unfetched = None
    wanted = settings.force or not {"labels", "evaluate"}.isdisjoint(record.missing(stages))
    if segmentation is not None and not segmentation.exists() and wanted:
        segmentation, unfetched = None, segmentation
        stages = _stages(scan, settings, atlas, provenance, mask, segmentation)
    if settings.reports_only:
        there = _registered(record, stages)
        return Task(scan, stages, PICTURES if there else (), record, segmentation, mask)
    missing = tuple(s.name for s in stages) if settings.force else tuple(record.missing(stages))
    task = Task(scan, stages, missing, record, segmentation, mask, unfetched)
    if not missing:
        return task
    try:
        grid = inspect(scan.path)
        if mask is not None and not mask.exists():
            open_image(mask)  # says what is to be done
    except ImageError as error:
        return replace(task, problem=str(error))
    return replace(task, gigabytes=math.prod(grid.shape) * 4 / 2**30)


def _stages(
    scan: Scan,
    settings: Settings,
    atlas: Atlas,
    provenance: Mapping[str, dict],
    mask: Path | None,
    segmentation: Path | None,
) -> tuple[Stage, ...]:
    labels = () if segmentation is None else (segmentation,)
    inputs = {
        "brain": (scan.path,) if mask is None else (scan.path, mask),
        "labels": labels,
        "evaluate": labels,
    }
    after = {
        "align": "brain",
        "labels": "align",
        "preview": "align",
        "register": "align",
        "evaluate": "register",
        "report": "evaluate",
    }
    wanted = provenance if "participant" in settings.levels else PREPARED
    return tuple(
        Stage(
            name,
            "" if name == FIRST else atlas.name,
            provenance[name],
            inputs.get(name, ()),
            after.get(name, ""),
            _seen(inputs.get(name, ())),
        )
        for name in wanted
    )


def _registered(record: Record, stages: Sequence[Stage]) -> bool:
    """Tell whether a registration lies there whole, with whatever settings it was made."""
    before = [stage for stage in stages if stage.name not in PICTURES]
    return all(stage.key in record.stages for stage in before) and all(
        path.is_file() for stage in before for path in record.files(stage).values()
    )


def _seen(inputs: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Look at a stage's inputs; one that is not there is its scan's problem, told elsewhere."""
    try:
        return tuple(seen_of(path) for path in inputs)
    except OSError:
        return ()


def _provenance(settings: Settings, atlas: Atlas, skull_strip: str) -> dict[str, dict]:
    """Give the settings, atlas and model that matter to each stage, as sidecars say them."""
    files = atlas.description()
    image = {key: files[key] for key in ("Name", "Image", "Mask") if key in files}
    model = settings.model
    network = (
        "none"
        if model is None
        else {"File": settings.model_label(model), "SHA256": checksum(model)}
    )
    brain = {"SkullStrip": skull_strip, "BiasCorrection": "N4" if settings.n4 else "none"}
    align = {**brain, "Affine": settings.affine}
    register = {**align, "RefineIterations": settings.refine_iterations}
    if model is not None and settings.precision != "auto":
        # What auto chose on another machine is no reason to do a scan again.
        register["Precision"] = settings.precision
    return {
        "brain": {"Settings": brain},
        "align": {"Settings": align, "Atlas": image},
        "labels": {"Settings": align, "Atlas": image},
        "preview": {"Atlas": files},
        "register": {"Settings": register, "Atlas": image, "Model": network},
        "evaluate": {"Settings": register, "Atlas": files, "Model": network},
        "report": {},
    }


def _masks(
    settings: Settings, scans: list[Scan], freesurfer: Path | None
) -> tuple[str, dict[str, Path]]:
    """Decide once for the dataset where masks come from: mixed methods are a confound."""
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


def _check(settings: Settings, atlas: Atlas) -> None:
    """Look at what every scan needs, before any work starts."""
    if atlas.image != default_files()[0] or settings.atlas_labels is not None:
        read_atlas(atlas)
    if settings.device.startswith("cuda"):
        import torch

        count = torch.cuda.device_count()
        if int(settings.device.partition(":")[2] or 0) >= count:
            raise UsageError(
                f"--device {settings.device}: torch sees {count or 'no'} GPU here; use --device "
                "auto or cpu"
            )
    if settings.model not in (None, BUNDLED):
        from vxmprep.morph.checkpoint import CheckpointError, load_checkpoint

        try:
            dims = load_checkpoint(settings.model).network.dims
        except CheckpointError as error:
            raise UsageError(f"--model {error}") from error
        if dims != 3:
            raise UsageError(
                f"--model {settings.model}: a network for planes; give one for volumes"
            )
