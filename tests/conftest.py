"""What the tests share: the real scans, where they are at hand, and the default atlas."""

import os
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import torch
from hypothesis import settings
from scipy import ndimage

from vxmprep.atlas import PreparedAtlas, default_files, find_atlas, prepare_atlas

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
