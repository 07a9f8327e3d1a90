"""All scans of a cohort, registered to one atlas."""

from collections import Counter
from collections.abc import Mapping, Sequence

from nipype.interfaces import utility as niu
from nipype.interfaces.base import isdefined
from nipype.pipeline import engine as pe

from vxmprep.interfaces import PrepareAtlas
from vxmprep.workflows.scan import ATLAS_FILES, init_scan_wf


class _Gather(niu.Merge):
    """A list with a place for every branch, None where it has nothing."""

    def _list_outputs(self) -> dict:
        values = [getattr(self.inputs, f"in{n}") for n in range(1, self._numinputs + 1)]
        return {"out": [value if isdefined(value) else None for value in values]}


def init_cohort_wf(
    *,
    scans: Sequence[Mapping],
    atlas_image: str,
    atlas_mask: str | None = None,
    atlas_labels: str | None = None,
    space: str = "atlas",
    output_dir: str | None = None,
    name: str = "vxmprep_wf",
    **settings,
) -> pe.Workflow:
    """Build the graph of a cohort: the atlas once, and a branch per scan that nothing else needs.

    Paths go in and paths come out. With `output_dir` each branch also writes its results as BIDS
    derivatives. There is no inputnode, for the scans must be known when the graph is built; those
    that nodes supply go through `init_scan_wf`, with iterables and a JoinNode.

    Parameters
    ----------
    scans : sequence of mapping
        Arguments of `init_scan_wf` that differ between scans: ``t1w`` at least, and ``name``,
        which is ``scan_1_wf`` and so on where it is not given.
    atlas_image, atlas_mask, atlas_labels : path
        The atlas's T1w image and, if there are, its brain mask and FreeSurfer-numbered labels.
    space : str
        Label of the atlas's space.
    output_dir : path, optional
        Root of the derivatives; without it none are written.
    name : str
        Name of the workflow.
    **settings
        Arguments of `init_scan_wf` that all scans share.

    Outputs
    -------
    All outputs of `init_scan_wf`
        Without `output_dir`: a list of each, in the order of the scans, None for those that have
        none of it, such as labels. With `output_dir` there is no outputnode, so that no scan
        waits for another; a branch has its own.

    Raises
    ------
    ValueError
        If there is no scan, one lacks its path, or two have one name.

    Examples
    --------
    >>> from vxmprep.atlas import default_files
    >>> image, labels = default_files()
    >>> cohort = init_cohort_wf(
    ...     scans=[{"t1w": "a/T1w.nii.gz"}, {"t1w": "b/T1w.nii.gz", "name": "b_wf"}],
    ...     atlas_image=image, atlas_labels=labels, model="bundled",
    ... )
    >>> cohort.run("MultiProc", plugin_args={"n_procs": 8})  # doctest: +SKIP
    >>> [cohort.get_node(name).name for name in ("scan_1_wf", "b_wf")]
    ['scan_1_wf', 'b_wf']

    All Jacobian maps go into a study of your own:

    >>> study.connect(cohort, "outputnode.jacobian", model, "maps")  # doctest: +SKIP
    """
    names = _names(scans)
    workflow = pe.Workflow(name=name)
    atlas = pe.Node(PrepareAtlas(image=atlas_image, name=space), name="atlas", mem_gb=2)
    if atlas_mask is not None:
        atlas.inputs.mask = atlas_mask
    if atlas_labels is not None:
        atlas.inputs.labels = atlas_labels
    shared = {"output_dir": output_dir, "space": space, **settings}
    shared["with_atlas_labels"] = atlas_labels is not None
    branches = [
        init_scan_wf(**shared, **{**scan, "name": named})
        for scan, named in zip(scans, names, strict=True)
    ]
    for branch in branches:
        workflow.connect([
            (atlas, branch, [(key, f"inputnode.{key}") for key in ATLAS_FILES]),
        ])  # fmt: skip
    if output_dir is None:
        _collect(workflow, branches)
    return workflow


def _names(scans: Sequence[Mapping]) -> list[str]:
    """Name the branches of scans that are each told apart, and have a path."""
    if not scans:
        raise ValueError("scans: there is none; give a mapping for each, with its t1w")
    for number, scan in enumerate(scans, start=1):
        if not isinstance(scan, Mapping) or not scan.get("t1w"):
            raise ValueError(
                f"scans: scan {number} has no t1w; give the path of its image, {{'t1w': PATH}}"
            )
    names = [scan.get("name", f"scan_{number}_wf") for number, scan in enumerate(scans, start=1)]
    twice = [named for named, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"scans: two are called {twice[0]}; give each a name of its own")
    return names


def _collect(workflow: pe.Workflow, branches: Sequence[pe.Workflow]) -> None:
    """Give the results of all branches as lists."""
    fields = branches[0].get_node("outputnode").inputs.copyable_trait_names()
    outputnode = pe.Node(niu.IdentityInterface(fields), name="outputnode")
    for field in fields:
        gather = pe.Node(_Gather(len(branches)), name=f"all_{field}")
        gather.run_without_submitting = True
        for number, branch in enumerate(branches, start=1):
            workflow.connect(branch, f"outputnode.{field}", gather, f"in{number}")
        workflow.connect(gather, "out", outputnode, field)
