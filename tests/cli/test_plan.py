"""What a run will do: scans, masks, segmentations, threads."""

import hashlib
import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import torch

from vxmprep.atlas import AtlasError
from vxmprep.bids.dataset import Scan
from vxmprep.bids.index import DatasetError
from vxmprep.cli.methods import trained_to
from vxmprep.cli.plan import branch_name, make_plan
from vxmprep.cli.run import warn_of
from vxmprep.cli.train import choose_prepared
from vxmprep.config import Settings, UsageError
from vxmprep.morph.checkpoint import save_checkpoint
from vxmprep.morph.model import Model
from vxmprep.morph.network import VxmNet


@pytest.fixture
def bids_dir(tmp_path) -> Path:
    root = tmp_path / "bids"
    for number in (1, 2):
        path = root / f"sub-0{number}" / "anat" / f"sub-0{number}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nb.save(nb.Nifti1Image(np.zeros((32, 40, 48), np.uint8), np.eye(4)), path)
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


def strips(plan) -> dict[str, str | None]:
    """Give the mask of each scan."""
    return {task.scan.stem: task.mask and task.mask.name for task in plan.tasks}


def test_every_scan_has_a_task_with_its_file(settings_of, bids_dir):
    plan = make_plan(settings_of())
    assert [task.scan.stem for task in plan.tasks] == ["sub-01", "sub-02"]
    task = plan.tasks[1]
    assert task.scan.path == bids_dir / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    assert task.gigabytes == pytest.approx(32 * 40 * 48 * 4 / 2**30)
    assert task.pending


def test_participants_are_chosen(settings_of):
    plan = make_plan(settings_of(participant_label=("sub-02",)))
    assert [task.scan.stem for task in plan.tasks] == ["sub-02"]


def test_without_masks_each_scan_is_looked_at(settings_of):
    plan = make_plan(settings_of())
    assert plan.skull_strip == "auto"
    assert strips(plan) == {"sub-01": None, "sub-02": None}


def test_masks_of_all_scans_are_used(settings_of, masks):
    plan = make_plan(settings_of(derivatives=(masks,)))
    assert plan.skull_strip == "derivatives"
    assert strips(plan) == {s: f"{s}_desc-brain_mask.nii.gz" for s in ("sub-01", "sub-02")}


def test_if_one_scan_lacks_a_mask_none_is_used(settings_of, masks):
    lacking(masks, "02")
    plan = make_plan(settings_of(derivatives=(masks,)))
    assert plan.skull_strip == "auto"
    assert strips(plan) == {"sub-01": None, "sub-02": None}


def test_how_brains_are_found_does_not_depend_on_the_participants_asked_for(settings_of, masks):
    """Jobs of a cluster, a participant each, must decide alike."""
    lacking(masks, "02")
    settings = settings_of(derivatives=(masks,), participant_label=("01",))
    assert make_plan(settings).skull_strip == "auto"


def test_masks_asked_for_must_be_there_for_every_scan_asked_for(settings_of, masks):
    lacking(masks, "02")
    settings = {"derivatives": (masks,), "skull_strip": "derivatives"}
    with pytest.raises(DatasetError, match="no brain mask for sub-02;") as caught:
        make_plan(settings_of(**settings))
    assert "\n" not in str(caught.value)
    only = make_plan(settings_of(**settings, participant_label=("01",)))
    assert strips(only) == {"sub-01": "sub-01_desc-brain_mask.nii.gz"}


def test_how_many_masks_are_missing_is_said(settings_of):
    with pytest.raises(DatasetError, match="no brain mask for sub-01 and 1 more"):
        make_plan(settings_of(skull_strip="derivatives"))


def test_masks_of_freesurfer_are_taken_from_its_folder(settings_of, tmp_path):
    for label in ("01", "02"):
        path = tmp_path / "fs" / f"sub-{label}" / "mri" / "brainmask.mgz"
        path.parent.mkdir(parents=True)
        path.touch()
    settings = settings_of(fs_subjects_dir=tmp_path / "fs", skull_strip="freesurfer")
    plan = make_plan(settings)
    assert plan.skull_strip == "freesurfer"
    assert plan.tasks[0].mask == tmp_path / "fs/sub-01/mri/brainmask.mgz"


def test_another_method_ignores_masks(settings_of, masks):
    plan = make_plan(settings_of(derivatives=(masks,), skull_strip="deepbet"))
    assert plan.skull_strip == "deepbet"
    assert strips(plan) == {"sub-01": None, "sub-02": None}


def test_a_segmentation_is_found_and_named_as_a_source(settings_of, bids_dir):
    path = bids_dir / "derivatives" / "freesurfer" / "sub-01" / "mri" / "aseg.mgz"
    path.parent.mkdir(parents=True)
    path.touch()
    plan = make_plan(settings_of())
    assert [task.segmentation for task in plan.tasks] == [path, None]
    branch = plan._branch(plan.tasks[0])
    assert branch["source"] == "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"
    assert branch["segmentation_source"] == "bids:raw:derivatives/freesurfer/sub-01/mri/aseg.mgz"


def test_a_missing_atlas_is_noticed_before_any_work(settings_of):
    with pytest.raises(AtlasError, match=r"/nowhere/atlas\.nii\.gz"):
        make_plan(settings_of(atlas="/nowhere/atlas.nii.gz"))


def test_a_file_that_is_no_image_is_noticed_and_not_worked_on(settings_of, bids_dir):
    broken = bids_dir / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    broken.write_bytes(b"")
    plan = make_plan(settings_of())
    assert plan.tasks[0].problem.startswith(str(broken))
    assert [task.scan.stem for task in plan.pending] == ["sub-02"]


WHOLE = ["brain", "align", "labels", "preview", "register", "evaluate", "report"]


@pytest.mark.parametrize(
    ("levels", "stages"),
    [
        (("prepare",), ["brain", "align", "labels", "preview"]),
        (("participant",), WHOLE),
        (("prepare", "participant"), WHOLE),
    ],
)
def test_a_level_is_made_of_stages(levels, stages, settings_of):
    task = make_plan(settings_of(levels=levels)).tasks[0]
    assert [stage.name for stage in task.stages] == list(task.missing) == stages


@pytest.mark.parametrize(
    ("nprocs", "scans", "threads"), [(8, 2, 4), (8, 20, 1), (2, 1, 2), (1, 5, 1), (7, 2, 3)]
)
def test_processors_are_shared_out_where_scans_are_few(nprocs, scans, threads, settings_of):
    assert settings_of(nprocs=nprocs).threads(scans) == threads


def test_threads_asked_for_are_taken(settings_of):
    assert settings_of(nprocs=8, omp_nthreads=3).threads(100) == 3


def test_a_scan_gets_no_more_threads_than_there_are_processors(settings_of):
    assert settings_of(nprocs=2, omp_nthreads=16).threads(1) == 2


def test_the_branch_of_a_scan_has_a_name_that_nipype_takes():
    scan = Scan(Path("sub-01_ses-a+b_T1w.nii.gz"), (("subject", "01"),))
    assert branch_name(scan) == "sub_01_ses_a_b_wf"


def test_the_graph_has_a_branch_per_scan_with_the_settings(settings_of, tmp_path):
    model = tmp_path / "net.pt"
    save_checkpoint(Model(VxmNet(encoder=(2, 2), decoder=(2, 2, 2))), model)
    settings = settings_of(n4=False, refine_iterations=7, device="cpu", model=model)
    plan = make_plan(settings)
    graph = plan.graph(plan.pending)
    names = graph.list_node_names()
    for branch in ("sub_01_wf", "sub_02_wf"):
        assert f"{branch}.alignment_wf.align" in names
        assert f"{branch}.brain_wf.bias" not in names
        register = graph.get_node(f"{branch}.registration_wf.register")
        assert register.inputs.iterations == 7
        assert register.inputs.model == str(model)
    assert "Model" not in graph.get_node("sub_01_wf.save_align").inputs.common
    common = graph.get_node("sub_01_wf.save_register").inputs.common
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


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ({"atlas": {"name": "MNI"}, "training": {"pairs": "atlas"}}, "MNI"),
        ({"atlas": {"name": "MNI"}, "training": {"pairs": "subjects"}}, None),
        ({"atlas": "MNI", "training": {"pairs": "atlas"}}, None),
        ({}, None),
    ],
)
def test_the_atlas_that_a_network_is_bound_to_is_read_from_its_file(
    description, expected, tmp_path
):
    model = Model(VxmNet((2, 2), (2, 2)), description=description)
    save_checkpoint(model, tmp_path / "net.pt")
    assert trained_to(tmp_path / "net.pt") == expected


@pytest.mark.parametrize(("name", "told"), [("MNI305", True), ("MNI152NLin2009cAsym", False)])
def test_a_network_of_another_atlas_is_told(name, told, settings_of, tmp_path, capsys):
    description = {"atlas": {"name": name}, "training": {"pairs": "atlas"}}
    save_checkpoint(Model(VxmNet((2, 2), (2, 2)), description=description), tmp_path / "net.pt")
    warn_of(make_plan(settings_of(model=tmp_path / "net.pt", skip_bids_validation=True)))
    said = capsys.readouterr().err
    assert ("trained to register to MNI305, not to MNI152NLin2009cAsym" in said) == told
    assert bool(said) == told


def test_a_network_for_planes_is_refused_before_any_work(settings_of, tmp_path):
    save_checkpoint(Model(VxmNet((2, 2), (2, 2), dims=2)), tmp_path / "net.pt")
    with pytest.raises(UsageError, match="a network for planes"):
        make_plan(settings_of(model=tmp_path / "net.pt"))


def test_precision_counts_for_what_is_done_only_where_it_was_asked_for(settings_of, tmp_path):
    save_checkpoint(Model(VxmNet((2, 2), (2, 2))), tmp_path / "net.pt")

    def told(**options) -> dict:
        plan = make_plan(settings_of(**options))
        graph = plan.graph(plan.pending)
        register = graph.get_node("sub_01_wf.registration_wf.register")
        assert register.inputs.precision == plan.compute.precision
        return graph.get_node("sub_01_wf.save_register").inputs.common["Settings"]

    assert "Precision" not in told(model=tmp_path / "net.pt")
    assert told(model=tmp_path / "net.pt", precision="bfloat16")["Precision"] == "bfloat16"
    assert "Precision" not in told(precision="bfloat16")


def test_a_gpu_that_is_not_there_is_refused_before_any_work(settings_of):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="sees no GPU"):
        make_plan(settings_of(device="cuda"))


def test_a_scan_that_lacks_its_pictures_alone_is_trained_on(settings_of):
    plan = make_plan(settings_of(levels=("prepare",)))
    made = plan.settings.output_dir / "conformed.nii"
    made.parent.mkdir(exist_ok=True)
    made.touch()
    for task, lacking_stage in zip(plan.tasks, ("preview", "labels"), strict=True):
        for stage in task.stages:
            if stage.name != lacking_stage:
                files = {"conformed": made} if stage.name == "align" else {}
                checksums = {str(path): "" for path in stage.inputs}
                task.record.finish(stage, files=files, checksums=checksums)
    scans, left_out = choose_prepared(plan)
    assert [scan["name"] for scan in scans] == ["sub-01"]
    assert left_out == {"sub-02": "not prepared"}
