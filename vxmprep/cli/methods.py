"""What the methods text says of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vxmprep.config import BUNDLED, DEFAULT_ATLAS

if TYPE_CHECKING:
    from pathlib import Path

    from vxmprep.cli.plan import Plan
    from vxmprep.reports.boilerplate import Methods, ModelUsed
    from vxmprep.reports.training import TrainingUsed


def methods_of(plan: Plan) -> Methods:
    """Give what the methods text is made from.

    Parameters
    ----------
    plan : Plan
        The run; scans that cannot be processed do not count.
    """
    from vxmprep.bids.records import FIRST
    from vxmprep.reports.boilerplate import AtlasUsed, Methods, versions
    from vxmprep.spatial.files import checksum

    settings, atlas = plan.settings, plan.atlas
    tasks = [task for task in plan.tasks if not task.problem]
    segmented = [task for task in tasks if task.segmentation is not None and atlas.labels]
    # What was seen in the scans, once they are processed, is said instead of what would be done.
    found = {
        task.record.stages[FIRST]["strip_method"] for task in tasks if FIRST in task.record.stages
    }
    seen = found.pop() if plan.skull_strip == "auto" and len(found) == 1 else plan.skull_strip
    return Methods(
        levels=settings.levels,
        scans=len(tasks),
        participants=len({task.scan.participant for task in tasks}),
        skull_strip=seen,
        n4=settings.n4,
        affine=settings.affine,
        atlas=AtlasUsed(
            name=atlas.name,
            image=atlas.image.name,
            sha256=checksum(atlas.image),
            labels=None if atlas.labels is None else atlas.labels.name,
            approximate=atlas.approximate_labels,
        ),
        model=model_used(plan),
        iterations=settings.refine_iterations,
        evaluated=len(segmented) if "participant" in settings.levels else 0,
        versions=versions(),
    )


def model_used(plan: Plan) -> ModelUsed | None:
    """Give what is said of the network, which its file tells once it is there."""
    from vxmprep.reports.boilerplate import ModelUsed
    from vxmprep.spatial.files import checksum

    settings = plan.settings
    trains = "train" in settings.levels
    path = settings.model_folder / "model.pt" if trains else settings.model
    if path is None:
        return None
    precision = plan.compute.precision
    if not path.is_file():
        from vxmprep.reports.training import TrainingUsed
        from vxmprep.training.initial import name_of

        mapping, start = settings.training.as_mapping(), settings.initial_model
        begins = start is not None and start.is_file()
        initial = {"name": name_of(start), "checksum": checksum(start)} if begins else None
        return ModelUsed(
            name=settings.model_label(path),
            sha256="",
            steps=settings.training.integration_steps,
            precision=precision,
            training=TrainingUsed(settings=mapping, initial=initial),
        )
    from vxmprep.morph.checkpoint import load_checkpoint

    model = load_checkpoint(path)
    return ModelUsed(
        name=settings.model_label(path),
        sha256=checksum(path),
        steps=model.network.steps,
        precision=precision,
        program=model.description.get("origin"),
        training=_training(model.description),
    )


def trained_to(path: Path) -> str | None:
    """Give the name of the only atlas that a network was trained for, if its file tells it."""
    if path == BUNDLED:
        return DEFAULT_ATLAS
    from vxmprep.morph.checkpoint import load_checkpoint

    description = load_checkpoint(path).description
    atlas, training = description.get("atlas"), description.get("training")
    if not isinstance(atlas, Mapping) or not isinstance(training, Mapping):
        return None
    return atlas.get("name") if training.get("pairs") == "atlas" else None


def _training(description: Mapping) -> TrainingUsed | None:
    """Give what a checkpoint says of its training, if it says it."""
    from vxmprep.reports.training import TrainingUsed

    counts = description.get("split")
    if not counts or "training" not in description:
        return None
    return TrainingUsed(
        settings=description["training"],
        scans=counts["train"]["scans"],
        participants=counts["train"]["participants"],
        validation=counts["validation"]["participants"],
        iteration=description["iteration"],
        initial=description.get("initial_model"),
    )
