"""Names of the files that are written."""

from __future__ import annotations

from pathlib import Path

NAME = (
    "sub-{subject}[_ses-{session}][_task-{task}][_acq-{acquisition}][_ce-{ceagent}][_rec-{reconstruction}]"
    "[_run-{run}][_echo-{echo}][_flip-{flip}][_inv-{inv}][_part-{part}]"
    "[_space-{space}][_chunk-{chunk}][_res-{resolution}][_from-{from}][_to-{to}][_mode-{mode}][_desc-{desc}]_{suffix}{extension}"
)
PATTERNS = (
    "sub-{subject}[/ses-{session}]/anat/" + NAME,
    "sub-{subject}/{datatype<figures>}/" + NAME,
)

METRICS = {"desc": "registration", "suffix": "metrics", "extension": ".json"}
"""What names the file of a scan's measures, beside its space."""


def derivative_path(output_dir: Path, entities: tuple[tuple[str, str], ...], **ours: str) -> Path:
    """Give the path of a derivative of a scan.

    Parameters
    ----------
    output_dir : path
        Root of the derivatives.
    entities : tuple of (str, str)
        Entities of the scan.
    **ours : str
        What the derivative adds: space, resolution, desc, suffix, extension, from, to, mode;
        ``datatype="figures"`` for what is shown in the page of a participant.
    """
    from bids.layout.writing import build_path

    return output_dir / build_path({**dict(entities), **ours}, PATTERNS, strict=True)
