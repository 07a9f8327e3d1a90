"""Builders without BIDS: paths go in, paths come out, and the next builder takes them."""

import json
import tomllib
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from nipype import DataGrabber, DataSink, IdentityInterface, JoinNode, Node, Workflow

from vxmprep.interfaces import PrepareAtlas
from vxmprep.workflows import init_cohort_wf, init_scan_wf, init_training_wf
from vxmprep.workflows.scan import ATLAS_FILES, STAGES


def read_toml(path: Path) -> dict:
    return tomllib.loads(path.read_text())


def out_of(graph, name: str) -> object:
    """What a node of a graph that was run gives."""
    return next(node for node in graph if node.name == name).result.outputs


@pytest.mark.slow
def test_a_cohort_of_paths_gives_lists_of_paths_that_a_training_takes(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a crash file would lie there
    _, atlas, *_, labels = tiny.atlas(tmp_path / "atlas")
    scans = [{"t1w": str(tiny.scan(tmp_path / f"{n}.nii.gz", n))} for n in (1, 2)]
    scans[1]["segmentation"] = str(tiny.segmentation(tmp_path / "2_labels.nii.gz", 2))
    cohort = init_cohort_wf(
        scans=scans, atlas_image=atlas, atlas_labels=labels, iterations=5, stages=STAGES[:-1]
    )
    training = init_training_wf(
        folder=str(tmp_path / "model"),
        settings={"voxel_size": 2, "iterations": 1, "features": [[4, 4], [4, 4]], "device": "cpu"},
    )
    training.inputs.inputnode.atlas_image = atlas
    study = Workflow("study", base_dir=str(tmp_path / "work"))
    given = [("outputnode.conformed", "inputnode.images")]
    given += [("outputnode.conformed_labels", "inputnode.labels")]
    study.connect([(cohort, training, given)])
    graph = study.run("Linear")
    assert out_of(graph, "train").model == str(tmp_path / "model" / "model.pt")
    config = Path(out_of(graph, "train").config_file)
    trained = [(config.parent / scan["image"]).resolve() for scan in read_toml(config)["scans"]]
    assert trained == [Path(path).resolve() for path in out_of(graph, "all_conformed").out]
    for path in out_of(graph, "all_t1w_in_atlas").out:
        moved = np.asarray(nb.load(path).dataobj)
        assert np.corrcoef(moved.ravel(), tiny.brain.ravel())[0, 1] > 0.9
    assert out_of(graph, "all_labels_in_atlas").out[0] is None
    assert Path(out_of(graph, "all_labels_in_atlas").out[1]).is_file()
    assert ["labels" in scan for scan in read_toml(config)["scans"]] == [False, True]
    first, second = (json.loads(Path(p).read_text()) for p in out_of(graph, "all_metrics").out)
    assert first["Overlap"] == {}
    assert second["Overlap"]["DiceMean"] > second["Overlap"]["DiceMeanAffine"]


@pytest.mark.slow
def test_a_scan_comes_through_the_inputnode_and_its_results_through_the_outputnode(tiny, tmp_path):
    _, atlas, *_ = tiny.atlas(tmp_path / "atlas")
    scan = init_scan_wf(stages=("brain", "align"))
    scan.inputs.inputnode.t1w = str(tiny.scan(tmp_path / "scan.nii.gz"))
    template = Node(PrepareAtlas(image=atlas), name="template")
    sink = Node(
        DataSink(base_directory=str(tmp_path / "out"), parameterization=False), name="sink"
    )
    study = Workflow("study", base_dir=str(tmp_path / "work"))
    study.connect([
        (template, scan, [(name, f"inputnode.{name}") for name in ATLAS_FILES]),
        (scan, sink, [("outputnode.conformed", "@conformed"), ("outputnode.mask", "@mask")]),
    ])  # fmt: skip
    graph = study.run("Linear")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"conformed.nii", "mask.nii"}
    conformed = nb.load(tmp_path / "out" / "conformed.nii")
    network = nb.load(out_of(graph, "template").network_brain)
    assert conformed.shape == network.shape
    values = [np.asarray(image.dataobj, float).ravel() for image in (conformed, network)]
    assert np.corrcoef(values)[0, 1] > 0.8


@pytest.mark.slow
def test_scans_that_a_node_finds_are_iterated_over_and_their_results_joined(tiny, tmp_path):
    """As docs/workflows.md says."""
    _, atlas, *_ = tiny.atlas(tmp_path / "atlas")
    for number, name in enumerate(("anna", "bert"), start=1):
        tiny.scan(tmp_path / name / "T1w.nii.gz", number)
    subjects = Node(IdentityInterface(["subject"]), name="subjects")
    subjects.iterables = [("subject", ["anna", "bert"])]
    grabber = Node(DataGrabber(infields=["subject"], outfields=["t1w"]), name="grabber")
    grabber.inputs.base_directory = str(tmp_path)
    grabber.inputs.template = "%s/T1w.nii.gz"
    grabber.inputs.sort_filelist = True
    template = Node(PrepareAtlas(image=atlas), name="template")
    stages = ("brain", "align", "register", "evaluate")
    scan = init_scan_wf(stages=stages, with_atlas_labels=False, iterations=1)
    maps = JoinNode(
        IdentityInterface(["jacobian"]), name="maps", joinsource="subjects", joinfield="jacobian"
    )
    given = [name for name in ATLAS_FILES if name != "labels"]
    study = Workflow("study", base_dir=str(tmp_path / "work"))
    study.connect([
        (subjects, grabber, [("subject", "subject")]),
        (grabber, scan, [("t1w", "inputnode.t1w")]),
        (template, scan, [(name, f"inputnode.{name}") for name in given]),
        (scan, maps, [("outputnode.jacobian", "jacobian")]),
    ])  # fmt: skip
    one, other = (nb.load(path) for path in out_of(study.run("Linear"), "maps").jacobian)
    assert one.shape == other.shape == tiny.brain.shape
    assert np.abs(one.get_fdata() - other.get_fdata()).max() > 0
