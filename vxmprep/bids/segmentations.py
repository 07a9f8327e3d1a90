"""Where other programs left a scan's segmentation or brain mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vxmprep.bids.dataset import Scan

VOLUMES = ("aseg.mgz", "aparc+aseg.mgz")
SUFFIXES = ("_desc-aseg_dseg", "_desc-aparcaseg_dseg")


def find_freesurfer_dir(
    explicit: Path | None, output_dir: Path | None, bids_dir: Path
) -> Path | None:
    """Find FreeSurfer's subjects directory.

    Parameters
    ----------
    explicit : path, optional
        What the user said; taken as it is.
    output_dir, bids_dir : path
        Roots inside which it is looked for otherwise; there need be no output.
    """
    if explicit is not None:
        return explicit
    places = [bids_dir / "derivatives" / "freesurfer", bids_dir / "sourcedata" / "freesurfer"]
    if output_dir is not None:
        places.insert(0, output_dir / "sourcedata" / "freesurfer")
    return next((place for place in places if place.is_dir()), None)


def find_segmentation(
    scan: Scan, *, freesurfer_dir: Path | None, derivatives: Sequence[Path]
) -> Path | None:
    """Find the FreeSurfer-numbered segmentation of a scan.

    FreeSurfer's own volumes of the session, of the participant, or of the participant's
    longitudinal run come first, then ``*_desc-aseg_dseg`` or ``*_desc-aparcaseg_dseg`` without a
    ``space-`` in the derivatives. A bare ``_dseg`` is never taken: in fMRIPrep it holds tissue
    classes. Where nothing is there but links to content that is not fetched, the first is given.
    """
    return _first(_segmentations(scan, freesurfer_dir, derivatives))


def find_brain_mask(
    scan: Scan, *, freesurfer_dir: Path | None = None, derivatives: Sequence[Path] = ()
) -> Path | None:
    """Find FreeSurfer's brainmask.mgz, or a ``desc-brain_mask`` on the scan in the derivatives.

    Of content that is not fetched the link is given, as for segmentations.
    """
    return _first(_masks(scan, freesurfer_dir, derivatives))


def _first(places: Iterator[Path]) -> Path | None:
    files, links = [], []
    for path in places:
        (files if path.is_file() else links if path.is_symlink() else []).append(path)
    return next(iter([*files, *links]), None)


def _segmentations(
    scan: Scan, freesurfer_dir: Path | None, derivatives: Sequence[Path]
) -> Iterator[Path]:
    for folder in _freesurfer_subjects(scan, freesurfer_dir):
        yield from (folder / "mri" / name for name in VOLUMES)
    yield from _in_derivatives(scan, derivatives, SUFFIXES)


def _masks(scan: Scan, freesurfer_dir: Path | None, derivatives: Sequence[Path]) -> Iterator[Path]:
    for folder in _freesurfer_subjects(scan, freesurfer_dir):
        yield folder / "mri" / "brainmask.mgz"
    yield from _in_derivatives(scan, derivatives, ("_desc-brain_mask",))


def _freesurfer_subjects(scan: Scan, freesurfer_dir: Path | None) -> list[Path]:
    if freesurfer_dir is None:
        return []
    subject = f"sub-{scan.participant}"
    names = [subject]
    if scan.session:
        names.insert(0, f"{subject}_ses-{scan.session}")
    folders = [freesurfer_dir / name for name in names]
    longitudinal = [p for name in names for p in sorted(freesurfer_dir.glob(f"{name}.long.*"))]
    return [folder for folder in [*folders, *longitudinal] if folder.is_dir()]


def _in_derivatives(
    scan: Scan, derivatives: Sequence[Path], suffixes: Sequence[str]
) -> Iterator[Path]:
    for root in derivatives:
        folder = root / f"sub-{scan.participant}"
        if scan.session:
            folder /= f"ses-{scan.session}"
        for suffix in suffixes:
            for extension in (".nii.gz", ".nii"):
                yield folder / "anat" / f"{scan.stem}{suffix}{extension}"
