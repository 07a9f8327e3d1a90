"""Simulated subjects as a BIDS dataset with FreeSurfer derivatives, and the truth beside it."""

import json
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

import vxmprep
from vxmprep.simulate.anatomy import Anatomy
from vxmprep.simulate.subject import Subject, simulate_subject

TRUTH_POINTS = 5000
TRUTH_COLUMNS = ("atlas_x", "atlas_y", "atlas_z", "scan_x", "scan_y", "scan_z")

DESCRIPTION = {
    "Name": "Simulated skull-stripped brains made from an atlas",
    "BIDSVersion": "1.10.0",
    "DatasetType": "raw",
    "License": "CC0",
    "Authors": ["The vxmprep developers"],
    "Acknowledgements": "The subjects are simulated; no person was scanned.",
    "GeneratedBy": [{"Name": "vxmprep-demo", "Version": vxmprep.__version__}],
}

README = """\
# Simulated subjects

No person was scanned. Each subject is the T1-weighted atlas seen through a known map: a random
pose and a random smooth, invertible change of shape. The contrast is drawn anew for each tissue
and structure; a bias field and noise are added; each scan has a voxel grid of its own. The brains
are skull-stripped: the background is 0.

`derivatives/freesurfer` holds the atlas's labels deformed in the same way, laid out and numbered
as FreeSurfer does. No FreeSurfer program was run.

The seed was {seed}.
"""

PARTICIPANTS = {"origin": {"Description": "Where the participant's images come from"}}


def write_dataset(
    anatomy: Anatomy, bids_dir: Path, truth_dir: Path, *, subjects: int, seed: int
) -> Iterator[str]:
    """Write a BIDS dataset of simulated subjects and the points that tell the truth.

    Parameters
    ----------
    anatomy : Anatomy
        The atlas.
    bids_dir, truth_dir : Path
        Where the dataset and the points go; made if need be.
    subjects : int
        How many.
    seed : int
        The same seed gives the same subjects.

    Yields
    ------
    str
        The label of each subject, such as ``sub-01``, when it is written.
    """
    labels = subject_labels(subjects)
    bids_dir.mkdir(parents=True, exist_ok=True)
    truth_dir.mkdir(parents=True, exist_ok=True)
    _write_json(bids_dir / "dataset_description.json", DESCRIPTION)
    _write_json(bids_dir / "participants.json", PARTICIPANTS)
    (bids_dir / "README.md").write_text(README.format(seed=seed), encoding="utf-8")
    rows = ["participant_id\torigin", *(f"{label}\tsimulated" for label in labels)]
    (bids_dir / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for number, label in enumerate(labels):
        subject = simulate_subject(anatomy, seed=seed, number=number)
        write_subject(subject, bids_dir, label)
        points = _draw_points(anatomy, np.random.default_rng([seed, number, 1]))
        write_points(subject, points, truth_dir / f"{label}_points.tsv")
        yield label


def subject_labels(subjects: int) -> list[str]:
    """Return the labels of a dataset's subjects: ``sub-01`` and so on."""
    return [f"sub-{number + 1:02d}" for number in range(subjects)]


def write_subject(subject: Subject, bids_dir: Path, label: str) -> None:
    """Write a subject's scan and its segmentations, aseg.mgz and aparc+aseg.mgz."""
    anat = bids_dir / label / "anat"
    mri = bids_dir / "derivatives" / "freesurfer" / label / "mri"
    anat.mkdir(parents=True, exist_ok=True)
    mri.mkdir(parents=True, exist_ok=True)
    nib.save(subject.scan, anat / f"{label}_T1w.nii.gz")
    _write_json(anat / f"{label}_T1w.json", {"SkullStripped": True, "Simulated": True})
    parcels = np.asarray(subject.segmentation.dataobj)
    aseg = np.where(parcels >= 2000, 42, np.where(parcels >= 1000, 3, parcels)).astype(np.uint8)
    nib.save(subject.segmentation, mri / "aparc+aseg.mgz")
    nib.save(nib.MGHImage(aseg, subject.segmentation.affine), mri / "aseg.mgz")


def write_points(subject: Subject, points: np.ndarray, file: Path) -> None:
    """Write atlas points (N, 3) and where they lie in the scan, RAS mm, as a table."""
    table = np.hstack([points, subject.deformation.atlas_to_scan(points)])
    header = "\t".join(TRUTH_COLUMNS)
    np.savetxt(file, table, fmt="%.4f", delimiter="\t", header=header, comments="")


def read_points(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read atlas points (N, 3) and where they lie in the scan (N, 3), RAS mm."""
    table = np.loadtxt(file, delimiter="\t", skiprows=1)
    return table[:, :3], table[:, 3:]


def _draw_points(anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Draw points (N, 3) of the brain, off the voxels' centres, RAS mm."""
    points = anatomy.brain_points
    chosen = rng.choice(len(points), size=min(TRUTH_POINTS, len(points)), replace=False)
    return np.round(points[chosen] + rng.uniform(-0.5, 0.5, size=(len(chosen), 3)), 3)


def _write_json(file: Path, content: dict) -> None:
    """Write a dictionary as indented JSON."""
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
