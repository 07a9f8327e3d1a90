"""The network that a training starts from, where it does not start from random weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vxmprep.morph.checkpoint import load_checkpoint
from vxmprep.morph.frame import Frame
from vxmprep.morph.model import CheckpointError, Model
from vxmprep.morph.network import DECODER, DOUBLED, ENCODER, VxmNet
from vxmprep.spatial.files import checksum
from vxmprep.training.errors import TrainingError
from vxmprep.training.folder import ModelFolder
from vxmprep.training.settings import TrainingSettings

FORMS = {(ENCODER, DECODER): "vxm", DOUBLED: "x2"}
"""What the settings call features."""


@dataclass(frozen=True)
class Initial:
    """A network that a training starts, or has started, from.

    Attributes
    ----------
    name
        Of the model.
    checksum
        SHA-256 of its file.
    weights
        Its weights; None once the training has a state of its own.
    """

    name: str
    checksum: str
    weights: Mapping[str, torch.Tensor] | None = field(default=None, repr=False)

    def described(self) -> dict[str, str]:
        """Give what the new model's description says of it."""
        return {"name": self.name, "checksum": self.checksum}


def spelled(name: str, value: Any) -> str:
    """Give a setting as the file of a training has it."""
    return f"{name} = {json.dumps(value)}"


def find_initial(
    path: Path,
    settings: TrainingSettings,
    folder: ModelFolder,
    spell: Callable[[str, Any], str] = spelled,
) -> Initial:
    """Find the network that a training starts from; one that goes on does not need its file.

    Parameters
    ----------
    path
        A checkpoint of vxmprep.
    settings
        What is to be trained.
    folder
        Of the model that is to be trained.
    spell
        Gives a setting and its value as the user writes them, for messages.

    Returns
    -------
    Initial
        The network.

    Raises
    ------
    TrainingError
        If the file is no checkpoint, or its network is not that of the settings.
    """
    name, begun = name_of(path), folder.last.exists()
    if begun and path.is_file():
        return Initial(name, checksum(path))  # compared with what was noted
    if begun and (noted := folder.noted("initial_model")):
        return Initial(name, noted)
    try:
        model = load_checkpoint(path)
    except CheckpointError as error:
        raise TrainingError(str(error)) from error
    _refuse_other(model, path, settings, spell)
    return Initial(name, checksum(path), model.network.state_dict())


def name_of(path: Path) -> str:
    """Name a model: by its folder if a training made it, else by its file."""
    return path.parent.name if path.name == "model.pt" else path.stem


def _refuse_other(
    model: Model, path: Path, settings: TrainingSettings, spell: Callable[[str, Any], str]
) -> None:
    network, spacing = model.network, model.frame.spacing
    trainable = (
        type(network) is VxmNet
        and (network.dims, network.output_stride) == (3, 1)
        and model.frame == Frame(spacing=spacing)
    )
    if not trainable:
        raise TrainingError(
            f"{path}: of a kind that is not trained here; give a network that vxmprep has trained"
        )
    features = network.encoder, network.decoder
    has = {
        "features": FORMS.get(features, features),
        "integration_steps": network.steps,
        "field_resolution": "half" if network.half_resolution else "full",
        "voxel_size": spacing,
    }
    wanted = settings.encoder_decoder()
    asked = {name: getattr(settings, name) for name in has}
    asked["features"] = FORMS.get(wanted, wanted)
    other = [name for name in has if has[name] != asked[name]]
    if other:
        given, needed = (", ".join(spell(n, each[n]) for n in other) for each in (asked, has))
        raise TrainingError(f"{path}: not the network of {given}; give {needed}")
