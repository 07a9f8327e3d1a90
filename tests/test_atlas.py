"""The atlas: which files, and on which grids."""

import hashlib
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import from_matvec

from vxmprep.atlas import (
    Atlas,
    AtlasError,
    default_files,
    find_atlas,
    prepare_atlas,
    read_atlas,
)
from vxmprep.evaluation.labels import VXM30, without_parcels
from vxmprep.spatial.images import ImageError


def complaint(*args, **kwargs) -> str:
    with pytest.raises(AtlasError) as caught:
        find_atlas(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def objection(atlas: Atlas, path: Path) -> str:
    """Give what is wrong with an atlas's voxels, without the path that starts the message."""
    with pytest.raises(AtlasError) as caught:
        read_atlas(atlas)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def saved(image: nb.Nifti1Image, path: Path) -> Path:
    nb.save(image, path)
    return path


@pytest.fixture
def mine(small_brain, tmp_path) -> Path:
    return saved(small_brain, tmp_path / "mine.nii.gz")


@pytest.fixture
def small_labels(small_brain) -> nb.Nifti1Image:
    """Eight blocks inside the brain."""
    data = np.zeros(small_brain.shape, np.int16)
    data[20:40, 20:50, 20:40] = 2 + np.indices((20, 30, 20)).sum(axis=0) // 10
    return nb.Nifti1Image(data, small_brain.affine)


def test_the_default_atlas_is_on_the_templates_own_grid():
    image = nb.load(find_atlas().image)
    assert image.shape == (193, 229, 193)
    np.testing.assert_allclose(image.header.get_zooms(), 1)
    # The template's first voxel, as TemplateFlow's file of this name has it.
    np.testing.assert_allclose(image.affine[:3, 3], [-96, -132, -78])


def test_the_labels_of_the_default_atlas_are_marked_as_approximate():
    found = find_atlas()
    assert found.name == "MNI152NLin2009cAsym"
    assert found.labels.is_file()
    assert found.approximate_labels
    assert "approximate" in found.description()["LabelsNote"]


def test_labels_of_the_user_replace_those_of_the_default_atlas(mine):
    found = find_atlas(labels=mine)
    assert found.labels == mine
    assert not found.approximate_labels


def test_the_description_holds_the_files_with_their_checksums():
    image = default_files()[0]
    content = find_atlas().description()["Image"]
    assert content == {
        "File": image.name,
        "SHA256": hashlib.sha256(image.read_bytes()).hexdigest(),
    }


def test_fsaverage_comes_from_freesurfers_folder(freesurfer_dir):
    found = find_atlas("fsaverage", freesurfer_dir=freesurfer_dir)
    assert found.name == "MNI305"
    assert found.image == freesurfer_dir / "fsaverage" / "mri" / "brain.mgz"
    assert found.labels == freesurfer_dir / "fsaverage" / "mri" / "aseg.mgz"
    assert not found.approximate_labels


def test_fsaverage_without_a_folder_is_refused():
    assert "--fs-subjects-dir" in complaint("fsaverage")


def test_fsaverage_that_is_not_there_is_refused(tmp_path):
    assert str(tmp_path) in complaint("fsaverage", freesurfer_dir=tmp_path)


def test_an_empty_file_of_fsaverage_is_refused(tmp_path):
    image = tmp_path / "fsaverage" / "mri" / "brain.mgz"
    image.parent.mkdir(parents=True)
    image.touch()
    said = complaint("fsaverage", freesurfer_dir=tmp_path)
    assert said.startswith(f"--atlas {image}: empty (0 bytes)")


def test_an_image_of_the_user_is_an_atlas(mine):
    assert find_atlas(str(mine), name="Mine") == Atlas("Mine", mine)


def test_an_image_of_the_user_needs_a_name(mine):
    assert "--atlas-name" in complaint(str(mine))


@pytest.mark.parametrize("path", ["/nowhere/atlas.nii.gz", "atlas.nii", "folder/atlas", "a.mgz"])
def test_an_image_that_is_not_there_is_refused(path):
    said = complaint(path, name="Mine")
    assert said.startswith(f"--atlas {Path(path).absolute()}: no such file")


def test_an_image_that_was_not_fetched_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to("../.git/annex/objects/0")
    assert "datalad get" in complaint(str(tmp_path / "a.nii.gz"), name="Mine")


def test_a_folder_is_no_atlas(tmp_path):
    assert complaint(str(tmp_path), name="Mine").startswith(f"--atlas {tmp_path}: a folder")


def test_a_text_is_no_atlas(tmp_path):
    (tmp_path / "a.nii").write_text("atlas\n" * 100)
    said = complaint(str(tmp_path / "a.nii"), name="Mine")
    assert said.startswith(f"--atlas {tmp_path / 'a.nii'}: not a NIfTI or MGH image")


def test_an_atlas_of_two_dimensions_is_refused(tmp_path):
    saved(nb.Nifti1Image(np.ones((50, 50), np.int16), np.eye(4)), tmp_path / "a.nii")
    assert "found 50x50" in complaint(str(tmp_path / "a.nii"), name="Mine")


def test_labels_that_are_not_there_are_refused(tmp_path):
    path = tmp_path / "labels.nii.gz"
    assert complaint(labels=path).startswith(f"--atlas-labels {path}: no such file")


def test_labels_that_are_no_image_are_refused(tmp_path):
    path = tmp_path / "labels.nii.gz"
    path.touch()
    assert complaint(labels=path).startswith(f"--atlas-labels {path}: empty (0 bytes)")


def test_a_constant_atlas_is_refused(tmp_path):
    path = saved(nb.Nifti1Image(np.ones((50, 50, 50), np.int16), np.eye(4)), tmp_path / "a.nii")
    assert objection(Atlas("x", path), path).startswith("every voxel holds 1")


@pytest.mark.parametrize("step", [1, 2])
def test_labels_in_place_of_the_image_are_refused(step, tmp_path):
    own = nb.load(default_files()[1])
    data = np.asarray(own.dataobj)[::step, ::step, ::step].astype(np.int32)
    image = nb.Nifti1Image(data, own.affine @ np.diag([step, step, step, 1]))
    path = saved(image, tmp_path / "a.nii.gz")
    assert objection(Atlas("x", path), path).startswith("holds labels, not intensities")


def test_a_mask_in_place_of_the_image_is_refused(atlas, tmp_path):
    path = saved(atlas.mask, tmp_path / "a.nii.gz")
    assert objection(Atlas("x", path), path).startswith("holds labels, not intensities")


def test_real_images_are_not_taken_for_labels(shared_data, freesurfer_dir):
    scans = sorted(shared_data.glob("*/sub-*/anat/*_T1w.nii.gz"))[::23]
    for path in [*scans, *freesurfer_dir.glob("*/mri/brain*.mgz")]:
        image, mask, labels = read_atlas(Atlas("x", path))
        assert image.shape == nb.load(path).shape
        assert mask is labels is None


def test_labels_of_another_place_are_refused(mine, small_labels, tmp_path):
    away = from_matvec(np.eye(3), [0.0, 150.0, 0.0]) @ small_labels.affine
    path = saved(nb.Nifti1Image(small_labels.get_fdata(), away), tmp_path / "l.nii.gz")
    said = objection(Atlas("x", mine, None, path), path)
    assert "of the labels lie on the atlas" in said
    assert str(mine) in said


def test_labels_of_fractions_are_refused(mine, small_labels, tmp_path):
    image = nb.Nifti1Image(small_labels.get_fdata() / 3, small_labels.affine)
    path = saved(image, tmp_path / "l.nii.gz")
    assert "holds fractions" in objection(Atlas("x", mine, None, path), path)


def test_labels_on_another_grid_are_brought_to_the_atlas(mine, small_labels, tmp_path):
    path = saved(small_labels.slicer[10:, 5:, 8:], tmp_path / "l.nii.gz")
    _, _, labels = read_atlas(Atlas("x", mine, None, path))
    np.testing.assert_array_equal(labels.dataobj, small_labels.dataobj)


def test_a_mask_of_another_place_is_refused(mine, small_labels, tmp_path):
    away = from_matvec(np.eye(3), [0.0, 900.0, 0.0]) @ small_labels.affine
    path = saved(nb.Nifti1Image(small_labels.get_fdata(), away), tmp_path / "m.nii.gz")
    assert "does not overlap" in objection(Atlas("x", mine, path), path)


def test_a_mask_on_another_grid_is_brought_to_the_atlas(mine, small_labels, tmp_path):
    mask = nb.Nifti1Image((small_labels.get_fdata() > 0).astype(np.uint8), small_labels.affine)
    path = saved(mask.slicer[10:, 5:, 8:], tmp_path / "m.nii.gz")
    _, found, _ = read_atlas(Atlas("x", mine, path))
    np.testing.assert_array_equal(found.dataobj, mask.dataobj)


def test_an_atlas_without_a_brain_is_refused(tmp_path, monkeypatch):
    def fail(image):
        raise ImageError("deepbet finds no brain in this scan (nothing)")

    monkeypatch.setattr("vxmprep.atlas.deepbet_mask", fail)
    data = np.random.default_rng(0).normal(100, 10, size=(40, 40, 40)).astype(np.float32)
    path = saved(nb.Nifti1Image(data, np.diag([4.0, 4.0, 4.0, 1.0])), tmp_path / "a.nii.gz")
    with pytest.raises(AtlasError) as caught:
        prepare_atlas(Atlas("x", path))
    assert str(caught.value).startswith(f"{path}: deepbet finds no brain")
    assert "\n" not in str(caught.value)


def test_the_prepared_atlas_is_stripped_on_its_own_grid(atlas):
    inside = np.asarray(atlas.mask.dataobj) > 0
    litres = inside.sum() / 1e6
    assert atlas.brain.shape == atlas.mask.shape == atlas.labels.shape == (193, 229, 193)
    assert 1.6 < litres < 2.0
    assert not np.asarray(atlas.brain.dataobj)[~inside].any()


def test_the_prepared_atlas_has_left_on_the_left(atlas):
    labels = np.asarray(atlas.labels.dataobj)
    for label, side in ((17, -1), (53, 1)):
        x = nb.affines.apply_affine(atlas.labels.affine, np.argwhere(labels == label))[:, 0]
        assert (np.sign(x) == side).all()


def test_the_prepared_atlas_has_the_papers_structures(atlas):
    present = set(np.unique(without_parcels(np.asarray(atlas.labels.dataobj))))
    assert len(present & set(VXM30)) >= 28


def test_the_prepared_labels_lie_in_the_brain(atlas):
    labels = np.asarray(atlas.labels.dataobj) > 0
    inside = np.asarray(atlas.mask.dataobj) > 0
    assert (labels & inside).sum() / labels.sum() > 0.98


def test_the_networks_atlas_is_1_mm_ras_of_sixteens_and_bytes(atlas):
    image = atlas.network_brain
    np.testing.assert_array_equal(image.affine[:3, :3], np.eye(3))
    assert all(n % 16 == 0 for n in image.shape)
    assert image.get_data_dtype() == np.uint8
    values = np.asarray(image.dataobj)
    inside = np.asarray(atlas.network_mask.dataobj) > 0
    # Half a percent of the brain, and what shares the percentile's value in an 8-bit image.
    assert 0.005 < (values == 255).sum() / inside.sum() < 0.015
    assert not values[~inside].any()


def test_the_networks_atlas_holds_the_whole_brain(atlas):
    whole = (np.asarray(atlas.mask.dataobj) > 0).sum()
    assert (np.asarray(atlas.network_mask.dataobj) > 0).sum() == whole


def test_a_mask_that_belongs_to_the_atlas_is_used(small_brain, tmp_path):
    mask = np.zeros(small_brain.shape, np.uint8)
    mask[20:40, 20:50, 20:40] = 1
    nb.save(small_brain, tmp_path / "a.nii.gz")
    nb.save(nb.Nifti1Image(mask, small_brain.affine), tmp_path / "m.nii.gz")
    prepared = prepare_atlas(Atlas("x", tmp_path / "a.nii.gz", tmp_path / "m.nii.gz"))
    np.testing.assert_array_equal(np.asarray(prepared.mask.dataobj), mask)
    expected = np.where(mask, np.asarray(small_brain.dataobj), 0)
    np.testing.assert_array_equal(np.asarray(prepared.brain.dataobj), expected)
    assert prepared.labels is None
