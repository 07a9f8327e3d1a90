"""Networks in files."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from vxmprep.morph.network import VxmNet

FORMAT = "vxmprep checkpoint 1"

DEEPEST, WIDEST = 16, 1024
"""Most convolutions of the encoder or the decoder, and most features of one."""

OURS = "give one that vxmprep trained"


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
        If the file is something else, was cut short, or holds weights that do not fit.
    """
    content = _read(Path(path))
    if not isinstance(content, dict) or "format" not in content:
        raise CheckpointError(f"{path}: of another program, not a checkpoint of vxmprep; {OURS}")
    if content["format"] != FORMAT:
        raise CheckpointError(f"{path}: of another version of vxmprep; update it, or train anew")
    architecture = {
        name: content.get(name) for name in ("encoder", "decoder", "dims", "half_resolution")
    }
    if not (_sensible(architecture["encoder"]) and _sensible(architecture["decoder"])):
        raise CheckpointError(
            f"{path}: encoder and decoder are not 1 to {DEEPEST} numbers of 1 to {WIDEST}; {OURS}"
        )
    weights = content.get("weights")
    if not _fit(weights, architecture):
        raise CheckpointError(f"{path}: its weights do not fit the network it describes; {OURS}")
    if not all(torch.isfinite(weight).all() for weight in weights.values()):
        raise CheckpointError(f"{path}: its weights are not all finite; {OURS}")
    network = VxmNet(**architecture)
    network.load_state_dict(weights)
    return network.eval()


def _read(path: Path) -> Any:
    """Give what is in the file, if it is a whole archive as torch writes them."""
    try:
        with path.open("rb") as file:
            first = file.read(8)
        if not first:
            raise CheckpointError(f"{path}: empty (0 bytes); fetch or copy it anew")
        if not first.startswith(b"PK"):
            kind = "an HDF5 file (Keras), " if first.startswith(b"\x89HDF") else ""
            raise CheckpointError(f"{path}: {kind}not a checkpoint of vxmprep; {OURS}")
        with zipfile.ZipFile(path) as archive:
            # torch itself does not compare checksums.
            whole = archive.testzip() is None
    except (zipfile.BadZipFile, EOFError):
        whole = False
    except OSError as error:
        raise CheckpointError(f"{path}: {str(error.strerror).lower()}; {OURS}") from error
    if not whole:
        raise CheckpointError(f"{path}: cut short or damaged; fetch or copy it anew")
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of vxmprep, or unsafe (nothing in it was run); {OURS}"
        ) from error


def _sensible(features: Any) -> bool:
    return (
        isinstance(features, list)
        and 1 <= len(features) <= DEEPEST
        and all(type(n) is int and 1 <= n <= WIDEST for n in features)
    )


def _fit(weights: Any, architecture: dict) -> bool:
    """Tell whether weights have the shapes of a network, without allocating it."""
    try:
        with torch.device("meta"):
            network = VxmNet(**architecture)
        shapes = {name: weight.shape for name, weight in network.state_dict().items()}
        given = {name: weight.shape for name, weight in weights.items()}
        return shapes == given and all(
            weight.layout == torch.strided and weight.is_floating_point()
            for weight in weights.values()
        )
    except (AttributeError, TypeError, ValueError):
        return False
