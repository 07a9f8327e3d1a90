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
        JSON of what was measured before, or a sidecar that holds it.
    flags
        What is doubtful about the scan itself.

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

    Examples
    --------
    >>> "jacobian" in init_evaluation_wf().list_node_names()
    True
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface([
            "t1w", "mask", "segmentation", "forward", "inverse", "atlas", "atlas_mask",
            "atlas_labels", "affine_summary", "register_summary", "flags",
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
    # One processor each: they are short, and run side by side.
    resources = {"mem_gb": 1 + 4 * mem_gb}
    nearest = {"interpolation": "nearest"}
    warp_t1w = pe.Node(ApplyTransform(), name="warp_t1w", **resources)
    warp_mask = pe.Node(ApplyTransform(**nearest), name="warp_mask", **resources)
    carry = pe.Node(CarryLabels(), name="carry_labels", **resources)
    jacobian = pe.Node(JacobianMap(), name="jacobian", mem_gb=2)
    evaluate = pe.Node(EvaluateRegistration(reference=reference), name="evaluate", mem_gb=2)

    workflow.connect([
        # First, and so begun first: it takes longest, and the measures wait for it.
        (inputnode, jacobian, [("forward", "transform"), ("atlas_mask", "mask_file")]),
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
        (inputnode, evaluate, [
            ("affine_summary", "affine_summary"), ("register_summary", "register_summary"),
            ("flags", "scan_flags"), ("forward", "forward"), ("inverse", "inverse"),
            ("atlas", "atlas"), ("atlas_mask", "atlas_mask"),
        ]),
        (warp_t1w, evaluate, [("out_file", "warped")]),
        (warp_mask, evaluate, [("out_file", "warped_mask")]),
        (jacobian, evaluate, [("summary_file", "jacobian_summary")]),
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
        back = pe.Node(ApplyTransform(**nearest), name="warp_atlas_labels", **resources)
        workflow.connect([
            (inputnode, evaluate, [("atlas_labels", "atlas_labels")]),
            (inputnode, back, [
                ("atlas_labels", "in_file"), ("t1w", "reference"), ("inverse", "transform"),
            ]),
            (back, outputnode, [("out_file", "atlas_labels_in_scan")]),
        ])  # fmt: skip
    return workflow
