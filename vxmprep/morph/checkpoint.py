"""Networks in files: ours, and those of the original code."""

import io
import pickle
import warnings
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vxmprep.morph.frame import Frame
from vxmprep.morph.model import CheckpointError, Model
from vxmprep.morph.network import VxmNet
from vxmprep.morph.original import OriginalNet, from_keras, from_torch
from vxmprep.spatial.files import replacing

FORMAT = "vxmprep checkpoint 1"

DEEPEST, WIDEST = 16, 1024
"""Most convolutions of the encoder or the decoder, and most features of one."""

ARCHITECTURE = ("encoder", "decoder", "dims", "steps", "half_resolution", "output_stride")

KINDS = "give a checkpoint of vxmprep, or a .pt or .h5 of VoxelMorph"


def save_checkpoint(model: Model, path: str | Path) -> None:
    """Write a network with all that is needed to run it, under a temporary name first.

    Parameters
    ----------
    model
        The network, its frame and its description.
    path
        File to write.
    """
    network = model.network
    content = {
        "format": FORMAT,
        "architecture": {name: _plain(getattr(network, name)) for name in _described(network)},
        "frame": {name: _plain(value) for name, value in asdict(model.frame).items()},
        "weights": {name: weight.detach().cpu() for name, weight in network.state_dict().items()},
        "description": dict(model.description),
    }
    write_archive(content, path)


def write_archive(content: dict[str, Any], path: str | Path) -> None:
    """Write what torch can save, under a temporary name first."""
    # Written by Python: torch's own writer does not say that a disk is full.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: str | Path) -> Model:
    """Read a network: ours, or one that the original code saved; nothing in the file is run.

    Parameters
    ----------
    path
        File written by `save_checkpoint`, by voxelmorph's torch code (``.pt``) or by its Keras
        code (``.h5``), version 0.2.

    Returns
    -------
    Model
        The network, on the CPU, set to evaluate; with its frame and description.

    Raises
    ------
    CheckpointError
        If the file is something else, was cut short, or holds weights that do not fit.
    """
    path = Path(path)
    try:
        return _load(path)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a hostile or damaged file leads to
        raise CheckpointError(f"{path}: not a checkpoint, or damaged; {KINDS}") from error


def _load(path: Path) -> Model:
    try:
        with path.open("rb") as file:
            first = file.read(8)
    except OSError as error:
        raise CheckpointError(f"{path}: {str(error.strerror).lower()}; {KINDS}") from error
    if not first:
        raise CheckpointError(f"{path}: empty (0 bytes); fetch or copy it anew")
    if first.startswith(b"\x89HDF"):
        return from_keras(path)
    content = _read(path, zipped=first.startswith(b"PK"))
    if isinstance(content, dict) and {"config", "model_state"} <= content.keys():
        return from_torch(content, path)
    if not isinstance(content, dict) or "format" not in content:
        raise CheckpointError(f"{path}: of another program; {KINDS}")
    if str(content["format"]).startswith("vxmprep training"):
        raise CheckpointError(f"{path}: the state of a training; give the model.pt it ends with")
    if content["format"] != FORMAT:
        raise CheckpointError(f"{path}: of another version of vxmprep; update it, or train anew")
    return _ours(content, path)


def _ours(content: dict, path: Path) -> Model:
    architecture, weights = content.get("architecture"), content.get("weights")
    kind = OriginalNet if isinstance(architecture, dict) and "outside" in architecture else VxmNet
    if not isinstance(architecture, dict) or set(architecture) != set(_described(kind)):
        raise CheckpointError(f"{path}: it does not describe its network; {KINDS}")
    if not (_sensible(architecture["encoder"]) and _sensible(architecture["decoder"])):
        raise CheckpointError(
            f"{path}: encoder and decoder are not 1 to {DEEPEST} numbers of 1 to {WIDEST}; {KINDS}"
        )
    if not _fit(weights, kind, architecture):
        raise CheckpointError(f"{path}: its weights do not fit the network it describes; {KINDS}")
    if not all(torch.isfinite(weight.float()).all() for weight in weights.values()):
        raise CheckpointError(f"{path}: its weights are not all finite; {KINDS}")
    try:
        frame = Frame(**{name: _tupled(value) for name, value in content["frame"].items()})
        description = dict(content["description"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: it does not describe its images; {KINDS}") from error
    network = kind(**architecture)
    network.load_state_dict(weights)
    return Model(network.requires_grad_(False).eval(), frame, description)


def _read(path: Path, *, zipped: bool) -> Any:
    """Give what is in the file, if it is a whole archive as torch writes them."""
    if zipped:
        try:
            with zipfile.ZipFile(path) as archive:
                # torch itself does not compare checksums.
                whole = archive.testzip() is None
        except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError):
            whole = False
        if not whole:
            raise CheckpointError(f"{path}: cut short or damaged; fetch or copy it anew")
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: not a checkpoint, or unsafe (nothing in it was run); {KINDS}"
        ) from error
    except Exception as error:
        raise CheckpointError(f"{path}: not a checkpoint, or damaged; {KINDS}") from error


def _described(network: VxmNet | type[VxmNet]) -> tuple[str, ...]:
    """Names of what makes up an architecture."""
    kind = network if isinstance(network, type) else type(network)
    return (*ARCHITECTURE, "outside") if kind is OriginalNet else ARCHITECTURE


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _sensible(features: Any) -> bool:
    return (
        isinstance(features, list)
        and 1 <= len(features) <= DEEPEST
        and all(type(n) is int and 1 <= n <= WIDEST for n in features)
    )


def _fit(weights: Any, kind: type[VxmNet], architecture: dict) -> bool:
    """Tell whether weights have the shapes of a network, without allocating it."""
    try:
        with torch.device("meta"):
            network = kind(**architecture)
        shapes = {name: weight.shape for name, weight in network.state_dict().items()}
        given = {name: weight.shape for name, weight in weights.items()}
        return shapes == given and all(
            weight.layout == torch.strided and weight.is_floating_point()
            for weight in weights.values()
        )
    except (AttributeError, TypeError, ValueError):
        return False
