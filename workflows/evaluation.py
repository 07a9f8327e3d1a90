"""What the written maps do to images and labels, and how good they are."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from vxmprep.interfaces import ApplyTransform, CarryLabels, EvaluateRegistration, JacobianMap


def init_evaluation_wf(
    *,
    reference: str = "atlas",
    with_atlas_labels: bool = True,
    mem_gb: float = 1.0,
    name: str = "evaluation_wf",
) -> pe.Workflow:
    """Build the graph that applies the written transforms and measures the result.

    Parameters
    ----------
    reference : str
        Where the atlas's labels come from, for the table.
    with_atlas_labels : bool
        Whether the atlas has labels.
    mem_gb : float
        Memory of the scan at float32 in GB.
    name : str
        Name of the workflow.

    Inputs
    ------
    t1w, mask
        Bias-corrected scan and its brain mask on its own grid.
    segmentation
        FreeSurfer-numbered labels in the scan's world; optional.
    forward, inverse
        ITK composites, as written.
    atlas, atlas_mask, atlas_labels
        The atlas on its own grid.
    affine_summary, register_summary
        JSON of what was measured before.

    Outputs
    -------
    t1w_in_atlas, mask_in_atlas, labels_in_atlas, labels_in_atlas_affine
        On the atlas's grid, one interpolation from the scan.
    atlas_labels_in_scan
        On the scan's grid.
    jacobian
        Determinant of the deformable part on the atlas's grid.
    dice, metrics
        Table (TSV) and measures (JSON).
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface([
            "t1w", "mask", "segmentation", "forward", "inverse", "atlas", "atlas_mask",
            "atlas_labels", "affine_summary", "register_summary",
        ]),
        name="inputnode",
    )  # fmt: skip
    outputnode = pe.Node(
        niu.IdentityInterface([
            "t1w_in_atlas", "mask_in_atlas", "labels_in_atlas", "labels_in_atlas_affine",
            "atlas_labels_in_scan", "jacobian", "dice", "metrics",
        ]),
        name="outputnode",
    )  # fmt: skip
    memory = 1 + 4 * mem_gb
    warp_t1w = pe.Node(ApplyTransform(), name="warp_t1w", mem_gb=memory)
    warp_mask = pe.Node(ApplyTransform(interpolation="nearest"), name="warp_mask", mem_gb=memory)
    carry = pe.Node(CarryLabels(), name="carry_labels", mem_gb=memory)
    jacobian = pe.Node(JacobianMap(), name="jacobian", mem_gb=2)
    sections = pe.Node(niu.Merge(3), name="sections", run_without_submitting=True)
    evaluate = pe.Node(EvaluateRegistration(reference=reference), name="evaluate", mem_gb=2)

    workflow.connect([
        (inputnode, warp_t1w, [
            ("t1w", "in_file"), ("atlas", "reference"), ("forward", "transform"),
        ]),
        (inputnode, warp_mask, [
            ("mask", "in_file"), ("atlas", "reference"), ("forward", "transform"),
        ]),
        (inputnode, carry, [
            ("segmentation", "labels_file"), ("mask", "mask_file"),
            ("atlas", "reference"), ("forward", "transform"),
        ]),
        (inputnode, jacobian, [("forward", "transform"), ("atlas_mask", "mask_file")]),
        (inputnode, sections, [
            (("affine_summary", _named, "Affine"), "in1"),
            (("register_summary", _named, "Deformable"), "in2"),
        ]),
        (jacobian, sections, [(("summary_file", _named, "Folding"), "in3")]),
        (sections, evaluate, [("out", "summaries")]),
        (carry, evaluate, [
            ("full", "full_labels"), ("affine", "affine_labels"), ("flags", "flags"),
        ]),
        (warp_t1w, outputnode, [("out_file", "t1w_in_atlas")]),
        (warp_mask, outputnode, [("out_file", "mask_in_atlas")]),
        (carry, outputnode, [
            ("full", "labels_in_atlas"), ("affine", "labels_in_atlas_affine"),
        ]),
        (jacobian, outputnode, [("out_file", "jacobian")]),
        (evaluate, outputnode, [("dice_file", "dice"), ("metrics_file", "metrics")]),
    ])  # fmt: skip
    if with_atlas_labels:
        back = pe.Node(
            ApplyTransform(interpolation="nearest"), name="warp_atlas_labels", mem_gb=memory
        )
        workflow.connect([
            (inputnode, evaluate, [("atlas_labels", "atlas_labels")]),
            (inputnode, back, [
                ("atlas_labels", "in_file"), ("t1w", "reference"), ("inverse", "transform"),
            ]),
            (back, outputnode, [("out_file", "atlas_labels_in_scan")]),
        ])  # fmt: skip
    return workflow


def _named(path, name):
    return (name, path)
