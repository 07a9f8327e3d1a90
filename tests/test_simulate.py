"""Simulated subjects have the shape, the contrast and the truth that they claim."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from vxmprep.simulate import (
    Anatomy,
    Deformation,
    draw_contrast,
    draw_deformation,
    read_anatomy,
    simulate_subject,
    smallest_jacobian,
    write_dataset,
)
from vxmprep.simulate.dataset import read_points

THALAMUS, WHITE, CORTEX, PARCEL = 10, 2, 3, 1028


@pytest.fixture(scope="module")
def atlas_files(tmp_path_factory):
    """Write a ball of nested tissues, 1 mm, and its labels on a larger LIA grid."""
    folder = tmp_path_factory.mktemp("atlas")
    points = np.moveaxis(np.indices((90, 96, 84)), 0, -1) - np.array([45, 48, 42])
    radius = np.linalg.norm(points, axis=-1)
    t1 = np.select([radius < 8, radius < 22, radius < 30, radius < 33], [74, 87, 65, 25], 0)
    affine = nib.affines.from_matvec(np.eye(3), [-40, -60, -30])
    nib.save(nib.Nifti1Image(t1.astype(np.int16), affine), folder / "t1.nii.gz")
    labels = np.select([radius < 8, radius < 22, radius < 30], [THALAMUS, WHITE, PARCEL], 0)
    padded = np.pad(labels, 3).astype(np.int16)
    shifted = affine @ nib.affines.from_matvec(np.eye(3), [-3, -3, -3])
    image = nib.Nifti1Image(padded, shifted).as_reoriented(
        nib.orientations.axcodes2ornt("LIA")[[0, 2, 1]]
    )
    nib.save(image, folder / "labels.nii.gz")
    return folder / "t1.nii.gz", folder / "labels.nii.gz"


@pytest.fixture(scope="module")
def anatomy(atlas_files) -> Anatomy:
    return read_anatomy(*atlas_files)


@pytest.fixture(scope="module")
def deformation(anatomy) -> Deformation:
    return draw_deformation(anatomy, np.random.default_rng(5))


@pytest.fixture(scope="module")
def subjects(anatomy):
    return [simulate_subject(anatomy, seed=3, number=number) for number in range(3)]


def test_labels_on_another_grid_are_brought_to_the_atlas(anatomy):
    centre = nib.affines.apply_affine(np.linalg.inv(anatomy.affine), [5, -12, 12])
    assert anatomy.labels[tuple(np.rint(centre).astype(int))] == THALAMUS
    volume = np.count_nonzero(anatomy.labels == THALAMUS)
    assert volume == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.03)


def test_tissues_follow_the_atlas_intensities(anatomy):
    fluid, grey, white = anatomy.tissue
    assert white[anatomy.labels == WHITE].min() > 0.9
    assert grey[anatomy.labels == PARCEL].min() > 0.9
    assert fluid[(anatomy.labels == 0) & anatomy.brain].min() > 0.9


def test_the_scan_has_t1_contrast(anatomy):
    image = draw_contrast(anatomy, np.random.default_rng(0))
    inner = [
        ndimage.binary_erosion(anatomy.labels == label) for label in (PARCEL, THALAMUS, WHITE)
    ]
    cortex, thalamus, white = (image[mask].mean() for mask in inner)
    fluid = image[anatomy.tissue[0] > 0.9].mean()
    assert fluid < cortex < thalamus < white


def test_subjects_differ_and_one_seed_gives_one_subject(anatomy, subjects):
    again = simulate_subject(anatomy, seed=3, number=0)
    np.testing.assert_array_equal(again.scan.get_fdata(), subjects[0].scan.get_fdata())
    first, second = (one.deformation.displacement for one in subjects[:2])
    assert np.linalg.norm(first - second, axis=0).mean() > 1


def test_the_deformation_does_not_fold_and_stays_below_eight_millimetres(deformation):
    length = np.linalg.norm(deformation.displacement, axis=0)
    assert 3 < length.max() < 8.01
    assert smallest_jacobian(deformation.displacement, 3.0) > 0.15


def test_the_jacobian_of_a_linear_displacement_is_that_of_its_matrix():
    matrix = np.array([[0.1, 0.02, 0], [0, -0.2, 0.05], [0.03, 0, 0.3]])
    points = 2.0 * np.indices((6, 7, 8))
    displacement = np.tensordot(matrix, points, axes=1)
    expected = np.linalg.det(np.eye(3) + matrix)
    assert smallest_jacobian(displacement, 2.0) == pytest.approx(expected)


def test_a_displacement_that_turns_over_is_noticed():
    displacement = np.zeros((3, 8, 8, 8))
    displacement[0, 4] = -3.0
    assert smallest_jacobian(displacement, 2.0) < 0


def test_atlas_points_go_to_the_scan_and_back(anatomy, deformation):
    points = anatomy.brain_points[::97]
    scan = deformation.atlas_to_scan(points)
    assert np.linalg.norm(scan - points, axis=1).mean() > 1
    np.testing.assert_allclose(deformation.scan_to_atlas(scan), points, atol=1e-3)


def test_neighbours_have_different_oblique_grids_of_unequal_voxels(subjects):
    grids = {nib.aff2axcodes(one.scan.affine) for one in subjects}
    assert grids == {tuple("LAS"), tuple("LIA"), tuple("PSR")}
    for one in subjects:
        assert sorted(one.scan.header.get_zooms()) == pytest.approx([1.0, 1.1, 1.2])
        assert np.rad2deg(nib.affines.obliquity(one.scan.affine)).max() > 2
        assert one.scan.get_data_dtype() == np.int16


def test_the_brain_lies_whole_inside_a_background_of_zeros(subjects):
    for one in subjects:
        data = np.asarray(one.scan.dataobj)
        assert data.min() == 0
        for axis in range(3):
            assert not data.take([0, -1], axis=axis).any()


def test_the_scan_shows_each_structure_where_the_truth_puts_it(anatomy, subjects):
    one = subjects[1]
    inner = ndimage.binary_erosion(anatomy.labels == WHITE, iterations=2)
    points = nib.affines.apply_affine(anatomy.affine, np.argwhere(inner))[::53]
    voxels = nib.affines.apply_affine(
        np.linalg.inv(one.scan.affine), one.deformation.atlas_to_scan(points)
    )
    fluid = nib.affines.apply_affine(anatomy.affine, np.argwhere(anatomy.tissue[0] > 0.9))[::53]
    rim = nib.affines.apply_affine(
        np.linalg.inv(one.scan.affine), one.deformation.atlas_to_scan(fluid)
    )
    data = one.scan.get_fdata()
    bright = ndimage.map_coordinates(data, voxels.T, order=1)
    dark = ndimage.map_coordinates(data, rim.T, order=1)
    assert np.mean(bright > np.median(data[data > 0])) > 0.95
    assert dark.mean() < 0.5 * bright.mean()


def test_the_segmentation_is_on_the_freesurfer_grid_and_follows_the_truth(anatomy, subjects):
    for one in subjects:
        image = one.segmentation
        assert image.shape == (256, 256, 256)
        assert nib.aff2axcodes(image.affine) == tuple("LIA")
        inner = ndimage.binary_erosion(anatomy.labels == THALAMUS, iterations=2)
        points = nib.affines.apply_affine(anatomy.affine, np.argwhere(inner))
        voxels = nib.affines.apply_affine(
            np.linalg.inv(image.affine), one.deformation.atlas_to_scan(points)
        )
        found = np.asarray(image.dataobj)[tuple(np.rint(voxels).astype(int).T)]
        assert np.mean(found == THALAMUS) > 0.99


@pytest.fixture(scope="module")
def dataset(anatomy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    list(write_dataset(anatomy, folder / "bids", folder / "truth", subjects=2, seed=3))
    return folder


def test_the_dataset_says_that_it_is_simulated(dataset):
    description = json.loads((dataset / "bids" / "dataset_description.json").read_text())
    assert "simulated" in description["Name"].lower()
    assert "No person was scanned" in (dataset / "bids" / "README.md").read_text()


def test_the_dataset_is_valid_bids(dataset, bids_errors):
    assert bids_errors(dataset / "bids") == []


def test_aseg_has_one_number_for_the_cortex_of_a_side(dataset):
    mri = dataset / "bids" / "derivatives" / "freesurfer" / "sub-02" / "mri"
    aseg = np.asarray(nib.load(mri / "aseg.mgz").dataobj)
    parcels = np.asarray(nib.load(mri / "aparc+aseg.mgz").dataobj)
    assert set(np.unique(aseg)) == {0, THALAMUS, WHITE, CORTEX}
    np.testing.assert_array_equal(aseg == CORTEX, parcels == PARCEL)


def test_the_truth_is_saved_as_points(dataset, subjects):
    atlas, scan = read_points(dataset / "truth" / "sub-02_points.tsv")
    assert atlas.shape == scan.shape == (5000, 3)
    np.testing.assert_allclose(subjects[1].deformation.scan_to_atlas(scan), atlas, atol=2e-3)
