"""Networks that the original VoxelMorph code saved: `VxmDense` of torch and of Keras.

References
----------
https://github.com/voxelmorph/voxelmorph, version 0.2.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from vxmprep.morph.field import integrate
from vxmprep.morph.frame import FREESURFER_CROP
from vxmprep.morph.model import CheckpointError, Model
from vxmprep.morph.network import DECODER, ENCODER, VxmNet

MOST_WEIGHTS = 2**28
"""Of a network of Keras: 1 GB."""


class OriginalNet(VxmNet):
    """A network with the original's arithmetic around the integration.

    Its field of half resolution has exactly half the values, whatever the sizes of the two grids,
    so that its integration steps are a little too long (by 1 / (2 n - 1) of their length for n
    voxels); torch's version takes zero outside the grid, Keras's the value at the edge.

    Parameters
    ----------
    encoder, decoder
        Features.
    outside
        What the integration finds outside the grid, ``"zeros"`` or ``"border"``.
    **options
        As for `VxmNet`.
    """

    def __init__(
        self, encoder: Sequence[int], decoder: Sequence[int], *, outside: str, **options: Any
    ) -> None:
        if outside not in ("zeros", "border"):
            raise ValueError(f"OriginalNet: outside is {outside!r}; give 'zeros' or 'border'")
        super().__init__(encoder, decoder, **options)
        self.outside = outside

    def to_field_grid(self, flow: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """Bring the last convolution's output to the field's grid, with half its values."""
        field = super().to_field_grid(flow, shape)
        if self.half_resolution and self.output_stride == 1:
            field = field / self._excess(field)
        return field

    def integrate(self, field: torch.Tensor) -> torch.Tensor:
        """Displacement of what `forward` gives, in voxels of the same grid."""
        displacement = integrate(field, self.steps, outside=self.outside)
        return displacement * self._excess(field) if self.half_resolution else displacement

    @staticmethod
    def _excess(field: torch.Tensor) -> torch.Tensor:
        """Twice the voxels of the coarser grid over one of the finer, corners on corners."""
        sizes = field.shape[2:]
        ratios = [2 * (size - 1) / (2 * size - 1) for size in sizes]
        return field.new_tensor(ratios).view(1, -1, *[1] * len(sizes))


def from_torch(content: Mapping[str, Any], path: Path) -> Model:
    """Make a model of what the original's torch code saves: ``config`` and ``model_state``.

    Raises
    ------
    CheckpointError
        If it has options that are not known here, or weights that do not fit.
    """
    config, state = content["config"], content["model_state"]
    options = _options(config, path, outside="zeros")
    options["half_resolution"] = options["steps"] > 0 and config.get("int_downsize", 2) == 2
    options["output_stride"] = 2 if config.get("unet_half_res") else 1
    if config.get("int_downsize", 2) not in (1, 2):
        raise _unknown(path, "int_downsize", config["int_downsize"])
    weights = {}
    for full, values in state.items():
        name = full.removeprefix("module.")
        match = re.fullmatch(r"unet_model\.(\w+)\.(\d+)\.(?:0\.)?main\.(weight|bias)", name)
        rooms = {"encoder": "down", "decoder": "up", "remaining": "rest"}
        if match and match[1] in rooms:
            weights[f"{rooms[match[1]]}.{match[2]}.{match[3]}"] = values
        elif name in ("flow.weight", "flow.bias"):
            weights[name] = values
        elif not name.endswith(".grid"):
            raise _unfitting(path, f"it holds {name}")
    if not all(isinstance(x, torch.Tensor) and x.is_floating_point() for x in weights.values()):
        raise _unfitting(path, "they are no real numbers")
    return _model(options, weights, path, "VoxelMorph (torch)")


def from_keras(path: Path) -> Model:
    """Read what the original's Keras code saves, without Keras.

    Raises
    ------
    CheckpointError
        As for `from_torch`, and if the file holds no network.
    """
    try:
        with h5py.File(path, mode="r") as file:
            saved = file.attrs.get("model_config")
            stored = {} if saved is None else _arrays(file)
    except (OSError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path}: cut short or damaged; fetch or copy it anew") from error
    if saved is None:
        raise CheckpointError(
            f"{path}: weights without the network's description; save the model, not its weights"
        )
    config = _config(saved, path)
    options = _options(config, path, outside="border")
    resolution = config.get("int_downsize") or config.get("int_resolution", 2)
    stride = 2 if config.get("unet_half_res") else config.get("svf_resolution", 1)
    for name, value in (("int_resolution", resolution), ("svf_resolution", stride)):
        if value not in (1, 2):
            raise _unknown(path, name, value)
    options["half_resolution"] = options["steps"] > 0 and resolution == 2
    options["output_stride"] = int(stride)
    levels = len(options["encoder"])
    weights = {}
    for name, values in stored.items():
        layer, _, kind = name.rpartition("/")
        room = _room(layer, levels)
        if room is None:
            raise _unfitting(path, f"it holds {name}")
        if kind.startswith("kernel"):
            axes = (values.ndim - 1, values.ndim - 2, *range(values.ndim - 2))
            weights[f"{room}.weight"] = torch.from_numpy(values.transpose(axes).copy())
        else:
            weights[f"{room}.bias"] = torch.from_numpy(values)
    return _model(options, weights, path, "VoxelMorph (Keras)")


def _arrays(file: h5py.File) -> dict[str, np.ndarray]:
    """Read all arrays of a file's ``model_weights``, by their names with slashes.

    Raises
    ------
    OSError
        If one of them is no array of a network, or lies in another file.
    """
    found: dict[str, np.ndarray] = {}
    waiting, left = [("", file, "model_weights")], MOST_WEIGHTS
    while waiting:
        above, group, name = waiting.pop()
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise OSError(f"{name} is a link")
        item, path = group[name], f"{above}/{name}"
        if isinstance(item, h5py.Group):
            waiting += [(path, item, key) for key in item]
            continue
        if (
            item.external
            or item.is_virtual
            or item.dtype.kind != "f"
            or item.ndim not in (1, 4, 5)
        ):
            raise OSError(f"{path} is no array of weights")
        left -= item.size
        if left < 0:
            raise OSError("too many weights for a network")
        found[path] = np.asarray(item, dtype=np.float32)
    return found


def _config(saved: str | bytes, path: Path) -> dict[str, Any]:
    try:
        described = json.loads(saved)
        config = dict(described["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its network's description is damaged") from error
    if "inshape" not in config:
        name = described.get("class_name", "unknown")
        raise CheckpointError(f"{path}: a Keras network of class {name!r} without an input shape")
    if config.get("enc_nf") and config.get("dec_nf"):
        config["nb_unet_features"] = [config["enc_nf"], config["dec_nf"]]
    return config


def _room(layer: str, levels: int) -> str | None:
    """Give our name for one of Keras's layers; its decoder counts levels from the finest."""
    layer = layer.rsplit("/", 1)[-1]
    if match := re.search(r"enc_conv_(\d+)_0$", layer):
        return f"down.{match[1]}"
    if match := re.search(r"dec_conv_(\d+)_0$", layer):
        return f"up.{levels - 1 - int(match[1])}"
    if match := re.search(r"dec_final_conv_(\d+)$", layer):
        return f"rest.{match[1]}"
    return "flow" if layer.endswith("flow") else None


def _options(config: Mapping[str, Any], path: Path, outside: str) -> dict[str, Any]:
    """Give the arguments of `OriginalNet` that torch and Keras describe alike."""
    known = {
        "nb_unet_conv_per_level": (1,),
        "use_probs": (False,),
        "src_feats": (1,),
        "trg_feats": (1,),
        "input_model": (None,),
        "hyp_model": (None,),
    }
    for name, values in known.items():
        if config.get(name, values[0]) not in values:
            raise _unknown(path, name, config[name])
    try:
        encoder, decoder = _features(config)
        return {
            "encoder": encoder,
            "decoder": decoder,
            "dims": len(config["inshape"]),
            "steps": int(config.get("int_steps", 7)),
            "outside": outside,
        }
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its network's description is damaged") from error


def _features(config: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    features = config.get("nb_unet_features")
    if features is None:
        return list(ENCODER), list(DECODER)
    if isinstance(features, int):
        growth, levels = config.get("unet_feat_mult", 1), config["nb_unet_levels"]
        counts = [round(features * growth**level) for level in range(levels)]
        return counts[:-1], counts[::-1]
    encoder, decoder = features
    return [int(n) for n in encoder], [int(n) for n in decoder]


def _model(
    options: dict[str, Any], weights: dict[str, torch.Tensor], path: Path, origin: str
) -> Model:
    """Put weights into the network; a fully convolutional one fits images of any size."""
    if options["output_stride"] == 2 and not options["half_resolution"]:
        raise _unknown(path, "a decoder that ends at half, but int_resolution", 1)
    try:
        with torch.device("meta"):
            network = OriginalNet(**options)
        network.load_state_dict(weights, assign=True)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise _unfitting(path, reason if len(reason) < 120 else "shapes differ") from error
    network.requires_grad_(False).float()
    if not all(torch.isfinite(weight).all() for weight in network.parameters()):
        raise CheckpointError(f"{path}: its weights are not all finite; fetch or copy it anew")
    return Model(network.eval(), FREESURFER_CROP, {"origin": origin})


def _unknown(path: Path, name: str, value: Any) -> CheckpointError:
    return CheckpointError(f"{path}: a network with {name} {value!r}, which vxmprep does not run")


def _unfitting(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: its weights do not fit the network it describes: {reason}")
