"""The atlas: which files, and on which grids."""

import hashlib
import subprocess
import sys
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

import vxmprep
from vxmprep.atlas import Atlas, AtlasError, default_files, find_atlas, prepare_atlas
from vxmprep.evaluation.labels import VXM30, without_parcels

PACKAGE = Path(vxmprep.__file__).resolve().parents[1]


def complaint(*args, **kwargs) -> str:
    with pytest.raises(AtlasError) as caught:
        find_atlas(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


def test_labels_of_the_user_replace_those_of_the_default_atlas(tmp_path):
    (tmp_path / "mine.nii.gz").touch()
    found = find_atlas(labels=tmp_path / "mine.nii.gz")
    assert found.labels == tmp_path / "mine.nii.gz"
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


def test_an_image_of_the_user_is_an_atlas(tmp_path):
    (tmp_path / "mine.nii.gz").touch()
    found = find_atlas(str(tmp_path / "mine.nii.gz"), name="Mine")
    assert found == Atlas("Mine", tmp_path / "mine.nii.gz")


def test_an_image_of_the_user_needs_a_name(tmp_path):
    (tmp_path / "mine.nii.gz").touch()
    assert "--atlas-name" in complaint(str(tmp_path / "mine.nii.gz"))


@pytest.mark.parametrize("path", ["/nowhere/atlas.nii.gz", "atlas.nii", "folder/atlas", "a.mgz"])
def test_an_image_that_is_not_there_is_refused(path):
    assert complaint(path, name="Mine") == f"--atlas {path}: no such file"


def test_labels_that_are_not_there_are_refused(tmp_path):
    path = tmp_path / "labels.nii.gz"
    assert complaint(labels=path) == f"--atlas-labels {path}: no such file"


def test_a_template_that_cannot_be_had_without_a_network_is_one_clear_error(tmp_path):
    script = (
        "from vxmprep.atlas import AtlasError, find_atlas\n"
        "try:\n    find_atlas('MNIPediatricAsym:cohort-1:res-1')\n"
        "except AtlasError as error:\n    print(error)\n"
    )
    nowhere = "http://127.0.0.1:9"
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TEMPLATEFLOW_HOME": str(tmp_path / "templateflow"),
        "http_proxy": nowhere, "https_proxy": nowhere,
        "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere,
    }  # fmt: skip
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment, cwd=PACKAGE, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("TemplateFlow takes too long here to find out that there is no network")
    said = done.stdout.strip().splitlines()
    assert said, done.stderr
    assert said[0].startswith("--atlas MNIPediatricAsym:cohort-1:res-1: TemplateFlow")
    assert "TEMPLATEFLOW_HOME" in said[-1]
    assert "--atlas FILE --atlas-name NAME" in said[-1]
    assert len(said) == 1


def test_an_empty_placeholder_is_not_a_template(tmp_path, monkeypatch):
    (tmp_path / "tpl.nii.gz").touch()
    api = type("api", (), {"get": staticmethod(lambda *_, **__: tmp_path / "tpl.nii.gz")})
    monkeypatch.setitem(sys.modules, "templateflow", type("tf", (), {"api": api}))
    monkeypatch.setitem(sys.modules, "templateflow.api", api)
    assert "TemplateFlow has no T1w with a brain mask" in complaint("NihPD")


def test_a_template_is_asked_for_by_cohort_and_resolution(tmp_path, monkeypatch):
    asked = []

    def get(template, **query):
        asked.append((template, query))
        path = tmp_path / f"{query['suffix']}.nii.gz"
        path.write_text("image")
        return path

    api = type("api", (), {"get": staticmethod(get)})
    monkeypatch.setitem(sys.modules, "templateflow", type("tf", (), {"api": api}))
    monkeypatch.setitem(sys.modules, "templateflow.api", api)
    found = find_atlas("MNIInfant:cohort-3:res-2")
    assert (found.image.name, found.mask.name) == ("T1w.nii.gz", "mask.nii.gz")
    assert found.name == "MNIInfant"
    for template, query in asked:
        assert template == "MNIInfant"
        assert (query["cohort"], int(query["resolution"])) == ("3", 2)


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
