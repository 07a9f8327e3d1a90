"""All that happens to one scan, in stages.

For derivatives each stage writes what it made, and reads what earlier ones wrote, whether they ran
just now or in another run: the results are the same to the bit. Without them the stages are
connected as they are.
"""

from collections.abc import Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from vxmprep.interfaces import CarryLabels, DrawFigures, SaveScan
from vxmprep.reports.contents import OF_PREPARATION, OF_REGISTRATION
from vxmprep.workflows.evaluation import init_evaluation_wf
from vxmprep.workflows.preparation import init_alignment_wf, init_brain_wf
from vxmprep.workflows.registration import init_registration_wf

OWN_FILES = ("t1w", "mask_file", "segmentation")
"""What is a scan's own."""

STAGES = ("brain", "align", "labels", "preview", "register", "evaluate", "report")
ATLAS_FILES = ("brain", "mask", "labels", "network_brain", "network_mask")

TAKES = {
    "brain": {"inputnode.t1w": "scan", "inputnode.mask_file": "mask_file"},
    "align": {
        "inputnode.t1w": "t1w",
        "inputnode.mask": "mask",
        "inputnode.atlas": "atlas_brain",
        "inputnode.atlas_mask": "atlas_mask",
        "inputnode.reference": "atlas_network_brain",
    },
    "labels": {
        "labels_file": "segmentation",
        "mask_file": "mask",
        "transform": "affine",
        "reference": "atlas_network_brain",
    },
    "preview": {
        "t1w": "t1w",
        "mask": "mask",
        "affine": "affine",
        "atlas": "atlas_brain",
        "atlas_mask": "atlas_mask",
        "atlas_labels": "atlas_labels",
    },
    "register": {
        "inputnode.conformed": "conformed",
        "inputnode.affine": "affine",
        "inputnode.atlas": "atlas_network_brain",
        "inputnode.atlas_mask": "atlas_network_mask",
    },
    "evaluate": {
        "inputnode.t1w": "t1w",
        "inputnode.mask": "mask",
        "inputnode.segmentation": "segmentation",
        "inputnode.forward": "forward",
        "inputnode.inverse": "inverse",
        "inputnode.atlas": "atlas_brain",
        "inputnode.atlas_mask": "atlas_mask",
        "inputnode.atlas_labels": "atlas_labels",
        "inputnode.affine_summary": "affine_summary",
        "inputnode.register_summary": "register_summary",
        "inputnode.flags": "flags",
    },
    "report": {
        "t1w": "t1w",
        "mask": "mask",
        "forward": "forward",
        "atlas": "atlas_brain",
        "atlas_mask": "atlas_mask",
        "atlas_labels": "atlas_labels",
        "labels_in_atlas": "labels_in_atlas",
        "jacobian": "jacobian",
        "dice": "dice",
    },
}
"""What is fed to the inputs of each stage."""

GIVES = {
    "brain": {f"outputnode.{name}": name for name in ("t1w", "mask", "strip_method", "flags")},
    "align": {f"outputnode.{name}": name for name in ("affine", "affine_summary", "conformed")},
    "labels": {"full": "conformed_labels", "flags": "flags"},
    "preview": {name: name for name in ("flags", *OF_PREPARATION)},
    "register": {
        f"outputnode.{name}": name for name in ("forward", "inverse", "register_summary")
    },
    "evaluate": {
        f"outputnode.{name}": name
        for name in (
            "t1w_in_atlas", "mask_in_atlas", "labels_in_atlas", "labels_in_atlas_affine",
            "atlas_labels_in_scan", "jacobian", "dice", "metrics",
        )
    },
    "report": {name: name for name in ("flags", *OF_REGISTRATION)},
}  # fmt: skip
"""Which outputs of each stage are written, by the names of `vxmprep.interfaces.SaveScan`."""


def init_scan_wf(
    *,
    t1w: str | None = None,
    output_dir: str | None = None,
    entities: tuple[tuple[str, str], ...] = (),
    source: str | None = None,
    space: str = "atlas",
    stages: Sequence[str] = STAGES,
    ready: dict | None = None,
    segmentation: str | None = None,
    segmentation_source: str | None = None,
    mask_file: str | None = None,
    provenance: dict[str, dict] | None = None,
    skull_strip: str = "auto",
    bias_correct: bool = True,
    affine: str = "greedy",
    model: str | None = None,
    iterations: int | None = None,
    device: str = "cpu",
    precision: str = "auto",
    omp_nthreads: int = 1,
    reference: str = "atlas",
    with_atlas_labels: bool = True,
    mem_gb: float = 1.0,
    name: str = "scan_wf",
) -> pe.Workflow:
    """Build the graph of one scan: find the brain, align, register, evaluate, draw.

    Paths go in and paths come out. With `output_dir` each stage also writes its results as BIDS
    derivatives, under the names that `entities` give.

    Parameters
    ----------
    t1w : path, optional
        The scan; else it comes through the inputnode.
    output_dir : path, optional
        Root of the derivatives; without it none are written.
    entities : tuple of (str, str)
        BIDS entities of the scan; for derivatives.
    source : str, optional
        BIDS URI of the scan; for derivatives.
    space : str
        Label of the atlas's space.
    stages : sequence of str
        Which of ``brain`` (mask, bias field), ``align`` (affine, network grid), ``labels``
        (segmentation on the network grid), ``preview`` (pictures of mask and affine),
        ``register``, ``evaluate`` and ``report`` (the other pictures) are run.
    ready : dict, optional
        What stages that are not run left: paths by their names in `vxmprep.interfaces.SaveScan`,
        and ``strip_method`` and ``flags`` of the stage ``brain``.
    segmentation, segmentation_source : str, optional
        FreeSurfer-numbered labels of the scan, and their BIDS URI.
    mask_file : path, optional
        Brain mask made elsewhere, in the scan's world; see `skull_strip`.
    provenance : dict, optional
        What the sidecars say, by stage.
    skull_strip, bias_correct
        See `init_brain_wf`.
    affine
        See `init_alignment_wf`.
    model, iterations, device, precision
        See `init_registration_wf`.
    omp_nthreads : int
        Processor threads.
    reference, with_atlas_labels
        See `init_evaluation_wf`.
    mem_gb : float
        Memory of the scan at float32 in GB.
    name : str
        Name of the workflow.

    Inputs
    ------
    brain, mask, labels, network_brain, network_mask
        The atlas, as `vxmprep.interfaces.PrepareAtlas` gives it: on its own grid and on the
        network's.
    t1w, mask_file, segmentation
        The scan's own files, where they are not given as arguments: any grid of one world.

    Outputs
    -------
    t1w, mask
        Bias-corrected scan and brain mask on its own grid.
    strip_method, flags
        How the mask was made, and what is doubtful about the scan.
    affine, affine_summary
        ITK affine, atlas points to scan points (RAS mm inside), and JSON of its judgement.
    conformed, conformed_labels
        Brain (uint8) and segmentation on the network's grid.
    forward, inverse, register_summary
        ITK composites that resample the scan onto the atlas and back, and JSON of their measures.
    t1w_in_atlas, mask_in_atlas, labels_in_atlas, labels_in_atlas_affine
        On the atlas's grid, one interpolation from the scan.
    atlas_labels_in_scan
        On the scan's grid.
    jacobian
        Determinant of the deformable part, mm to mm, on the atlas's grid.
    dice, metrics
        Table (TSV) and measures (JSON).
    figure_mask, figure_atlas, figure_affine, figure_full, figure_contours, figure_jacobian
        Pictures.
    figure_grid, figure_dice, viewer
        Pictures, and what the page's viewer shows.
    brain, align, labels, preview, register, evaluate, report
        With `output_dir`, for each stage run: the files written, by what they hold.

    Raises
    ------
    ValueError
        If `output_dir` is given without what derivatives need, or a stage is not known.

    Examples
    --------
    In a workflow of your own:

    >>> scan = init_scan_wf(stages=("brain", "align", "register"), iterations=100)
    >>> scan.inputs.inputnode.t1w = "T1w.nii.gz"
    >>> "save_align" in scan.list_node_names()
    False

    With derivatives:

    >>> from vxmprep.atlas import default_files
    >>> image, _ = default_files()
    >>> scan = init_scan_wf(
    ...     t1w=image, entities=(("subject", "01"),), output_dir="out", space="MNI",
    ...     source="sub-01_T1w.nii.gz", stages=("brain", "align"),
    ... )
    >>> sorted(name for name in scan.list_node_names() if "save" in name)
    ['save_align', 'save_brain']
    """
    if output_dir is not None and not (t1w and entities and source):
        raise ValueError("output_dir: derivatives need t1w, entities and source too; give them")
    for stage in stages:
        if stage not in STAGES:
            raise ValueError(f"stages: {stage!r} is none; give some of {', '.join(STAGES)}")
    stages = [stage for stage in STAGES if stage in stages]
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface([*ATLAS_FILES, *OWN_FILES]), name="inputnode")
    results = dict.fromkeys(result for stage in stages for result in GIVES[stage].values())
    whole = stages if output_dir is not None else []
    outputnode = pe.Node(niu.IdentityInterface([*results, *whole]), name="outputnode")
    threads = {"mem_gb": mem_gb, "omp_nthreads": omp_nthreads}
    gpu = str(device).startswith("cuda")
    builders = {
        "brain": lambda: init_brain_wf(
            skull_strip=skull_strip, bias_correct=bias_correct, use_gpu=gpu, **threads
        ),
        "align": lambda: init_alignment_wf(affine=affine, **threads),
        "labels": lambda: pe.Node(CarryLabels(), name="conform_labels", mem_gb=1 + 4 * mem_gb),
        "register": lambda: init_registration_wf(
            model=model,
            iterations=iterations,
            device=device,
            precision=precision,
            omp_nthreads=omp_nthreads,
        ),
        "evaluate": lambda: init_evaluation_wf(
            reference=reference, with_atlas_labels=with_atlas_labels, mem_gb=mem_gb
        ),
        "preview": lambda: _pictures("preview", OF_PREPARATION, mem_gb),
        "report": lambda: _pictures("draw", OF_REGISTRATION, mem_gb),
    }
    originals = {"brain": [t1w, mask_file], "labels": [segmentation], "evaluate": [segmentation]}
    feeds = {
        "scan": t1w or (inputnode, "t1w"),
        "mask_file": mask_file or (inputnode, "mask_file"),
        "segmentation": segmentation or (inputnode, "segmentation"),
        **(ready or {}),
        **{f"atlas_{key}": (inputnode, key) for key in ATLAS_FILES},
    }
    for stage in stages:
        node = builders[stage]()
        _feed(workflow, node, {end: feeds.get(feed) for end, feed in TAKES[stage].items()})
        # Of the flags only those of the scan itself are wanted later on.
        kept = {
            name: end for end, name in GIVES[stage].items() if name != "flags" or stage == "brain"
        }
        if output_dir is None:
            feeds.update({name: (node, end) for name, end in kept.items()})
            continue
        save = pe.Node(
            SaveScan(
                output_dir=output_dir,
                entities=list(entities),
                space=space,
                source=source,
                common=(provenance or {}).get(stage, {}),
                originals=[path for path in originals.get(stage, []) if path is not None],
            ),
            name=f"save_{stage}",
            mem_gb=1 + 3 * mem_gb,
        )
        if segmentation is not None:
            save.inputs.segmentation_source = segmentation_source or segmentation
        if stage == "evaluate":
            _feed(workflow, save, {"strip_method": feeds.get("strip_method")})
        workflow.connect([
            (node, save, list(GIVES[stage].items())),
            (save, outputnode, [("files", stage)]),
        ])  # fmt: skip
        feeds.update({name: (save, name) for name in kept})
    _feed(workflow, outputnode, {name: feeds.get(name) for name in results})
    return workflow


def _pictures(name: str, wanted: Sequence[str], mem_gb: float) -> pe.Node:
    return pe.Node(DrawFigures(wanted=list(wanted)), name=name, mem_gb=1.2 + 4 * mem_gb)


def _feed(workflow: pe.Workflow, target: pe.Node | pe.Workflow, fed: dict) -> None:
    """Connect inputs of a node or workflow to what a stage makes, or set them to what is ready."""
    for end, feed in fed.items():
        if isinstance(feed, tuple):
            workflow.connect(*feed, target, end)
        elif feed is not None:
            node, _, field = end.rpartition(".")
            inputs = target.get_node(node).inputs if node else target.inputs
            setattr(inputs, field, feed)
