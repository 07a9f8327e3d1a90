"""The graphs: what they hold, that nothing is left unconnected, and that they share nothing."""

import inspect
import os

import networkx as nx
import pytest
from nipype.interfaces.base import isdefined
from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe
from traits.api import TraitError

from vxmprep import workflows
from vxmprep.atlas import default_files
from vxmprep.interfaces.derivatives import FILES
from vxmprep.workflows import (
    init_alignment_wf,
    init_brain_wf,
    init_cohort_wf,
    init_evaluation_wf,
    init_registration_wf,
    init_scan_wf,
    init_training_wf,
)
from vxmprep.workflows.scan import STAGES

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


def training(tmp_path) -> pe.Workflow:
    scans = [
        {"name": "sub-01", "participant": "01", "image": IMAGE, "labels": LABELS, "site": "A"},
        {"name": "sub-02", "participant": "02", "image": IMAGE},
    ]
    shared = {"atlas_image": IMAGE, "atlas_labels": LABELS, "space": "MNI"}
    return init_training_wf(scans=scans, folder=str(tmp_path / "model"), **shared)


def built(builder, scan: dict, tmp_path) -> pe.Workflow:
    """A builder's graph with nothing but what it must be told."""
    if builder is init_cohort_wf:
        return cohort(tmp_path)
    if builder is init_training_wf:
        return training(tmp_path)
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
def test_a_builder_has_an_example(builder):
    assert f"{builder.__name__}(" in inspect.getdoc(builder).partition("Examples")[2]


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


def test_every_mandatory_input_of_a_training_is_filled(tmp_path):
    workflow = training(tmp_path)
    assert unfilled(workflow) == []
    inputs = workflow.get_node("inputnode").inputs
    assert (inputs.labels, inputs.sites) == ([LABELS, None], ["A", None])


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        ({"name": "a", "participant": "1"}, "scan 1 has no image; give name, participant, image"),
        ({"name": "a", "participant": "1", "image": "x", "label": "y"}, "scan 1 has a 'label'"),
    ],
)
def test_a_scan_to_train_on_that_is_not_whole_is_named(scan, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        init_training_wf(scans=[scan], folder=str(tmp_path))


@pytest.mark.parametrize(
    ("scans", "message"),
    [
        ([], "scans: there is none"),
        ([{"t1w": IMAGE}, {"name": "b_wf"}], "scans: scan 2 has no t1w"),
        ([IMAGE], r"scans: scan 1 has no t1w; give the path of its image, \{'t1w': PATH\}"),
        ([{"t1w": IMAGE, "name": "a_wf"}] * 2, "two are called a_wf"),
    ],
)
def test_a_cohort_of_scans_that_are_not_whole_is_refused(scans, message):
    with pytest.raises(ValueError, match=message):
        init_cohort_wf(scans=scans, atlas_image=IMAGE)


def test_derivatives_without_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="derivatives need t1w, entities and source"):
        init_scan_wf(t1w=IMAGE, output_dir=str(tmp_path))


def test_a_stage_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="stages: 'registration' is none; give some of brain, "):
        init_scan_wf(stages=("brain", "registration"))


def test_without_derivatives_every_mandatory_input_of_a_cohort_is_filled():
    scans = [{"t1w": IMAGE}, {"t1w": IMAGE, "segmentation": LABELS, "mask_file": IMAGE}]
    workflow = init_cohort_wf(scans=scans, atlas_image=IMAGE, atlas_labels=LABELS)
    assert unfilled(workflow) == []
    assert not any("save" in name for name in workflow.list_node_names())


def test_an_input_that_nothing_supplies_would_be_noticed(tmp_path):
    workflow = cohort(tmp_path)
    branch = workflow.get_node("sub_01_wf")
    save, register = branch.get_node("save_align"), branch.get_node("registration_wf")
    branch.disconnect(save, "conformed", register, "inputnode.conformed")
    assert unfilled(workflow) == ["vxmprep_wf.sub_01_wf.registration_wf.register.moving"]


def test_the_brain_is_masked_and_its_bias_field_corrected():
    wired = connections(init_brain_wf())
    assert {
        ("inputnode", "t1w", "strip", "in_file"),
        ("inputnode", "t1w", "bias", "in_file"),
        ("strip", "mask_file", "bias", "mask_file"),
        ("strip", "mask_file", "outputnode", "mask"),
        ("bias", "out_file", "outputnode", "t1w"),
    } <= wired


def test_without_n4_there_is_no_bias_node_and_the_scan_goes_on_as_it_is():
    workflow = init_brain_wf(bias_correct=False)
    assert "bias" not in workflow.list_node_names()
    assert ("inputnode", "t1w", "outputnode", "t1w") in connections(workflow)


def test_the_affine_brings_the_brain_to_the_networks_grid():
    assert {
        ("inputnode", "t1w", "align", "in_file"),
        ("inputnode", "t1w", "conform", "in_file"),
        ("align", "affine_file", "conform", "affine_file"),
        ("conform", "out_file", "outputnode", "conformed"),
    } <= connections(init_alignment_wf())


def test_a_stage_starts_from_what_earlier_ones_wrote(scan):
    flat = init_scan_wf(**scan)._create_flat_graph()
    saves = {node.name: node for node in flat if node.name.startswith("save_")}
    assert set(saves) == {f"save_{stage}" for stage in STAGES}
    steps = {node.name: node for node in flat}
    for writer, step in (
        ("save_brain", "align"), ("save_align", "register"), ("save_register", "jacobian"),
        ("save_align", "conform_labels"), ("save_brain", "warp_t1w"),
    ):  # fmt: skip
        assert steps[step] in nx.descendants(flat, saves[writer])
    # nothing that the work folder alone holds goes from one stage to another
    without = flat.copy()
    without.remove_nodes_from(saves.values())
    work = {"strip", "bias", "align", "conform", "register"}
    for step in work:
        reached = {node.name for node in nx.descendants(without, steps[step])}
        assert not reached & (work | {"jacobian", "warp_t1w", "evaluate"}) - {"bias", "conform"}


def test_a_stage_that_is_done_is_not_in_the_graph_and_its_files_are_read(scan, tmp_path):
    ready = {name: IMAGE for name in ("t1w", "mask", "affine", "conformed")}
    workflow = init_scan_wf(
        **scan, stages=("register", "evaluate"),
        ready={**ready, "affine_summary": IMAGE, "strip_method": "none", "flags": ["odd"]},
    )  # fmt: skip
    names = set(workflow.list_node_names())
    assert not any("brain_wf" in name or "alignment_wf" in name for name in names)
    assert workflow.get_node("registration_wf.inputnode").inputs.conformed == IMAGE
    assert workflow.get_node("evaluation_wf.inputnode").inputs.flags == ["odd"]
    assert workflow.get_node("save_evaluate").inputs.strip_method == "none"


@pytest.mark.parametrize("skull_strip", ["freesurfer", "derivatives"])
def test_a_mask_made_elsewhere_reaches_the_strip_node(skull_strip):
    wired = connections(init_brain_wf(skull_strip=skull_strip))
    assert ("inputnode", "mask_file", "strip", "mask_file") in wired


@pytest.mark.parametrize("skull_strip", ["hdbet", "DeepBet"])
def test_a_way_to_strip_that_is_not_known_is_refused(skull_strip):
    with pytest.raises(ValueError, match="give one of auto, deepbet"):
        init_brain_wf(skull_strip=skull_strip)


@pytest.mark.parametrize("skull_strip", ["synthstrip", "bet"])
def test_another_program_says_its_name_as_the_method(skull_strip):
    workflow = init_brain_wf(skull_strip=skull_strip)
    assert workflow.get_node("outputnode").inputs.strip_method == skull_strip


@pytest.mark.parametrize("skull_strip", ["auto", "deepbet", "none"])
def test_our_own_methods_reach_the_strip_node(skull_strip):
    workflow = init_brain_wf(skull_strip=skull_strip)
    assert workflow.get_node("strip").inputs.method == skull_strip


@pytest.mark.parametrize("affine", ["greedy", "ants", "flirt", "none"])
def test_however_the_affine_is_found_one_node_finds_it(affine):
    workflow = init_alignment_wf(affine=affine)
    assert workflow.get_node("align").inputs.method == affine
    assert workflow.list_node_names() == init_alignment_wf().list_node_names()


def test_registration_takes_its_settings():
    workflow = init_registration_wf(model=IMAGE, iterations=7, device="cuda:1", omp_nthreads=3)
    node = workflow.get_node("register")
    assert node.inputs.model == IMAGE
    assert node.inputs.iterations == 7
    assert node.inputs.device == "cuda:1"
    assert node.inputs.use_gpu
    assert (node.inputs.num_threads, node.n_procs) == (3, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"iterations": "0"}, "'iterations' .* must be an integer >= 0, but a value of '0'"),
        ({"device": "gpu"}, "'device' .* must be 'cpu' or 'auto' or 'cuda' or .* value of 'gpu'"),
    ],
)
@pytest.mark.parametrize("build", [init_registration_wf, init_scan_wf])
def test_a_setting_of_the_registration_that_is_none_is_named(build, wrong, message):
    with pytest.raises(TraitError, match=message):
        build(**wrong)


def test_without_a_model_the_registration_is_given_none():
    assert not isdefined(init_registration_wf().get_node("register").inputs.model)


@pytest.mark.parametrize("skull_strip", ["auto", "synthstrip"])
@pytest.mark.parametrize(("device", "taken"), [("cuda", {"strip", "register"}), ("cpu", set())])
def test_what_runs_on_a_gpu_takes_a_slot_and_nothing_does_without_one(
    scan, skull_strip, device, taken
):
    flat = init_scan_wf(**scan, skull_strip=skull_strip, device=device)._create_flat_graph()
    assert {node.name for node in flat.nodes if node.is_gpu_node()} == taken


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


def test_a_scan_saves_all_that_can_be_written(scan):
    wired = connections(init_scan_wf(**scan))
    saved = {end for _, _, target, end in wired if target.startswith("save_")}
    assert saved == {*FILES, "strip_method", "flags"}


def test_a_scan_with_a_segmentation_names_it_as_a_source(scan):
    workflow = init_scan_wf(**scan, segmentation=LABELS, segmentation_source="bids:raw:aseg.mgz")
    assert workflow.get_node("save_labels").inputs.segmentation_source == "bids:raw:aseg.mgz"
    assert workflow.get_node("save_labels").inputs.originals == [LABELS]
    inputs = workflow.get_node("evaluation_wf.inputnode").inputs
    assert inputs.segmentation == LABELS


def test_sidecars_say_what_matters_to_their_stage(scan):
    told = {"brain": {"Settings": "few"}, "register": {"Settings": "more"}}
    workflow = init_scan_wf(**scan, provenance=told)
    for stage, common in told.items():
        assert workflow.get_node(f"save_{stage}").inputs.common == common


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


def test_the_usual_iterations_depend_on_the_network_and_fine_ones_take_more_memory():
    from vxmprep.config import BUNDLED, COARSE_ITERATIONS
    from vxmprep.morph import refine

    assert sum(refine.DEFAULT_ITERATIONS) == COARSE_ITERATIONS
    usual = init_registration_wf().get_node("register")
    assert usual.inputs.iterations == COARSE_ITERATIONS + refine.FINE_ITERATIONS
    after = init_registration_wf(model=IMAGE).get_node("register")
    assert after.inputs.iterations < usual.inputs.iterations
    coarse = init_registration_wf(iterations=COARSE_ITERATIONS).get_node("register")
    bundled = init_registration_wf(model=str(BUNDLED)).get_node("register")
    assert coarse.mem_gb < usual.mem_gb == bundled.mem_gb < after.mem_gb
