"""From prepared scans and an atlas to a network."""

from collections.abc import Mapping, Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from vxmprep.interfaces import PrepareAtlas, TrainVoxelMorph


def init_training_wf(
    *,
    scans: Sequence[Mapping],
    atlas_image: str,
    atlas_mask: str | None = None,
    atlas_labels: str | None = None,
    space: str,
    folder: str,
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
    scans : sequence of mapping
        For each scan its ``name``, ``participant``, ``image`` (on the network's grid, uint8) and,
        where there are, ``labels`` there and ``site``.
    atlas_image, atlas_mask, atlas_labels : path
        The atlas's T1w image and, if there are, its brain mask and labels, on its own grid.
    space : str
        Label of the atlas's space.
    folder : path
        The model's folder; its name is the model's. A training begun there goes on.
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

    Outputs
    -------
    model
        The network, as `init_registration_wf` takes it.
    card
        Its card, Markdown.
    config_file
        What ``python -m vxmprep.training`` takes to go on.

    Examples
    --------
    >>> from vxmprep.atlas import default_files
    >>> image, _ = default_files()
    >>> training = init_training_wf(
    ...     scans=[{"name": "a", "participant": "1", "image": image}],
    ...     atlas_image=image, space="MNI", folder="models/study", settings={"voxel_size": 2.0},
    ... )
    >>> training.run()  # doctest: +SKIP
    >>> sorted(training.list_node_names())
    ['atlas', 'outputnode', 'train']
    """
    workflow = pe.Workflow(name=name)
    outputnode = pe.Node(
        niu.IdentityInterface(["model", "card", "config_file"]), name="outputnode"
    )
    atlas = pe.Node(PrepareAtlas(image=atlas_image, name=space), name="atlas", mem_gb=2)
    train = pe.Node(
        TrainVoxelMorph(
            images=[str(scan["image"]) for scan in scans],
            names=[scan["name"] for scan in scans],
            participants=[scan["participant"] for scan in scans],
            labels=[scan.get("labels") and str(scan["labels"]) for scan in scans],
            sites=[scan.get("site") for scan in scans],
            atlas_name=space,
            folder=folder,
            settings=dict(settings or {}),
            resume=resume,
            left_out=dict(left_out or {}),
        ),
        name="train",
    )
    for node, key, value in (
        (atlas, "mask", atlas_mask),
        (atlas, "labels", atlas_labels),
        (train, "split", split),
        (train, "initial_model", initial_model),
        (train, "licence", licence),
    ):
        if value is not None:
            setattr(node.inputs, key, value)
    workflow.connect([
        (atlas, train, [
            ("network_brain", "atlas_image"),
            ("network_mask", "atlas_mask"),
            *([("network_labels", "atlas_labels")] if atlas_labels is not None else []),
        ]),
        (train, outputnode, [(key, key) for key in ("model", "card", "config_file")]),
    ])  # fmt: skip
    return workflow
