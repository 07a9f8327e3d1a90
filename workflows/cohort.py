"""All scans of a cohort, registered to one atlas."""

from collections.abc import Sequence

from nipype.pipeline import engine as pe

from vxmprep.interfaces import PrepareAtlas
from vxmprep.workflows.scan import ATLAS_FILES, init_scan_wf


def init_cohort_wf(
    *,
    scans: Sequence[dict],
    atlas_image: str,
    atlas_mask: str | None = None,
    atlas_labels: str | None = None,
    space: str,
    name: str = "vxmprep_wf",
    **settings,
) -> pe.Workflow:
    """Build the graph of a cohort: the atlas once, and a branch per scan that nothing else needs.

    Parameters
    ----------
    scans : sequence of dict
        Arguments of `init_scan_wf` that differ between scans, ``name`` included.
    atlas_image, atlas_mask, atlas_labels : path
        The atlas's T1w image and, if there are, its brain mask and labels.
    space : str
        Label of the atlas's space.
    name : str
        Name of the workflow.
    **settings
        Arguments of `init_scan_wf` that all scans share.

    Examples
    --------
    >>> from vxmprep.atlas import default_files
    >>> image, labels = default_files()
    >>> scan = {"t1w": image, "source": "sub-01_T1w.nii.gz", "name": "sub_01_wf"}
    >>> cohort = init_cohort_wf(
    ...     scans=[{**scan, "entities": (("subject", "01"),)}],
    ...     atlas_image=image, atlas_labels=labels, space="MNI", output_dir="out",
    ... )
    >>> cohort.run("MultiProc", plugin_args={"n_procs": 8})  # doctest: +SKIP
    >>> cohort.get_node("sub_01_wf").name
    'sub_01_wf'
    """
    workflow = pe.Workflow(name=name)
    atlas = pe.Node(PrepareAtlas(image=atlas_image, name=space), name="atlas", mem_gb=2)
    if atlas_mask is not None:
        atlas.inputs.mask = atlas_mask
    if atlas_labels is not None:
        atlas.inputs.labels = atlas_labels
    for scan in scans:
        branch = init_scan_wf(
            space=space, with_atlas_labels=atlas_labels is not None, **settings, **scan
        )
        workflow.connect([
            (atlas, branch, [(key, f"inputnode.{key}") for key in ATLAS_FILES]),
        ])  # fmt: skip
    return workflow
