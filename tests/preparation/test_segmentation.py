"""Whether a segmentation belongs to a scan."""

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import from_matvec

from vxmprep.preparation.segmentation import misplaced


@pytest.fixture(scope="module")
def labels(freesurfer_dir) -> nb.Nifti1Image:
    image = nb.load(freesurfer_dir / "sub-bert" / "mri" / "aseg.mgz")
    return nb.Nifti1Image(
        np.asarray(image.dataobj).astype(np.int16)[::2, ::2, ::2],
        image.affine @ np.diag([2.0, 2.0, 2.0, 1.0]),
    )


@pytest.fixture(scope="module")
def mask(freesurfer_dir) -> nb.Nifti1Image:
    image = nb.load(freesurfer_dir / "sub-bert" / "mri" / "brainmask.mgz")
    return nb.Nifti1Image((np.asarray(image.dataobj) > 1).astype(np.uint8), image.affine)


def test_a_segmentation_of_the_scan_is_accepted(labels, mask):
    assert misplaced(labels, mask) is None


def test_a_segmentation_of_another_place_is_refused(labels, mask):
    shifted = nb.Nifti1Image(
        np.asarray(labels.dataobj), from_matvec(np.eye(3), [0, 60.0, 30.0]) @ labels.affine
    )
    assert "lies in the scan's brain" in misplaced(shifted, mask)


def test_a_segmentation_two_centimetres_off_is_refused(labels, mask):
    shift = from_matvec(np.eye(3), [0, 20.0, 0])
    shifted = nb.Nifti1Image(np.asarray(labels.dataobj), shift @ labels.affine)
    assert misplaced(shifted, mask) is not None


def test_a_segmentation_far_away_is_refused(labels, mask):
    shifted = nb.Nifti1Image(
        np.asarray(labels.dataobj), from_matvec(np.eye(3), [900.0, 0, 0]) @ labels.affine
    )
    assert "only 0%" in misplaced(shifted, mask)


def test_tissue_classes_are_refused(labels, mask):
    data = np.asarray(labels.dataobj)
    tissues = np.select([np.isin(data, (3, 42)), np.isin(data, (2, 41)), data > 0], [1, 2, 3])
    image = nb.Nifti1Image(tissues.astype(np.int16), labels.affine)
    assert "tissue classes" in misplaced(image, mask)
