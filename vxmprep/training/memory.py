"""Memory that a step of a training takes, and how to make it fit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.autograd.graph import saved_tensors_hooks

from vxmprep.morph.compute import Compute
from vxmprep.morph.field import resize, warp
from vxmprep.morph.network import VxmNet
from vxmprep.resources import available_memory_gb
from vxmprep.training.errors import TrainingError
from vxmprep.training.objective import TOGETHER
from vxmprep.training.settings import TrainingSettings

GIB = 2**30

SLACK = 1.1
"""What is kept for the backward pass costs that much of itself."""

VOLUMES = 15
"""Volumes in single precision that fields and losses take for a while, for each pair."""

MAPS = 5
"""Volumes in single precision for each structure that is looked at together."""

SHARE = 0.85
"""Of a device's memory, what a step may take where no budget is given."""


SMALLER = (
    "take voxel_size = 2, field_resolution = 'half', fewer features, or another memory_budget"
)


@dataclass(frozen=True)
class Fit:
    """How a step is made to fit.

    Attributes
    ----------
    together
        Pairs of a batch that go through the network at a time.
    dtype
        Precision of the convolutions.
    reason
        One line for the user.
    """

    together: int
    dtype: torch.dtype
    reason: str


def fit(
    network: VxmNet, settings: TrainingSettings, shape: Sequence[int], compute: Compute, pairs: int
) -> Fit:
    """Choose how many pairs go through a network at a time, and their precision.

    What is asked for is kept where it fits; then fewer pairs at a time, whose gradients add up to
    those of all; then bfloat16, unless the precision was asked for.

    Parameters
    ----------
    network
        Of the settings, on any device.
    settings
        ``memory_budget``, ``segmentation_weight`` and ``precision`` of a training.
    shape
        Spatial shape of the images.
    compute
        Device and precision as chosen without regard to memory.
    pairs
        Of a batch, on one device.

    Raises
    ------
    TrainingError
        If not even one pair in bfloat16 fits.
    """
    budget = settings.memory_budget or SHARE * device_memory(compute.device)
    precisions = [compute.dtype]
    if settings.precision == "auto" and compute.dtype != torch.bfloat16:
        precisions.append(torch.bfloat16)
    segmented = settings.segmentation_weight > 0
    for dtype in precisions:
        each = predict_peak(network, shape, dtype, segmented=segmented)
        fitting = (n for n in range(pairs, 0, -1) if pairs % n == 0 and n * each <= budget)
        together = next(fitting, 0)
        if together:
            return Fit(together, dtype, _reason(together, pairs, dtype, each))
    raise TrainingError(
        f"a training step takes {each:.1f} GiB and {budget:.1f} GiB are allowed; {SMALLER}"
    )


def predict_peak(
    network: VxmNet, shape: Sequence[int], dtype: torch.dtype, *, segmented: bool
) -> float:
    """Predict the peak of a step with one pair, beyond what the process takes without it, in GiB.

    What the backward pass needs is counted by a forward pass without numbers, on torch's meta
    device. To it come the gradients of the finest and widest features, and of fields, images and
    structures. Measured on a processor it was 0 to 13 % less, from 64 x 96 x 64 to 96^3 voxels,
    for both sizes of the paper's network, both precisions and both resolutions of the field.

    Parameters
    ----------
    network
        The network; only its shape counts.
    shape
        Spatial shape of the images.
    dtype
        Precision of the convolutions.
    segmented
        Whether overlap of structures is part of the loss.
    """
    kept = _saved_bytes(lambda: _forward(network, shape, dtype))
    voxels = math.prod(-(-size // network.stride) * network.stride for size in shape)
    finest = (network.encoder[0], *network.decoder[len(network.encoder) - 1 :])
    widest = max(finest) * dtype.itemsize
    volumes = VOLUMES + (MAPS * TOGETHER if segmented else 0)
    return (SLACK * kept + voxels * (widest + 4 * volumes)) / GIB


def device_memory(device: str) -> float:
    """Memory of a device, GiB."""
    if device == "cpu":
        return available_memory_gb()
    return torch.cuda.get_device_properties(device).total_memory / GIB


def _forward(network: VxmNet, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Register a pair of images without numbers."""
    empty = copy.deepcopy(network).to("meta")
    moving, fixed = (torch.empty(1, 1, *shape, device="meta") for _ in range(2))
    displacement = resize(empty.integrate(empty(moving, fixed, dtype)), shape)
    warp(moving, displacement)


def _saved_bytes(work: Callable[[], None]) -> int:
    """Count the bytes that autograd keeps of some work; views of one storage count once."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
        return sum(storage.nbytes() for storage in kept.values())


def _reason(together: int, pairs: int, dtype: torch.dtype, each: float) -> str:
    name = str(dtype).removeprefix("torch.")
    parts = "" if together == pairs else f", {together} of {pairs} pairs at a time to fit"
    return f"a training step takes about {together * each:.1f} GiB in {name}{parts}"
