"""What the tests share: the real scans, where they are at hand, and the default atlas."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import torch
from hypothesis import settings
from scipy import ndimage

from vxmprep.atlas import PreparedAtlas, default_files, find_atlas, prepare_atlas
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import load
from vxmprep.spatial.resample import resample

# The same examples in every run: what a change breaks is seen by whoever makes it.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real cohorts: VXMPREP_TEST_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("VXMPREP_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"real scans are not at hand: {folder}; set VXMPREP_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def freesurfer_dir(shared_data) -> Path:
    """FreeSurfer's subjects directory of a real cohort."""
    return shared_data / "freesurfer-cohort" / "derivatives" / "freesurfer"


@pytest.fixture(scope="session")
def bids_errors() -> Callable[[Path], list[tuple[str, str | None]]]:
    """What gives the errors of a dataset, code and file, by the BIDS validator."""
    validator = Path(sys.executable).parent / "bids-validator-deno"

    def find(root: Path) -> list[tuple[str, str | None]]:
        command = [validator, root, "--ignoreWarnings", "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        issues = json.loads(done.stdout)["issues"]["issues"]
        return [(i["code"], i.get("location")) for i in issues if i["severity"] == "error"]

    return find


@pytest.fixture(scope="session")
def atlas() -> PreparedAtlas:
    """The default atlas, on its own grid and on the network's."""
    return prepare_atlas(find_atlas())


@pytest.fixture(scope="session")
def small_brain() -> nb.Nifti1Image:
    """The default atlas's image at 3 mm, background 0; small enough for quick runs."""
    image = nb.load(default_files()[0])
    data = np.asarray(image.dataobj, dtype=np.float32)[::3, ::3, ::3]
    return nb.Nifti1Image(data, image.affine @ np.diag([3.0, 3.0, 3.0, 1.0]))


@pytest.fixture(scope="session")
def real_pair(shared_data):
    """Two people: images, labels and the fixed one's mask, stretched to one box."""
    fixed, fixed_labels = _scan(shared_data, "sub-1000")
    moving, moving_labels = _scan(shared_data, "sub-1001")
    shape = tuple(size + 8 for size in fixed.shape)
    images = [_on_grid(volume, shape, 1) for volume in (moving, fixed)]
    labels = [_on_grid(volume, shape, 0) for volume in (moving_labels, fixed_labels)]
    return *images, images[1] > 0, *labels


@dataclass(frozen=True)
class Tiny:
    """The default atlas shrunk to a third: a brain of 65 mm, on which all steps are quick."""

    brain: np.ndarray
    labels: np.ndarray
    affine: np.ndarray

    def atlas(self, folder: Path) -> list[str]:
        """Write the atlas and its labels, and give the options that choose them."""
        folder.mkdir(parents=True, exist_ok=True)
        image, labels = folder / "atlas.nii.gz", folder / "atlas_labels.nii.gz"
        nb.save(nb.Nifti1Image(self.brain, self.affine), image)
        nb.save(nb.Nifti1Image(self.labels, self.affine), labels)
        return ["--atlas", str(image), "--atlas-name", "tiny", "--atlas-labels", str(labels)]

    def scan(self, path: Path, number: int = 1) -> Path:
        """Write a scan: the atlas moved and in another contrast, different for every number."""
        path.parent.mkdir(parents=True, exist_ok=True)
        brain = np.where(self.brain > 0, 20 + self.brain ** (1 + 0.02 * number), 0)
        moved = ndimage.shift(brain, (0.7, -0.4 * number, 0.5), order=1)
        scaled = np.rint(1000 * moved / moved.max()).astype(np.int16)
        nb.save(nb.Nifti1Image(scaled, self.affine), path)
        return path

    def segmentation(self, path: Path, number: int = 1) -> Path:
        """Write the labels of a scan."""
        path.parent.mkdir(parents=True, exist_ok=True)
        moved = ndimage.shift(self.labels, (0.7, -0.4 * number, 0.5), order=0)
        nb.save(nb.Nifti1Image(moved, self.affine), path)
        return path


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    image, labels = (load(path, kind) for path, kind in zip(
        default_files(), (np.float32, np.int32), strict=True
    ))  # fmt: skip
    grid = Grid.of(image)
    coarse = Grid(tuple(n // 3 for n in grid.shape), grid.affine @ np.diag([3.0, 3.0, 3.0, 1.0]))
    brain = np.asarray(resample(image, coarse, np.eye(4)).dataobj)
    parts = np.asarray(resample(labels, coarse, np.eye(4), nearest=True).dataobj)
    affine = nb.affines.from_matvec(np.eye(3), -np.array(coarse.shape) / 2)
    return Tiny(brain.astype(np.float32), parts.astype(np.int16), affine)


def _scan(shared_data, subject: str) -> tuple[np.ndarray, np.ndarray]:
    """A labelled scan at 2 mm, cropped to its brain: intensities in [0, 1] and labels."""
    folder = shared_data / "labelled-cohort"
    image = folder / subject / "anat" / f"{subject}_T1w.nii.gz"
    labels = folder / "derivatives/manual" / subject / "anat" / f"{subject}_desc-aseg_dseg.nii.gz"
    volumes = []
    for path in (image, labels):
        loaded = nb.as_closest_canonical(nb.load(path))
        volumes.append(np.asarray(loaded.dataobj).squeeze())
    intensity = ndimage.gaussian_filter(volumes[0].astype(np.float32), 0.7)
    box = ndimage.find_objects((volumes[0] > 0).astype(int))[0]
    intensity, segmentation = intensity[box][::2, ::2, ::2], volumes[1][box][::2, ::2, ::2]
    top = np.percentile(intensity[intensity > 0], 99.5)
    return np.clip(intensity / top, 0, 1), segmentation.round().astype(np.int16)


def _on_grid(volume: np.ndarray, shape: tuple[int, ...], order: int) -> torch.Tensor:
    """A volume stretched over a box of another shape, with a border of four voxels."""
    zoom = np.array(volume.shape) / (np.array(shape) - 8)
    offset = -4 * zoom
    values = ndimage.affine_transform(volume, zoom, offset, shape, order=order)
    return torch.from_numpy(values.astype(np.float32))[None, None]
