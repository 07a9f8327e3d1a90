"""What a run will do: scans, masks, segmentations, threads."""

import hashlib
import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import torch

from vxmprep.atlas import AtlasError
from vxmprep.bids.dataset import DatasetError, Scan
from vxmprep.cli.plan import branch_name, make_plan
from vxmprep.config import Settings, UsageError
from vxmprep.morph.checkpoint import save_checkpoint
from vxmprep.morph.network import VxmNet


@pytest.fixture
def bids_dir(tmp_path) -> Path:
    root = tmp_path / "bids"
    for number in (1, 2):
        path = root / f"sub-0{number}" / "anat" / f"sub-0{number}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nb.save(nb.Nifti1Image(np.zeros((8, 16, 32), np.uint8), np.eye(4)), path)
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": "made up", "BIDSVersion": "1.10.0"})
    )
    return root


@pytest.fixture
def masks(tmp_path) -> Path:
    """Derivatives with a mask of every scan."""
    root = tmp_path / "masks"
    for label in ("01", "02"):
        path = root / f"sub-{label}" / "anat" / f"sub-{label}_desc-brain_mask.nii.gz"
        path.parent.mkdir(parents=True)
        path.touch()
    return root


@pytest.fixture
def settings_of(bids_dir, tmp_path):
    def build(**more) -> Settings:
        return Settings(bids_dir, tmp_path / "out", work_dir=tmp_path / "work", **more)

    return build


def lacking(masks: Path, label: str) -> None:
    (masks / f"sub-{label}" / "anat" / f"sub-{label}_desc-brain_mask.nii.gz").unlink()


def test_every_scan_has_a_branch_with_its_file(settings_of, bids_dir):
    plan = make_plan(settings_of())
    assert [scan.stem for scan in plan.scans] == ["sub-01", "sub-02"]
    assert list(plan.branches) == ["sub-01", "sub-02"]
    branch = plan.branches["sub-02"]
    assert branch["t1w"] == str(bids_dir / "sub-02" / "anat" / "sub-02_T1w.nii.gz")
    assert branch["source"] == "bids:raw:sub-02/anat/sub-02_T1w.nii.gz"
    assert branch["entities"] == (("subject", "02"),)
    assert branch["mem_gb"] == pytest.approx(8 * 16 * 32 * 4 / 2**30)


def test_participants_are_chosen(settings_of):
    plan = make_plan(settings_of(participant_label=("sub-02",)))
    assert [scan.stem for scan in plan.scans] == ["sub-02"]


def test_without_masks_each_scan_is_looked_at(settings_of):
    branches = make_plan(settings_of()).branches.values()
    assert {b["skull_strip"] for b in branches} == {"auto"}
    assert {b["mask_file"] for b in branches} == {None}


def test_masks_of_all_scans_are_used(settings_of, masks):
    branches = make_plan(settings_of(derivatives=(masks,))).branches
    assert {b["skull_strip"] for b in branches.values()} == {"derivatives"}
    assert branches["sub-01"]["mask_file"].endswith("sub-01_desc-brain_mask.nii.gz")
    assert branches["sub-02"]["mask_file"].endswith("sub-02_desc-brain_mask.nii.gz")


def test_if_one_scan_lacks_a_mask_none_is_used(settings_of, masks):
    lacking(masks, "02")
    branches = make_plan(settings_of(derivatives=(masks,))).branches.values()
    assert {b["skull_strip"] for b in branches} == {"auto"}
    assert {b["mask_file"] for b in branches} == {None}


def test_masks_asked_for_must_be_there_for_every_scan(settings_of, masks):
    lacking(masks, "02")
    with pytest.raises(DatasetError, match="no brain mask for sub-02;") as caught:
        make_plan(settings_of(derivatives=(masks,), skull_strip="derivatives"))
    assert "\n" not in str(caught.value)


def test_how_many_masks_are_missing_is_said(settings_of):
    with pytest.raises(DatasetError, match="no brain mask for sub-01 and 1 more"):
        make_plan(settings_of(skull_strip="derivatives"))


def test_masks_of_freesurfer_are_taken_from_its_folder(settings_of, tmp_path):
    for label in ("01", "02"):
        path = tmp_path / "fs" / f"sub-{label}" / "mri" / "brainmask.mgz"
        path.parent.mkdir(parents=True)
        path.touch()
    settings = settings_of(fs_subjects_dir=tmp_path / "fs", skull_strip="freesurfer")
    branches = make_plan(settings).branches
    assert branches["sub-01"]["skull_strip"] == "freesurfer"
    assert branches["sub-01"]["mask_file"] == str(tmp_path / "fs/sub-01/mri/brainmask.mgz")


def test_another_method_ignores_masks(settings_of, masks):
    branches = make_plan(settings_of(derivatives=(masks,), skull_strip="deepbet")).branches
    assert {b["skull_strip"] for b in branches.values()} == {"deepbet"}
    assert {b["mask_file"] for b in branches.values()} == {None}


def test_a_segmentation_is_found_and_named_as_a_source(settings_of, bids_dir):
    path = bids_dir / "derivatives" / "freesurfer" / "sub-01" / "mri" / "aseg.mgz"
    path.parent.mkdir(parents=True)
    path.touch()
    branches = make_plan(settings_of()).branches
    assert branches["sub-01"]["segmentation"] == str(path)
    assert branches["sub-01"]["segmentation_source"] == (
        "bids:raw:derivatives/freesurfer/sub-01/mri/aseg.mgz"
    )
    assert branches["sub-02"]["segmentation"] is None


def test_a_missing_atlas_is_noticed_before_any_work(settings_of):
    with pytest.raises(AtlasError, match="no such file"):
        make_plan(settings_of(atlas="/nowhere/atlas.nii.gz"))


def test_a_file_that_is_no_image_is_left_to_its_own_branch(settings_of, bids_dir):
    (bids_dir / "sub-01" / "anat" / "sub-01_T1w.nii.gz").write_bytes(b"")
    assert make_plan(settings_of()).branches["sub-01"]["mem_gb"] == 0.1


@pytest.mark.parametrize(
    ("nprocs", "scans", "threads"), [(8, 2, 4), (8, 20, 1), (2, 1, 2), (1, 5, 1), (7, 2, 3)]
)
def test_processors_are_shared_out_where_scans_are_few(nprocs, scans, threads, settings_of):
    assert settings_of(nprocs=nprocs).threads(scans) == threads


def test_threads_asked_for_are_taken(settings_of):
    assert settings_of(nprocs=8, omp_nthreads=3).threads(100) == 3


def test_the_branch_of_a_scan_has_a_name_that_nipype_takes():
    scan = Scan(Path("sub-01_ses-a+b_T1w.nii.gz"), (("subject", "01"),))
    assert branch_name(scan) == "sub_01_ses_a_b_wf"


def test_the_graph_has_a_branch_per_scan_with_the_settings(settings_of, tmp_path):
    model = tmp_path / "net.pt"
    save_checkpoint(VxmNet(encoder=(2, 2), decoder=(2, 2, 2)), model)
    settings = settings_of(n4=False, refine_iterations=7, device="cpu", model=model)
    graph = make_plan(settings).graph()
    names = graph.list_node_names()
    for branch in ("sub_01_wf", "sub_02_wf"):
        assert f"{branch}.preparation_wf.align" in names
        assert f"{branch}.preparation_wf.bias" not in names
        register = graph.get_node(f"{branch}.registration_wf.register")
        assert register.inputs.iterations == 7
        assert register.inputs.model == str(model)
    common = graph.get_node("sub_01_wf.save").inputs.common
    assert common["Settings"]["BiasCorrection"] == "none"
    assert common["Model"] == {
        "File": "net.pt", "SHA256": hashlib.sha256(model.read_bytes()).hexdigest()
    }  # fmt: skip
    assert "approximate" in graph.get_node("sub_01_wf.evaluation_wf.evaluate").inputs.reference


def test_a_model_file_that_is_none_is_refused_before_any_work(settings_of, tmp_path):
    model = tmp_path / "net.pt"
    model.write_bytes(b"weights")
    with pytest.raises(UsageError, match="not a checkpoint"):
        make_plan(settings_of(model=model))


def test_a_gpu_that_is_not_there_is_refused_before_any_work(settings_of):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="sees no GPU"):
        make_plan(settings_of(device="cuda"))
