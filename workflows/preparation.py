"""From a scan to a brain on the network's grid."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from vxmprep.config import SKULL_STRIP
from vxmprep.interfaces import AffineAlign, BiasCorrect, Conform, SkullStrip, SynthStrip


def init_brain_wf(
    *,
    skull_strip: str = "auto",
    bias_correct: bool = True,
    use_gpu: bool = False,
    omp_nthreads: int = 1,
    mem_gb: float = 1.0,
    name: str = "brain_wf",
) -> pe.Workflow:
    """Build the graph that masks the brain of a scan and corrects its bias field.

    Parameters
    ----------
    skull_strip : {"auto", "deepbet", "none", "synthstrip", "bet", "freesurfer", "derivatives"}
        The last two take the mask from the input ``mask_file``.
    bias_correct : bool
        Correct the bias field with N4.
    use_gpu : bool
        Run the skull-strip on a GPU.
    omp_nthreads : int
        Processor threads.
    mem_gb : float
        Memory of the scan at float32 in GB, by which the nodes' needs are estimated.
    name : str
        Name of the workflow.

    Inputs
    ------
    t1w
        T1w scan.
    mask_file
        Brain mask made elsewhere, in the scan's world; optional.

    Outputs
    -------
    t1w
        Bias-corrected scan on its own grid, not stripped.
    mask
        Brain mask there.
    strip_method
        How the mask was made.
    flags
        What is doubtful about the scan itself.

    Raises
    ------
    ValueError
        If `skull_strip` is another word.

    Examples
    --------
    >>> brain = init_brain_wf(skull_strip="deepbet")
    >>> brain.inputs.inputnode.t1w = "T1w.nii.gz"
    >>> brain.run()  # doctest: +SKIP
    >>> sorted(brain.list_node_names())
    ['bias', 'inputnode', 'outputnode', 'strip']
    """
    if skull_strip not in SKULL_STRIP:
        raise ValueError(f"skull_strip is {skull_strip!r}; give one of {', '.join(SKULL_STRIP)}")
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(["t1w", "mask_file"]), name="inputnode")
    outputnode = pe.Node(
        niu.IdentityInterface(["t1w", "mask", "strip_method", "flags"]), name="outputnode"
    )
    strip = _strip_node(skull_strip, use_gpu=use_gpu, mem_gb=mem_gb)
    strip.n_procs = omp_nthreads
    workflow.connect([
        (inputnode, strip, [("t1w", "in_file")]),
        (strip, outputnode, [("mask_file", "mask")]),
    ])  # fmt: skip
    if skull_strip in ("freesurfer", "derivatives"):
        workflow.connect(inputnode, "mask_file", strip, "mask_file")
    if skull_strip in ("synthstrip", "bet"):
        outputnode.inputs.strip_method = skull_strip
    else:
        workflow.connect([
            (strip, outputnode, [("method", "strip_method"), ("flags", "flags")]),
        ])  # fmt: skip
    if bias_correct:
        bias = pe.Node(BiasCorrect(), name="bias", n_procs=omp_nthreads, mem_gb=0.5 + 6 * mem_gb)
        workflow.connect([
            (inputnode, bias, [("t1w", "in_file")]),
            (strip, bias, [("mask_file", "mask_file")]),
            (bias, outputnode, [("out_file", "t1w")]),
        ])  # fmt: skip
    else:
        workflow.connect(inputnode, "t1w", outputnode, "t1w")
    return workflow


def init_alignment_wf(
    *,
    affine: str = "greedy",
    omp_nthreads: int = 1,
    mem_gb: float = 1.0,
    name: str = "alignment_wf",
) -> pe.Workflow:
    """Build the graph that aligns a brain to the atlas and brings it to the network's grid.

    Parameters
    ----------
    affine : {"greedy", "ants", "flirt", "none"}
        How the affine is found.
    omp_nthreads : int
        Processor threads.
    mem_gb : float
        Memory of the scan at float32 in GB, by which the nodes' needs are estimated.
    name : str
        Name of the workflow.

    Inputs
    ------
    t1w
        Bias-corrected scan.
    mask
        Brain mask on its grid.
    atlas, atlas_mask
        Skull-stripped atlas and its mask on its own grid.
    reference
        Image on the network's grid.

    Outputs
    -------
    affine
        ITK affine, atlas points to scan points, RAS mm inside.
    affine_summary
        JSON of the affine's judgement.
    conformed
        Brain on the network's grid, uint8.

    Examples
    --------
    >>> sorted(init_alignment_wf(affine="ants").list_node_names())
    ['align', 'conform', 'inputnode', 'outputnode']
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(["t1w", "mask", "atlas", "atlas_mask", "reference"]),
        name="inputnode",
    )
    outputnode = pe.Node(
        niu.IdentityInterface(["affine", "affine_summary", "conformed"]), name="outputnode"
    )
    memory = 0.5 + 4 * mem_gb
    align = pe.Node(AffineAlign(method=affine), name="align", mem_gb=memory)
    conform = pe.Node(Conform(), name="conform", n_procs=omp_nthreads, mem_gb=memory)
    workflow.connect([
        (inputnode, align, [
            ("t1w", "in_file"), ("mask", "mask_file"), ("atlas", "atlas_file"),
            ("atlas_mask", "atlas_mask"),
        ]),
        (inputnode, conform, [
            ("t1w", "in_file"), ("mask", "mask_file"), ("reference", "reference"),
        ]),
        (align, conform, [("affine_file", "affine_file")]),
        (align, outputnode, [("affine_file", "affine"), ("summary_file", "affine_summary")]),
        (conform, outputnode, [("out_file", "conformed")]),
    ])  # fmt: skip
    return workflow


def _strip_node(method: str, *, use_gpu: bool, mem_gb: float) -> pe.Node:
    """Build the node that finds the brain; its output is called ``mask_file`` for every method."""
    if method == "bet":
        from nipype.interfaces.fsl import BET

        return pe.Node(BET(mask=True, robust=True), name="strip", mem_gb=1 + 4 * mem_gb)
    if method == "synthstrip":
        return pe.Node(SynthStrip(use_gpu=use_gpu), name="strip", mem_gb=6)
    own = method if method in ("auto", "deepbet", "none") else "auto"
    return pe.Node(SkullStrip(method=own, use_gpu=use_gpu), name="strip", mem_gb=1.5 + 4 * mem_gb)
