"""What the methods text says of scans that are done, from their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from vxmprep.bids.records import FIRST, Record
from vxmprep.reports.boilerplate import AtlasUsed, Methods, ModelUsed, versions

EITHER = "float32 or bfloat16"
"""What is said of a precision that is not known."""


def methods_of_records(
    records: Sequence[Record], space: str, model: ModelUsed | None = None
) -> Methods | None:
    """Give what the methods text of some scans is made from.

    Parameters
    ----------
    records : sequence of Record
        Of scans that were processed alike.
    space : str
        Label of the atlas's space.
    model : ModelUsed, optional
        More on the network than records say, where it is at hand; left aside if it is another.

    Returns
    -------
    Methods or None
        None if no scan is aligned to that atlas.
    """
    aligned = [one for one in records if f"align {space}" in one.stages and FIRST in one.stages]
    if not aligned:
        return None
    registered = [one for one in aligned if f"register {space}" in one.stages]
    stage = _last(registered or aligned, space)
    settings, atlas = stage["settings"]["Settings"], stage["settings"]["Atlas"]
    compared = [
        one
        for one in registered
        if "Labels" in atlas and one.stages.get(f"evaluate {space}", {}).get("inputs")
    ]
    found = {one.stages[FIRST].get("strip_method") for one in aligned}
    return Methods(
        levels=("participant",) if registered else ("prepare",),
        scans=len(aligned),
        participants=1,
        skull_strip=(found.pop() if len(found) == 1 else None) or settings["SkullStrip"],
        n4=settings["BiasCorrection"] == "N4",
        affine=settings["Affine"],
        atlas=AtlasUsed(
            name=atlas["Name"],
            image=atlas["Image"]["File"],
            sha256=atlas["Image"]["SHA256"],
            labels=atlas.get("Labels", {}).get("File"),
            approximate="LabelsNote" in atlas,
        ),
        model=_model(stage["settings"].get("Model"), model),
        iterations=settings.get("RefineIterations", 0),
        evaluated=len(compared),
        versions=stage.get("programs") or {**versions(), "vxmprep": stage["version"]},
    )


def _last(records: Sequence[Record], space: str) -> dict:
    """Give the last stage that tells how scans were processed."""
    for name in ("evaluate", "register", "align"):
        for record in records:
            if f"{name} {space}" in record.stages:
                return record.stages[f"{name} {space}"]
    raise ValueError(f"no scan is aligned to {space}")


def _model(used: Mapping | str | None, known: ModelUsed | None) -> ModelUsed | None:
    if not isinstance(used, Mapping):
        return None
    if known is not None and known.sha256 == used["SHA256"]:
        return known
    return ModelUsed(
        name=str(PurePath(used["File"])), sha256=used["SHA256"], steps=0, precision=EITHER
    )
