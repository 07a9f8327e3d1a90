"""What the methods text says of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vxmprep.cli.plan import Plan
    from vxmprep.reports.boilerplate import Methods, ModelUsed


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
        model=None if settings.model is None else _model(plan),
        iterations=settings.refine_iterations,
        evaluated=len(segmented) if "participant" in settings.levels else 0,
        versions=versions(),
    )


def _model(plan: Plan) -> ModelUsed:
    """Give what is said of the network, which its file tells."""
    from vxmprep.morph.checkpoint import load_checkpoint
    from vxmprep.reports.boilerplate import ModelUsed
    from vxmprep.spatial.files import checksum

    path = plan.settings.model
    model = load_checkpoint(path)
    return ModelUsed(
        name=path.name,
        sha256=checksum(path),
        steps=model.network.steps,
        precision=plan.compute.precision,
        program=model.description.get("origin"),
    )
