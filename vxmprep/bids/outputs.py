"""Which derivatives a scan has, and what their sidecars say."""

from __future__ import annotations

import json
from pathlib import Path

from vxmprep.bids.derivatives import ScanWriter, sidecar_of
from vxmprep.bids.names import METRICS
from vxmprep.reports.contents import FIGURES

FIGURE = {"datatype": "figures", "suffix": "T1w", "extension": ".webp"}
"""What names a picture, beside its space and what it shows."""

SUMMARIES = {"affine_summary": "affine", "register_summary": "forward"}
"""Measures (JSON) by the file whose sidecar holds them, under ``Measures``."""


def write_scan(
    writer: ScanWriter,
    given: dict[str, Path],
    space: str,
    sources: list[str],
    *,
    strip_method: str,
) -> dict[str, Path]:
    """Write the derivatives of a scan that there are files for.

    Parameters
    ----------
    writer : ScanWriter
        Knows the output folder and the scan.
    given : dict
        Files by what they hold (see the keys below).
    space : str
        Label of the atlas's space.
    sources : list of str
        BIDS URIs of the scan and, if there is one, of its segmentation.
    strip_method : str
        ``none`` if the scan came skull-stripped.

    Returns
    -------
    dict
        The files written by what they hold; those of `SUMMARIES` are sidecars.
    """
    measures = {
        SUMMARIES[key]: json.loads(given[key].read_text(encoding="utf-8"))
        for key in SUMMARIES
        if key in given
    }
    written = {}
    for key, (write, metadata, name) in _plan(writer, space, sources, strip_method).items():
        if key in given:
            more = {"Measures": measures[key]} if key in measures else {}
            metadata = None if metadata is None else {**metadata, **more}
            written[key] = write(given[key], metadata, **name)
    for key, owner in SUMMARIES.items():
        if key in given:
            written[key] = sidecar_of(written[owner])
    return written


def _plan(writer: ScanWriter, space: str, sources: list[str], strip_method: str) -> dict:
    """Give how each file is written, what its sidecar says and how it is named."""
    scan, segmentation = {"Sources": sources[:1]}, {"Sources": sources}
    here = {"SpatialReference": "orig"}
    there = {"SpatialReference": f"the atlas's image, see Atlas ({space})"}
    network = {
        "SpatialReference": f"the atlas's world, see Atlas ({space}), affinely aligned",
        "Resolution": "the network's grid: 1 mm, the box of the atlas's brain",
    }
    stripped = {"SkullStripped": strip_method == "none"}
    t1w, mask = {"desc": "preproc", "suffix": "T1w"}, {"desc": "brain", "suffix": "mask"}
    brain = {"Type": "Brain", **scan}
    labels, image = {"suffix": "dseg", "space": space}, writer.image
    conformed = {"space": space, "resolution": "network", "desc": "conformed"}
    method = {"Method": strip_method}
    return {
        "t1w": (image, {**scan, **here, **stripped}, {**t1w, "intensities": True}),
        "mask": (image, {**brain, **here, **method}, mask),
        "affine": (writer.copy, scan, {**_transform("T1w", space, ".txt"), "desc": "affine"}),
        "conformed": (
            image,
            {**scan, **network, "SkullStripped": True},
            {**conformed, "suffix": "T1w"},
        ),
        "conformed_labels": (
            image,
            {**segmentation, **network},
            {**conformed, "suffix": "dseg"},
        ),
        "forward": (writer.copy, scan, _transform("T1w", space, ".h5")),
        "inverse": (writer.copy, scan, _transform(space, "T1w", ".h5")),
        "t1w_in_atlas": (
            image,
            {**scan, **there, **stripped},
            {**t1w, "space": space, "intensities": True},
        ),
        "mask_in_atlas": (image, {**brain, **there}, {**mask, "space": space}),
        "labels_in_atlas": (image, {**segmentation, **there}, {**labels, "desc": "aseg"}),
        "labels_in_atlas_affine": (
            image,
            {**segmentation, **there},
            {**labels, "desc": "asegaffine"},
        ),
        "atlas_labels_in_scan": (image, {**scan, **here}, {"suffix": "dseg", "desc": "atlas"}),
        "jacobian": (
            image,
            {**scan, **there},
            {"desc": "jacobian", "suffix": "map", "space": space},
        ),
        "dice": (
            writer.copy,
            None,
            {**METRICS, "space": space, "suffix": "dice", "extension": ".tsv"},
        ),
        "metrics": (writer.copy, None, {"space": space, **METRICS}),
        **{name: (writer.copy, None, {"space": space, **_shown(name)}) for name in FIGURES},
    }


def _shown(name: str) -> dict[str, str]:
    """Give what names a file that is shown in the page of a participant."""
    more = {"extension": ".js"} if name == "viewer" else {}
    return {**FIGURE, **more, "desc": name.removeprefix("figure_")}


def _transform(start: str, end: str, extension: str) -> dict[str, str]:
    return {
        "from": start,
        "to": end,
        "mode": "image",
        "suffix": "xfm",
        "extension": extension,
    }
