"""Networks in files."""

import pickle
from pathlib import Path
from typing import Any

import torch

from vxmprep.morph.network import VxmNet

FORMAT = "vxmprep checkpoint 1"

BROKEN = (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError)
"""What reading and building a network can raise on a file that is something else."""


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
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        network = VxmNet(
            content["encoder"],
            content["decoder"],
            dims=content["dims"],
            half_resolution=content["half_resolution"],
        )
        network.load_state_dict(content["weights"])
    except (*BROKEN, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of vxmprep, or a broken one") from error
    return network.eval()
