"""The graphs: what they hold, that nothing is left unconnected, and that they share nothing."""

import inspect
import os

import pytest
from nipype.interfaces.base import isdefined
from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from vxmprep import workflows
from vxmprep.atlas import default_files
from vxmprep.workflows import (
    init_cohort_wf,
    init_evaluation_wf,
    init_preparation_wf,
    init_registration_wf,
    init_scan_wf,
)

BUILDERS = [getattr(workflows, name) for name in workflows.__all__]
SKULL_STRIPS = ("auto", "deepbet", "none", "synthstrip", "bet", "freesurfer", "derivatives")
IMAGE, LABELS = (str(path) for path in default_files())


@pytest.fixture
def scan(tmp_path) -> dict:
    return {
        "t1w": IMAGE,
        "entities": (("subject", "01"),),
        "output_dir": str(tmp_path),
        "space": "MNI",
        "source": "bids:raw:sub-01/anat/sub-01_T1w.nii.gz",
    }


def cohort(tmp_path, **settings) -> pe.Workflow:
    scans = [
        {
            "name": f"sub_0{number}_wf", "t1w": IMAGE, "entities": (("subject", f"0{number}"),),
            "source": "x", "segmentation": LABELS, "mask_file": IMAGE,
        }
        for number in (1, 2)
    ]  # fmt: skip
    shared = {"atlas_image": IMAGE, "atlas_labels": LABELS, "space": "MNI"}
    return init_cohort_wf(scans=scans, output_dir=str(tmp_path), **shared, **settings)


def built(builder, scan: dict, tmp_path) -> pe.Workflow:
    """A builder's graph with nothing but what it must be told."""
    if builder is init_cohort_wf:
        return cohort(tmp_path)
    return builder(**scan) if builder is init_scan_wf else builder()


def connections(workflow: pe.Workflow) -> set[tuple[str, str, str, str]]:
    """Source, its output, target, its input, of the graph without inner graphs."""
    flat = workflow._create_flat_graph()
    return {
        (source.name, start if isinstance(start, str) else start[0], target.name, end)
        for source, target, data in flat.edges(data=True)
        for start, end in data["connect"]
    }


def supplied(flat, node: pe.Node, name: str) -> bool:
    """Whether an input is set, computed by a node, or an input of the whole graph."""
    if isdefined(getattr(node.inputs, name)):
        return True
    for source, _, data in flat.in_edges(node, data=True):
        for start, end in data["connect"]:
            if end == name:
                if not isinstance(source.interface, IdentityInterface):
                    return True
                whole = source.fullname.count(".") == 1
                return whole or supplied(
                    flat, source, start if isinstance(start, str) else start[0]
                )
    return False


def unfilled(workflow: pe.Workflow) -> list[str]:
    """Mandatory inputs of nodes that nothing supplies."""
    flat = workflow._create_flat_graph()
    return [
        f"{node.fullname}.{name}"
        for node in flat.nodes
        for name in node.inputs.traits(mandatory=True)
        if not supplied(flat, node, name)
    ]


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda b: b.__name__)
def test_a_builder_takes_keywords_only_and_a_name(builder):
    parameters = inspect.signature(builder).parameters
    kinds = {p.kind for p in parameters.values()}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
    assert parameters["name"].default.endswith("_wf")


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda b: b.__name__)
def test_a_builder_called_twice_gives_two_graphs_that_share_no_node(builder, scan, tmp_path):
    one, other = (built(builder, scan, tmp_path) for _ in range(2))
    assert one.list_node_names() == other.list_node_names()
    for name in one.list_node_names():
        assert one.get_node(name) is not other.get_node(name)
        assert one.get_node(name).inputs is not other.get_node(name).inputs


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda b: b.__name__)
def test_a_builder_touches_neither_environment_nor_folder(builder, scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    built(builder, scan, tmp_path)
    assert dict(os.environ) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda b: b.__name__)
def test_inputs_and_outputs_of_a_graph_are_documented(builder, scan, tmp_path):
    text = inspect.getdoc(builder)
    workflow = built(builder, scan, tmp_path)
    for node in (workflow.get_node("inputnode"), workflow.get_node("outputnode")):
        for field in node.inputs.copyable_trait_names() if node else ():
            assert field in text


@pytest.mark.parametrize("skull_strip", SKULL_STRIPS)
def test_every_mandatory_input_of_a_cohort_is_filled(skull_strip, tmp_path):
    assert unfilled(cohort(tmp_path, skull_strip=skull_strip)) == []


def test_an_input_that_nothing_supplies_would_be_noticed(tmp_path):
    workflow = cohort(tmp_path)
    branch = workflow.get_node("sub_01_wf")
    prepare, register = branch.get_node("preparation_wf"), branch.get_node("registration_wf")
    branch.disconnect(prepare, "outputnode.conformed", register, "inputnode.conformed")
    assert unfilled(workflow) == ["vxmprep_wf.sub_01_wf.registration_wf.register.moving"]


def test_preparation_strips_corrects_aligns_and_conforms():
    wired = connections(init_preparation_wf())
    assert {
        ("inputnode", "t1w", "strip", "in_file"),
        ("inputnode", "t1w", "bias", "in_file"),
        ("strip", "mask_file", "bias", "mask_file"),
        ("bias", "out_file", "align", "in_file"),
        ("strip", "mask_file", "align", "mask_file"),
        ("bias", "out_file", "conform", "in_file"),
        ("align", "affine_file", "conform", "affine_file"),
        ("conform", "out_file", "outputnode", "conformed"),
        ("bias", "out_file", "outputnode", "t1w"),
    } <= wired


def test_without_n4_there_is_no_bias_node_and_the_scan_goes_on_as_it_is():
    workflow = init_preparation_wf(bias_correct=False)
    assert "bias" not in workflow.list_node_names()
    assert {
        ("inputnode", "t1w", "align", "in_file"),
        ("inputnode", "t1w", "conform", "in_file"),
        ("inputnode", "t1w", "outputnode", "t1w"),
    } <= connections(workflow)
    assert unfilled(workflow) == []


@pytest.mark.parametrize("skull_strip", ["freesurfer", "derivatives"])
def test_a_mask_made_elsewhere_reaches_the_strip_node(skull_strip):
    wired = connections(init_preparation_wf(skull_strip=skull_strip))
    assert ("inputnode", "mask_file", "strip", "mask_file") in wired


@pytest.mark.parametrize("skull_strip", ["synthstrip", "bet"])
def test_another_program_says_its_name_as_the_method(skull_strip):
    workflow = init_preparation_wf(skull_strip=skull_strip)
    assert workflow.get_node("outputnode").inputs.strip_method == skull_strip


@pytest.mark.parametrize("skull_strip", ["auto", "deepbet", "none"])
def test_our_own_methods_reach_the_strip_node(skull_strip):
    workflow = init_preparation_wf(skull_strip=skull_strip)
    assert workflow.get_node("strip").inputs.method == skull_strip


def test_without_an_affine_the_align_node_judges_only():
    workflow = init_preparation_wf(affine="none")
    assert workflow.get_node("align").inputs.method == "none"


def test_registration_takes_its_settings():
    workflow = init_registration_wf(model=IMAGE, iterations=7, device="cuda:1", omp_nthreads=3)
    node = workflow.get_node("register")
    assert node.inputs.model == IMAGE
    assert node.inputs.iterations == 7
    assert node.inputs.device == "cuda:1"
    assert node.inputs.use_gpu
    assert (node.inputs.num_threads, node.n_procs) == (3, 3)


def test_registration_on_the_processor_takes_no_gpu_slot():
    node = init_registration_wf(device="cpu").get_node("register")
    assert not node.inputs.use_gpu
    assert not isdefined(node.inputs.model)


def test_evaluation_applies_the_written_transforms_to_the_scan_itself():
    wired = connections(init_evaluation_wf())
    assert {
        ("inputnode", "forward", "warp_t1w", "transform"),
        ("inputnode", "t1w", "warp_t1w", "in_file"),
        ("inputnode", "forward", "carry_labels", "transform"),
        ("inputnode", "forward", "jacobian", "transform"),
        ("inputnode", "inverse", "warp_atlas_labels", "transform"),
        ("inputnode", "t1w", "warp_atlas_labels", "reference"),
        ("carry_labels", "full", "evaluate", "full_labels"),
        ("carry_labels", "affine", "evaluate", "affine_labels"),
    } <= wired


def test_labels_and_masks_are_interpolated_by_their_nearest_voxel():
    workflow = init_evaluation_wf()
    for name in ("warp_mask", "warp_atlas_labels"):
        assert workflow.get_node(name).inputs.interpolation == "nearest"
    assert workflow.get_node("warp_t1w").inputs.interpolation == "linear"


def test_an_atlas_without_labels_brings_none_back():
    workflow = init_evaluation_wf(with_atlas_labels=False)
    assert "warp_atlas_labels" not in workflow.list_node_names()
    targets = {(target, end) for _, _, target, end in connections(workflow)}
    assert ("evaluate", "atlas_labels") not in targets


def test_a_scan_saves_all_that_was_computed(scan):
    saved = {end for _, _, target, end in connections(init_scan_wf(**scan)) if target == "save"}
    assert saved == {
        "t1w", "mask", "t1w_in_atlas", "mask_in_atlas", "labels_in_atlas",
        "labels_in_atlas_affine", "atlas_labels_in_scan", "jacobian", "forward", "inverse",
        "affine", "dice", "metrics", "strip_method",
    }  # fmt: skip


def test_a_scan_with_a_segmentation_names_it_as_a_source(scan):
    workflow = init_scan_wf(**scan, segmentation=LABELS, segmentation_source="bids:raw:aseg.mgz")
    assert workflow.get_node("save").inputs.segmentation_source == "bids:raw:aseg.mgz"
    inputs = workflow.get_node("evaluation_wf.inputnode").inputs
    assert inputs.segmentation == LABELS


def test_the_atlas_is_prepared_once_for_all_scans(tmp_path):
    workflow = cohort(tmp_path)
    names = workflow.list_node_names()
    assert names.count("atlas") == 1
    assert {name.split(".")[0] for name in names} == {"atlas", "sub_01_wf", "sub_02_wf"}


def test_a_scan_depends_on_no_other_scan(tmp_path):
    flat = cohort(tmp_path)._create_flat_graph()
    for source, target in flat.edges:
        branches = {node.fullname.split(".")[1] for node in (source, target)} - {"atlas"}
        assert len(branches) == 1
