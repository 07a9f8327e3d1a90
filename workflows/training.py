"""From prepared scans and an atlas to a network."""

from collections.abc import Mapping, Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from vxmprep.interfaces import PrepareAtlas, TrainVoxelMorph

LISTS = {
    "images": "image",
    "names": "name",
    "participants": "participant",
    "labels": "labels",
    "sites": "site",
}
"""Lists over the scans, and what an item is called where scans are given one by one."""

NEEDED = ("name", "participant", "image")
ATLAS = ("atlas_image", "atlas_mask", "atlas_labels")


def init_training_wf(
    *,
    folder: str,
    scans: Sequence[Mapping] = (),
    atlas_image: str | None = None,
    atlas_mask: str | None = None,
    atlas_labels: str | None = None,
    space: str = "atlas",
    settings: Mapping | None = None,
    split: str | None = None,
    initial_model: str | None = None,
    resume: bool = True,
    licence: str | None = None,
    left_out: Mapping[str, str] | None = None,
    name: str = "training_wf",
) -> pe.Workflow:
    """Build the graph that trains a network on prepared scans.

    Parameters
    ----------
    folder : path
        The model's folder; its name is the model's. A training begun there goes on.
    scans : sequence of mapping, optional
        For each scan its ``name``, ``participant``, ``image`` (on the network's grid, uint8) and,
        where there are, ``labels`` there and ``site``; or they come through the inputnode.
    atlas_image, atlas_mask, atlas_labels : path, optional
        The atlas's T1w image and, if there are, its brain mask and labels, on its own grid; or
        they come through the inputnode.
    space : str
        Label of the atlas's space.
    settings : mapping, optional
        Attributes of `vxmprep.training.settings.TrainingSettings`.
    split : path, optional
        JSON with the participants of train, validation and test.
    initial_model : path, optional
        Checkpoint of vxmprep whose weights to start from, instead of random ones; ``"bundled"`` is
        the one that comes along.
    resume : bool
        False refuses a folder in which a training was begun.
    licence : str, optional
        Of the scans, for the model's card.
    left_out : mapping, optional
        Why scans are not among them, by name, for the model's card.
    name : str
        Name of the workflow.

    Inputs
    ------
    images
        The scans' brains on the network's grid, uint8: a list, as of ``conformed`` of
        `init_cohort_wf` or from a JoinNode.
    labels
        Their FreeSurfer-numbered labels on that grid; optional, None for a scan without.
    names, participants, sites
        What the scans are called, whose they are and where they were acquired; optional.
    atlas_image, atlas_mask, atlas_labels
        The atlas's T1w image and, if there are, its brain mask and labels, on its own grid.

    Outputs
    -------
    model
        The network, as `init_registration_wf` takes it.
    card
        Its card, Markdown.
    config_file
        What ``python -m vxmprep.training`` takes to go on.

    Raises
    ------
    ValueError
        If a scan lacks something, or a part of it is not known.

    Examples
    --------
    >>> training = init_training_wf(folder="models/study", settings={"voxel_size": 2.0})
    >>> training.inputs.inputnode.images = ["conformed_1.nii", "conformed_2.nii"]
    >>> training.inputs.inputnode.atlas_image = "atlas.nii.gz"
    >>> training.run()  # doctest: +SKIP
    >>> sorted(training.list_node_names())
    ['atlas', 'inputnode', 'outputnode', 'train']
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface([*LISTS, *ATLAS]), name="inputnode")
    outputnode = pe.Node(
        niu.IdentityInterface(["model", "card", "config_file"]), name="outputnode"
    )
    atlas = pe.Node(PrepareAtlas(name=space), name="atlas", mem_gb=2)
    train = pe.Node(
        TrainVoxelMorph(
            atlas_name=space,
            folder=folder,
            settings=dict(settings or {}),
            resume=resume,
            left_out=dict(left_out or {}),
        ),
        name="train",
    )
    for node, key, value in (
        *((inputnode, key, values) for key, values in _lists(scans).items()),
        (inputnode, "atlas_image", atlas_image),
        (inputnode, "atlas_mask", atlas_mask),
        (inputnode, "atlas_labels", atlas_labels),
        (train, "split", split),
        (train, "initial_model", initial_model),
        (train, "licence", licence),
    ):
        if value is not None:
            setattr(node.inputs, key, value)
    workflow.connect([
        (inputnode, atlas, [(key, key.removeprefix("atlas_")) for key in ATLAS]),
        (inputnode, train, [(key, key) for key in LISTS]),
        (atlas, train, [
            ("network_brain", "atlas_image"),
            ("network_mask", "atlas_mask"),
            ("network_labels", "atlas_labels"),
        ]),
        (train, outputnode, [(key, key) for key in ("model", "card", "config_file")]),
    ])  # fmt: skip
    return workflow


def _lists(scans: Sequence[Mapping]) -> dict[str, list]:
    """Give what is known of the scans as lists over them."""
    for number, scan in enumerate(scans, start=1):
        for key in NEEDED:
            if not scan.get(key):
                raise ValueError(f"scans: scan {number} has no {key}; give {', '.join(NEEDED)}")
        for key in scan:
            if key not in LISTS.values():
                known = ", ".join(LISTS.values())
                raise ValueError(f"scans: scan {number} has a {key!r}; known are {known}")
    if not scans:
        return {}
    return {
        many: [None if scan.get(one) is None else str(scan[one]) for scan in scans]
        for many, one in LISTS.items()
    }
