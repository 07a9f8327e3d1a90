"""What is written: names, sidecars, and the validator's word."""

import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

import vxmprep
from vxmprep.bids.derivatives import ScanWriter, describe_dataset, source_uri
from vxmprep.bids.names import derivative_path
from vxmprep.bids.outputs import write_scan

SPACE = "MNI152NLin2009cAsym"
ENTITIES = (("subject", "01"), ("session", "a"), ("acquisition", "mprage"), ("run", "2"))
STEM = "sub-01_ses-a_acq-mprage_run-2"
NAMES = {
    "t1w": f"{STEM}_desc-preproc_T1w.nii.gz",
    "mask": f"{STEM}_desc-brain_mask.nii.gz",
    "t1w_in_atlas": f"{STEM}_space-{SPACE}_desc-preproc_T1w.nii.gz",
    "mask_in_atlas": f"{STEM}_space-{SPACE}_desc-brain_mask.nii.gz",
    "labels_in_atlas": f"{STEM}_space-{SPACE}_desc-aseg_dseg.nii.gz",
    "labels_in_atlas_affine": f"{STEM}_space-{SPACE}_desc-asegaffine_dseg.nii.gz",
    "atlas_labels_in_scan": f"{STEM}_desc-atlas_dseg.nii.gz",
    "jacobian": f"{STEM}_space-{SPACE}_desc-jacobian_map.nii.gz",
    "forward": f"{STEM}_from-T1w_to-{SPACE}_mode-image_xfm.h5",
    "inverse": f"{STEM}_from-{SPACE}_to-T1w_mode-image_xfm.h5",
    "affine": f"{STEM}_from-T1w_to-{SPACE}_mode-image_desc-affine_xfm.txt",
    "conformed": f"{STEM}_space-{SPACE}_res-network_desc-conformed_T1w.nii.gz",
    "conformed_labels": f"{STEM}_space-{SPACE}_res-network_desc-conformed_dseg.nii.gz",
    "dice": f"{STEM}_space-{SPACE}_desc-registration_dice.tsv",
    "metrics": f"{STEM}_space-{SPACE}_desc-registration_metrics.json",
}
COMMON = {"GeneratedBy": {"Name": "vxmprep", "Version": "0"}, "Atlas": {"Name": SPACE}}
SCAN, SEGMENTATION = "bids:raw:sub-01/ses-a/anat/x_T1w.nii.gz", "bids:raw:derivatives/aseg.mgz"


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> dict[str, Path]:
    """Small files of every kind, as the steps before leave them."""
    folder = tmp_path_factory.mktemp("given")
    generator = np.random.default_rng(0)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    files = {}
    for key, name in NAMES.items():
        suffixes = "".join(Path(name).suffixes)
        path = folder / f"{key}{'.nii' if suffixes == '.nii.gz' else suffixes}"
        if suffixes != ".nii.gz":
            path.write_text("{}" if path.suffix == ".json" else f"content of {key}\n")
        elif "T1w" in name or "map" in name:
            data = generator.uniform(0, 900, size=(8, 9, 10)).astype(np.float32)
            nb.save(nb.Nifti1Image(data, affine), path)
        else:
            data = generator.integers(0, 2, size=(8, 9, 10))
            nb.save(nb.Nifti1Image(data.astype(np.int16), affine), path)
        files[key] = path
    return files


def write(root: Path, given: dict[str, Path], *, strip_method: str = "deepbet") -> dict[str, Path]:
    writer = ScanWriter(root, ENTITIES, COMMON)
    sources = [SCAN, SEGMENTATION]
    return write_scan(writer, given, SPACE, sources, strip_method=strip_method)


@pytest.fixture(scope="module")
def root(given, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("derivatives")
    dataset = tmp_path_factory.mktemp("bids")
    describe_dataset(folder, dataset)
    write(folder, given)
    return folder


@pytest.fixture(scope="module")
def anat(root) -> Path:
    return root / "sub-01" / "ses-a" / "anat"


def sidecar(anat: Path, key: str) -> dict:
    stem = NAMES[key].split(".")[0]
    return json.loads((anat / f"{stem}.json").read_text())


def test_every_file_has_the_name_that_is_documented(root, anat):
    sidecars = {name.split(".")[0] + ".json" for key, name in NAMES.items() if key != "dice"}
    assert {path.name for path in anat.iterdir()} == set(NAMES.values()) | sidecars


def test_a_scan_without_sessions_has_no_folder_for_one(tmp_path):
    path = derivative_path(
        tmp_path, (("subject", "01"),), desc="preproc", suffix="T1w", extension=".nii.gz"
    )
    assert path == tmp_path / "sub-01" / "anat" / "sub-01_desc-preproc_T1w.nii.gz"


def test_every_entity_of_a_scan_is_in_the_name(tmp_path):
    entities = (
        ("subject", "01"), ("session", "a"), ("acquisition", "b"), ("ceagent", "c"),
        ("reconstruction", "d"), ("run", "02"), ("echo", "1"), ("part", "mag"),
    )  # fmt: skip
    path = derivative_path(tmp_path, entities, suffix="T1w", desc="preproc", extension=".nii.gz")
    assert path.name == (
        "sub-01_ses-a_acq-b_ce-c_rec-d_run-02_echo-1_part-mag_desc-preproc_T1w.nii.gz"
    )


def test_the_files_written_are_told(given, tmp_path):
    written = write(tmp_path, given)
    assert {key: path.name for key, path in written.items()} == NAMES


def test_what_was_not_computed_is_not_written(given, tmp_path):
    some = {key: given[key] for key in ("t1w", "mask", "forward")}
    assert {key: path.name for key, path in write(tmp_path, some).items()} == {
        key: NAMES[key] for key in some
    }


@pytest.mark.parametrize(
    ("summary", "owner"), [("affine_summary", "affine"), ("register_summary", "forward")]
)
def test_measures_go_into_the_sidecar_of_what_they_measure(summary, owner, given, tmp_path):
    measures = tmp_path / "measures.json"
    measures.write_text('{"Similarity": 0.5}')
    written = write(tmp_path, {owner: given[owner], summary: measures})
    assert written[summary].name == NAMES[owner].rsplit(".", 1)[0] + ".json"
    content = json.loads(written[summary].read_text())
    assert content["Measures"] == {"Similarity": 0.5}
    assert content["Sources"] == [SCAN]


@pytest.mark.parametrize("key", ["conformed", "conformed_labels"])
def test_an_image_on_the_networks_grid_says_what_that_is(key, anat):
    assert "1 mm" in sidecar(anat, key)["Resolution"]


def test_the_sidecar_of_the_mask_says_of_what_it_is_and_how_it_was_made(anat):
    assert sidecar(anat, "mask")["Type"] == "Brain"
    assert sidecar(anat, "mask")["Method"] == "deepbet"


@pytest.mark.parametrize("key", [key for key in NAMES if key not in ("dice", "metrics")])
def test_every_image_and_transform_has_a_sidecar_with_its_source_and_versions(key, anat):
    content = sidecar(anat, key)
    assert content["Sources"][0] == SCAN
    assert content["GeneratedBy"]["Name"] == "vxmprep"
    assert content["Atlas"] == {"Name": SPACE}


@pytest.mark.parametrize("key", ["labels_in_atlas", "labels_in_atlas_affine"])
def test_labels_name_the_segmentation_among_their_sources(key, anat):
    assert sidecar(anat, key)["Sources"] == [SCAN, SEGMENTATION]


@pytest.mark.parametrize("key", ["t1w_in_atlas", "mask_in_atlas", "labels_in_atlas", "jacobian"])
def test_an_image_in_the_atlas_names_its_space(key, anat):
    assert SPACE in sidecar(anat, key)["SpatialReference"]


@pytest.mark.parametrize("key", ["t1w", "mask", "atlas_labels_in_scan"])
def test_an_image_on_the_scan_says_so(key, anat):
    assert sidecar(anat, key)["SpatialReference"] == "orig"


@pytest.mark.parametrize(("method", "stripped"), [("none", True), ("deepbet", False)])
@pytest.mark.parametrize("key", ["t1w", "t1w_in_atlas"])
def test_skull_stripped_says_what_the_scan_was(key, method, stripped, given, tmp_path):
    write(tmp_path, {key: given[key]}, strip_method=method)
    content = sidecar(tmp_path / "sub-01" / "ses-a" / "anat", key)
    assert content["SkullStripped"] is stripped


def test_intensities_are_kept_to_a_thousandth_of_their_range(anat, given):
    stored = nb.load(anat / NAMES["t1w"])
    original = nb.load(given["t1w"]).get_fdata()
    assert stored.get_data_dtype() == np.int16
    assert np.abs(stored.get_fdata() - original).max() < original.max() / 4000


def test_determinants_and_labels_are_kept_as_they_are(anat, given):
    for key in ("jacobian", "labels_in_atlas"):
        stored, original = nb.load(anat / NAMES[key]), nb.load(given[key])
        assert stored.get_data_dtype() == original.get_data_dtype()
        np.testing.assert_array_equal(np.asarray(stored.dataobj), np.asarray(original.dataobj))


@pytest.mark.parametrize("key", ["forward", "inverse", "affine", "dice", "metrics"])
def test_transforms_and_tables_are_copied_as_they_are(key, anat, given):
    assert (anat / NAMES[key]).read_bytes() == given[key].read_bytes()


def test_writing_leaves_no_temporary_file(root):
    assert not [path for path in root.rglob(".*") if path.name != ".bidsignore"]


def test_the_folder_is_described_as_a_derivative_made_by_this_version(root):
    content = json.loads((root / "dataset_description.json").read_text())
    assert content["DatasetType"] == "derivative"
    assert content["GeneratedBy"][0] == {"Name": "vxmprep", "Version": vxmprep.__version__}


def test_the_links_of_sidecars_can_be_followed(root):
    content = json.loads((root / "dataset_description.json").read_text())
    assert content["DatasetLinks"]["raw"].startswith("file:///")


def test_the_table_of_labels_names_every_structure(root):
    lines = (root / "desc-aseg_dseg.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["index", "name", "color"]
    assert any(line.startswith("17\tLeft-Hippocampus\t#") for line in lines)


def test_a_source_inside_the_dataset_is_a_bids_uri(tmp_path):
    assert source_uri(tmp_path / "sub-01" / "anat" / "x.nii.gz", tmp_path) == (
        "bids:raw:sub-01/anat/x.nii.gz"
    )


def test_a_source_outside_the_dataset_is_a_name(tmp_path):
    assert source_uri(tmp_path / "fs" / "aseg.mgz", tmp_path / "bids") == "aseg.mgz"


def add(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("content\n")


@pytest.mark.parametrize("name", ["README", ".bidsignore"])
def test_a_text_of_the_users_stays_and_one_of_another_version_is_renewed(name, tmp_path):
    for folder, is_users in ((tmp_path / "mine", True), (tmp_path / "ours", False)):
        folder.mkdir()
        describe_dataset(folder, tmp_path)
        written = (folder / name).read_text()
        changed = "my own\n" if is_users else written + "older\n"
        (folder / name).write_text(changed)
        describe_dataset(folder, tmp_path)
        assert (folder / name).read_text() == (changed if is_users else written)


def test_the_bids_validator_finds_no_error(root, bids_errors):
    add(
        root, "sub-01.html", "group.html", "group_overlap.tsv", "participants_status.tsv",
        "logs/sub-01_T1w.json", "logs/crashes/crash-1.txt", "CITATION.md",
    )  # fmt: skip
    assert bids_errors(root) == []


def test_the_bids_validator_would_find_an_error(given, tmp_path, bids_errors):
    describe_dataset(tmp_path, tmp_path)
    write(tmp_path, given)
    (tmp_path / ".bidsignore").unlink()
    assert any("xfm" in location for _, location in bids_errors(tmp_path))


def test_the_bids_validator_accepts_figures_and_models(given, tmp_path, bids_errors):
    describe_dataset(tmp_path, tmp_path)
    write(tmp_path, given)
    add(tmp_path, "sub-01/figures/sub-01_T1w.svg", "models/x/model.pt")
    assert bids_errors(tmp_path) == []
