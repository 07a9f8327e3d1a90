"""Whether a segmentation belongs to a scan."""

import tracemalloc

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.ndimage import gaussian_filter

from vxmprep.evaluation.overlap import overlaps
from vxmprep.preparation.segmentation import load_labels, load_whole, misplaced
from vxmprep.spatial.images import ImageError


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


def test_a_segmentation_on_another_grid_is_accepted(labels, mask):
    """Other axes, coarser and cropped: its own affine places it."""
    turned = nb.as_closest_canonical(labels).slicer[3:, 4:-2, 5:]
    assert turned.shape != labels.shape
    assert misplaced(turned, mask) is None


def test_large_ids_are_read_as_they_stand(tmp_path):
    """As those of the Allen brain atlas, which single precision does not hold."""
    data = np.zeros((8, 8, 8), np.int32)
    data[2:5] = 2**24 + 1
    nb.save(nb.Nifti1Image(data, np.eye(4)), tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(load_labels(tmp_path / "x.nii.gz").dataobj, data)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [np.uint8, np.int16])
def test_small_types_of_labels_are_read_without_a_warning(kind, tmp_path):
    data = np.zeros((8, 8, 8), kind)
    data[2:5] = 54
    nb.save(nb.Nifti1Image(data, np.eye(4)), tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(load_labels(tmp_path / "x.nii.gz").dataobj, data)


@pytest.mark.parametrize("value", [np.uint32(2**31), np.float64(1e39)])
def test_ids_that_no_table_can_hold_are_refused(value, tmp_path):
    data = np.zeros((8, 8, 8), type(value))
    data[2:5] = value
    nb.save(nb.Nifti1Image(data, np.eye(4)), tmp_path / "x.nii.gz")
    with pytest.raises(ImageError, match="holds labels up to"):
        load_labels(tmp_path / "x.nii.gz")


def test_labels_stored_as_floats_are_accepted(labels, mask):
    data = np.asarray(labels.dataobj).astype(np.float32) + 1e-4
    assert misplaced(nb.Nifti1Image(data, labels.affine), mask) is None


def test_a_probability_map_is_refused(labels, mask):
    grey = np.isin(np.asarray(labels.dataobj), (3, 42)).astype(np.float32)
    image = nb.Nifti1Image(gaussian_filter(grey, 1.0), labels.affine)
    assert "holds fractions" in misplaced(image, mask)


def test_an_empty_segmentation_is_refused(labels, mask):
    image = nb.Nifti1Image(np.zeros(labels.shape, np.int16), labels.affine)
    assert "holds no label" in misplaced(image, mask)


def test_negative_labels_are_refused(labels, mask):
    image = nb.Nifti1Image(-np.asarray(labels.dataobj), labels.affine)
    assert "negative labels" in misplaced(image, mask)


def test_two_structures_alone_are_refused(labels, mask):
    """One side's cortex and white matter in place of a whole segmentation."""
    data = np.asarray(labels.dataobj)
    image = nb.Nifti1Image(np.where(np.isin(data, (2, 3)), data, 0), labels.affine)
    assert "hardly any structure" in misplaced(image, mask)


def test_real_segmentations_are_read(shared_data):
    derivatives = shared_data / "freesurfer-cohort" / "derivatives" / "freesurfer"
    manual = shared_data / "labelled-cohort" / "derivatives" / "manual" / "sub-1000" / "anat"
    found = [*(derivatives / "sub-bert" / "mri").glob("a*seg.mgz"), *manual.glob("*_dseg.nii.gz")]
    assert len(found) == 3
    for path in found:
        image = load_labels(path)
        assert image.get_data_dtype() == np.int32
        np.testing.assert_array_equal(image.dataobj, nb.load(path).dataobj)


def test_real_intensities_are_no_labels_and_whole_numbers_keep_their_type(freesurfer_dir):
    folder = freesurfer_dir / "sub-bert" / "mri"
    for name in ("norm.mgz", "brainmask.mgz"):
        for read in (load_labels, load_whole):
            with pytest.raises(ImageError, match=f"{name}: holds intensities, not labels"):
                read(folder / name)
    stored = nb.load(folder / "aparc+aseg.mgz")
    found = load_whole(folder / "aparc+aseg.mgz")
    assert found.get_data_dtype() == stored.get_data_dtype().newbyteorder("=")
    np.testing.assert_array_equal(found.dataobj, stored.dataobj)


def test_labels_of_a_fine_atlas_are_compared_in_little_memory(tmp_path):
    """Ten bytes a voxel for two maps of one byte; doubles alone would take sixteen."""
    shape, mib = (200, 200, 200), 2**20
    labels = np.zeros(shape, np.uint8)
    labels[40:160, 40:160, 40:160] = 17
    nb.save(nb.Nifti1Image(labels, np.eye(4)), tmp_path / "labels.nii.gz")
    tracemalloc.start()
    maps = [np.asarray(load_whole(tmp_path / "labels.nii.gz").dataobj) for _ in range(2)]
    assert overlaps(*maps)[17].dice == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / mib < 10 * labels.size / mib + 16  # what is counted at once


def refused(data: np.ndarray, path) -> str:
    nb.save(nb.Nifti1Image(data, np.eye(4)), path)
    with pytest.raises(ImageError) as caught:
        load_labels(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_labels_in_a_file_that_are_nearly_whole_are_rounded(tmp_path):
    data = np.array([2.9999, 17.001, 53.0, 0.0], np.float32).reshape(4, 1, 1)
    nb.save(nb.Nifti1Image(data, np.eye(4)), tmp_path / "x.nii.gz")
    read = np.asarray(load_labels(tmp_path / "x.nii.gz").dataobj)
    np.testing.assert_array_equal(read.ravel(), [3, 17, 53, 0])


def test_labels_that_were_interpolated_are_refused_by_name(tmp_path):
    """Between 2 and 41 lies 21.5, which is no structure of either."""
    data = np.array([2.0, 21.5, 41.0], np.float32).reshape(3, 1, 1)
    assert "holds fractions" in refused(data, tmp_path / "x.nii.gz")


def test_negative_labels_in_a_file_are_refused_by_name(tmp_path):
    data = np.arange(-2, 6, dtype=np.int16).reshape(2, 2, 2)
    assert "down to -2" in refused(data, tmp_path / "x.nii")


def test_a_file_without_labels_is_refused_by_name(tmp_path):
    assert "holds no label" in refused(np.zeros((3, 3, 3), np.uint8), tmp_path / "x.nii")


def test_several_probability_maps_are_refused_by_name(tmp_path):
    data = np.random.default_rng(0).random((4, 4, 4, 3), np.float32)
    assert "4x4x4x3" in refused(data, tmp_path / "x.nii.gz")
