"""Which derivatives a scan has, and what their sidecars say."""

from __future__ import annotations

from pathlib import Path

from vxmprep.bids.derivatives import ScanWriter
from vxmprep.bids.names import METRICS


def write_scan(
    writer: ScanWriter,
    given: dict[str, Path],
    space: str,
    sources: list[str],
    *,
    strip_method: str,
) -> list[Path]:
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
    list of Path
        The files written, sidecars aside.
    """
    scan, segmentation = {"Sources": sources[:1]}, {"Sources": sources}
    here = {"SpatialReference": "orig"}
    there = {"SpatialReference": f"the atlas's image, see Atlas ({space})"}
    stripped = {"SkullStripped": strip_method == "none"}
    t1w, mask = {"desc": "preproc", "suffix": "T1w"}, {"desc": "brain", "suffix": "mask"}
    brain = {"Type": "Brain", **scan}
    labels = {"suffix": "dseg", "space": space}
    table = {"extension": ".tsv"}
    image, jacobian = writer.image, {"desc": "jacobian", "suffix": "map", "space": space}
    plan = {
        "t1w": (image, {**scan, **here, **stripped}, {**t1w, "intensities": True}),
        "mask": (image, {**brain, **here}, mask),
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
        "jacobian": (image, {**scan, **there}, jacobian),
        "forward": (writer.copy, scan, _transform("T1w", space, ".h5")),
        "inverse": (writer.copy, scan, _transform(space, "T1w", ".h5")),
        "affine": (writer.copy, scan, {**_transform("T1w", space, ".txt"), "desc": "affine"}),
        "dice": (writer.copy, None, {**METRICS, "space": space, "suffix": "dice", **table}),
        "metrics": (writer.copy, None, {"space": space, **METRICS}),
    }
    return [
        write(given[key], metadata, **name)
        for key, (write, metadata, name) in plan.items()
        if key in given
    ]


def _transform(start: str, end: str, extension: str) -> dict[str, str]:
    return {
        "from": start,
        "to": end,
        "mode": "image",
        "suffix": "xfm",
        "extension": extension,
    }
