"""All that happens to one scan."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from vxmprep.interfaces import SaveScan
from vxmprep.workflows.evaluation import init_evaluation_wf
from vxmprep.workflows.preparation import init_preparation_wf
from vxmprep.workflows.registration import init_registration_wf


def init_scan_wf(
    *,
    t1w: str,
    entities: tuple[tuple[str, str], ...],
    output_dir: str,
    space: str,
    source: str,
    segmentation: str | None = None,
    segmentation_source: str | None = None,
    mask_file: str | None = None,
    common: dict | None = None,
    skull_strip: str = "auto",
    bias_correct: bool = True,
    affine: str = "greedy",
    model: str | None = None,
    iterations: int = 100,
    device: str = "cpu",
    omp_nthreads: int = 1,
    reference: str = "atlas",
    with_atlas_labels: bool = True,
    mem_gb: float = 1.0,
    name: str = "scan_wf",
) -> pe.Workflow:
    """Build the graph of one scan: prepare, register, evaluate, write.

    Parameters
    ----------
    t1w : path
        The scan.
    entities : tuple of (str, str)
        Its BIDS entities.
    output_dir : path
        Root of the derivatives.
    space : str
        Label of the atlas's space.
    source : str
        BIDS URI of the scan.
    segmentation, segmentation_source : str, optional
        FreeSurfer-numbered labels of the scan, and their BIDS URI.
    mask_file : path, optional
        Brain mask made elsewhere.
    common : dict, optional
        What every sidecar says.
    skull_strip, bias_correct, affine
        See `init_preparation_wf`.
    model, iterations, device, omp_nthreads
        See `init_registration_wf`.
    reference, with_atlas_labels
        See `init_evaluation_wf`.
    mem_gb : float
        Memory of the scan at float32 in GB.
    name : str
        Name of the workflow.

    Inputs
    ------
    brain, mask, labels, network_brain, network_mask
        The atlas, as `vxmprep.interfaces.PrepareAtlas` gives it.

    Outputs
    -------
    out_files
        The files written.
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(["brain", "mask", "labels", "network_brain", "network_mask"]),
        name="inputnode",
    )
    outputnode = pe.Node(niu.IdentityInterface(["out_files"]), name="outputnode")
    prepare = init_preparation_wf(
        skull_strip=skull_strip,
        bias_correct=bias_correct,
        affine=affine,
        use_gpu=device.startswith("cuda"),
        mem_gb=mem_gb,
    )
    prepare.inputs.inputnode.t1w = t1w
    if mask_file is not None:
        prepare.inputs.inputnode.mask_file = mask_file
    register = init_registration_wf(
        model=model, iterations=iterations, device=device, omp_nthreads=omp_nthreads
    )
    evaluate = init_evaluation_wf(
        reference=reference, with_atlas_labels=with_atlas_labels, mem_gb=mem_gb
    )
    save = pe.Node(
        SaveScan(
            output_dir=output_dir,
            entities=list(entities),
            space=space,
            source=source,
            common=common or {},
        ),
        name="save",
        mem_gb=1 + 3 * mem_gb,
    )
    if segmentation is not None:
        evaluate.inputs.inputnode.segmentation = segmentation
        save.inputs.segmentation_source = segmentation_source or segmentation

    workflow.connect([
        (inputnode, prepare, [
            ("brain", "inputnode.atlas"),
            ("mask", "inputnode.atlas_mask"),
            ("network_brain", "inputnode.reference"),
        ]),
        (inputnode, register, [
            ("network_brain", "inputnode.atlas"),
            ("network_mask", "inputnode.atlas_mask"),
        ]),
        (inputnode, evaluate, [
            ("brain", "inputnode.atlas"),
            ("mask", "inputnode.atlas_mask"),
            ("labels", "inputnode.atlas_labels"),
        ]),
        (prepare, register, [
            ("outputnode.conformed", "inputnode.conformed"),
            ("outputnode.affine", "inputnode.affine"),
        ]),
        (prepare, evaluate, [
            ("outputnode.t1w", "inputnode.t1w"),
            ("outputnode.mask", "inputnode.mask"),
            ("outputnode.affine_summary", "inputnode.affine_summary"),
        ]),
        (register, evaluate, [
            ("outputnode.forward", "inputnode.forward"),
            ("outputnode.inverse", "inputnode.inverse"),
            ("outputnode.summary", "inputnode.register_summary"),
        ]),
        (prepare, save, [
            ("outputnode.t1w", "t1w"),
            ("outputnode.mask", "mask"),
            ("outputnode.strip_method", "strip_method"),
            ("outputnode.affine", "affine"),
        ]),
        (register, save, [
            ("outputnode.forward", "forward"),
            ("outputnode.inverse", "inverse"),
        ]),
        (evaluate, save, [
            (f"outputnode.{name}", name)
            for name in (
                "t1w_in_atlas", "mask_in_atlas", "labels_in_atlas", "labels_in_atlas_affine",
                "atlas_labels_in_scan", "jacobian", "dice", "metrics",
            )
        ]),
        (save, outputnode, [("out_files", "out_files")]),
    ])  # fmt: skip
    return workflow
