"""What the tests share: the real scans, where they are at hand, and the default atlas."""

import os
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from vxmprep.atlas import PreparedAtlas, default_files, find_atlas, prepare_atlas


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
