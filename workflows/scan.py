"""All that happens to one scan, in stages that each write what they made.

A stage reads what earlier ones wrote, whether they ran just now or in another run: the results are
the same to the bit.
"""

from collections.abc import Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from vxmprep.interfaces import CarryLabels, DrawFigures, SaveScan
from vxmprep.reports.contents import FIGURES
from vxmprep.workflows.evaluation import init_evaluation_wf
from vxmprep.workflows.preparation import init_alignment_wf, init_brain_wf
from vxmprep.workflows.registration import init_registration_wf

STAGES = ("brain", "align", "labels", "register", "evaluate", "report")
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
    "report": {name: name for name in ("flags", *FIGURES)},
}  # fmt: skip
"""Which outputs of each stage are written, by the names of `vxmprep.interfaces.SaveScan`."""


def init_scan_wf(
    *,
    t1w: str,
    entities: tuple[tuple[str, str], ...],
    output_dir: str,
    space: str,
    source: str,
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
    """Build the graph of one scan: find the brain, align, register, evaluate, draw; write each.

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
    stages : sequence of str
        Which of ``brain`` (mask, bias field), ``align`` (affine, network grid), ``labels``
        (segmentation on the network grid), ``register``, ``evaluate`` and ``report`` (pictures)
        are run.
    ready : dict, optional
        What stages that are not run left: paths by their names in `vxmprep.interfaces.SaveScan`,
        and ``strip_method`` and ``flags`` of the stage ``brain``.
    segmentation, segmentation_source : str, optional
        FreeSurfer-numbered labels of the scan, and their BIDS URI.
    mask_file : path, optional
        Brain mask made elsewhere.
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
        The atlas, as `vxmprep.interfaces.PrepareAtlas` gives it.

    Outputs
    -------
    files
        For each stage run, ``<stage>``: the files written by what they hold.

    Examples
    --------
    >>> from vxmprep.atlas import default_files
    >>> image, _ = default_files()
    >>> scan = init_scan_wf(
    ...     t1w=image, entities=(("subject", "01"),), output_dir="out", space="MNI",
    ...     source="sub-01_T1w.nii.gz", stages=("brain", "align"),
    ... )
    >>> sorted(name for name in scan.list_node_names() if "save" in name)
    ['save_align', 'save_brain']
    """
    workflow = pe.Workflow(name=name)
    atlas = pe.Node(niu.IdentityInterface(list(ATLAS_FILES)), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(list(stages)), name="outputnode")
    threads = {"mem_gb": mem_gb, "omp_nthreads": omp_nthreads}
    gpu = device.startswith("cuda")
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
            reference=reference, with_atlas_labels=with_atlas_labels, **threads
        ),
        "report": lambda: pe.Node(DrawFigures(), name="draw", mem_gb=1.2 + 4 * mem_gb),
    }
    originals = {"brain": [t1w, mask_file], "labels": [segmentation], "evaluate": [segmentation]}
    feeds = {
        "scan": t1w,
        "mask_file": mask_file,
        "segmentation": segmentation,
        **(ready or {}),
        **{f"atlas_{key}": (atlas, key) for key in ATLAS_FILES},
    }
    for stage in [stage for stage in STAGES if stage in stages]:
        node = builders[stage]()
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
        _feed(workflow, node, {end: feeds.get(feed) for end, feed in TAKES[stage].items()})
        if stage == "evaluate":
            _feed(workflow, save, {"strip_method": feeds.get("strip_method")})
        workflow.connect([
            (node, save, list(GIVES[stage].items())),
            (save, outputnode, [("files", stage)]),
        ])  # fmt: skip
        # Of the flags only those of the scan itself are wanted later on.
        kept = [name for name in GIVES[stage].values() if name != "flags" or stage == "brain"]
        feeds.update({name: (save, name) for name in kept})
    return workflow


def _feed(workflow: pe.Workflow, target: pe.Node | pe.Workflow, fed: dict) -> None:
    """Connect inputs of a node or workflow to what a stage makes, or set them to what is ready."""
    for end, feed in fed.items():
        if isinstance(feed, tuple):
            workflow.connect(*feed, target, end)
        elif feed is not None:
            node, _, field = end.rpartition(".")
            inputs = target.get_node(node).inputs if node else target.inputs
            setattr(inputs, field, feed)
