"""Networks in files."""

import pickle
from pathlib import Path
from typing import Any

import torch

from vxmprep.morph.network import DECODER, ENCODER, VxmNet

FORMAT = "vxmprep checkpoint 1"


class CheckpointError(ValueError):
    """A file that is no checkpoint of ours; the message is one line for the user."""


def save_checkpoint(network: VxmNet, path: str | Path, **description: Any) -> None:
    """Write a network with all that is needed to run it.

    Parameters
    ----------
    network
        The network.
    path
        File to write.
    **description
        What else to keep: numbers, texts and lists of them.
    """
    content = {
        "format": FORMAT,
        "encoder": list(network.encoder),
        "decoder": list(network.decoder),
        "dims": network.dims,
        "half_resolution": network.half_resolution,
        "weights": network.state_dict(),
        "description": description,
    }
    torch.save(content, path)


def load_checkpoint(path: str | Path) -> VxmNet:
    """Read a network; nothing in the file is run.

    Parameters
    ----------
    path
        File written by `save_checkpoint`.

    Returns
    -------
    VxmNet
        The network, on the CPU, set to evaluate.

    Raises
    ------
    CheckpointError
        If the file is something else or was cut short.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of vxmprep") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of vxmprep")
    network = VxmNet(
        content.get("encoder", ENCODER),
        content.get("decoder", DECODER),
        dims=content["dims"],
        half_resolution=content["half_resolution"],
    )
    network.load_state_dict(content["weights"])
    return network.eval()
