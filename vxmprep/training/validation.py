"""How good a network is on pairs that it has not been trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from vxmprep.evaluation.overlap import overlaps
from vxmprep.morph.field import jacobian_determinant, resize, warp
from vxmprep.morph.labels import warp_labels
from vxmprep.morph.losses import gradient_penalty, local_ncc
from vxmprep.morph.network import VxmNet
from vxmprep.training.data import Batch, Labels, TrainingData
from vxmprep.training.objective import as_intensities, similarity
from vxmprep.training.pairs import Pair
from vxmprep.training.settings import TrainingSettings


@dataclass(frozen=True)
class Measured:
    """One pair, registered.

    Attributes
    ----------
    moving, fixed
        Names.
    loss
        Similarity and smoothness as in training; no segmentation.
    ncc
        Local NCC, window 9.
    folding
        Voxels with a determinant of 0 or less, percent of the fixed brain.
    dice
        Overlap of each structure that both have; labels warped, each voxel the heaviest.
    """

    moving: str
    fixed: str
    loss: float
    ncc: float
    folding: float
    dice: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Validation:
    """All pairs of a validation."""

    pairs: tuple[Measured, ...]

    @property
    def dice(self) -> float:
        """Mean over structures, then over the pairs that have labels; not a number without."""
        means = [np.mean(list(pair.dice.values())) for pair in self.pairs if pair.dice]
        return float(np.mean(means)) if means else float("nan")

    def mean(self, name: str) -> float:
        """Mean of a measure over pairs."""
        return float(np.mean([getattr(pair, name) for pair in self.pairs]))

    @property
    def score(self) -> float:
        """What training should raise: Dice, or minus the loss where no pair has labels."""
        return -self.mean("loss") if np.isnan(self.dice) else self.dice

    def summary(self) -> dict[str, float]:
        """Give the means by name."""
        return {"dice": self.dice, **{n: self.mean(n) for n in ("ncc", "loss", "folding")}}


@torch.no_grad()
def validate(
    network: VxmNet | None,
    data: TrainingData,
    pairs: Sequence[Pair],
    settings: TrainingSettings,
    dtype: torch.dtype,
) -> Validation:
    """Register pairs and measure the results.

    Parameters
    ----------
    network
        The network, on its device; None measures the pairs as they are, affinely aligned.
    data, pairs
        What is registered.
    settings, dtype
        As in training.
    """
    device = network.flow.weight.device if network else torch.device("cpu")
    found = []
    for pair in pairs:
        batch = data.batch([(0, pair)], labels=True).to(device)
        found.append(_measure(network, batch, settings, dtype))
    return Validation(tuple(found))


def _measure(
    network: VxmNet | None, batch: Batch, settings: TrainingSettings, dtype: torch.dtype
) -> Measured:
    moving, fixed = as_intensities(batch.moving), as_intensities(batch.fixed)
    velocity = displacement = moving.new_zeros(1, 3, *moving.shape[2:])
    if network is not None:
        velocity = network(moving, fixed, dtype)
        displacement = resize(network.integrate(velocity), fixed.shape[2:])
    warped = warp(moving, displacement)
    loss = similarity(settings.image_loss, fixed, warped)
    loss = loss + settings.smoothness * gradient_penalty(velocity)
    folded = (jacobian_determinant(displacement)[0] <= 0) & batch.mask
    return Measured(
        *batch.names[0],
        float(loss),
        float(local_ncc(fixed, warped)),
        100 * float(folded.sum()) / max(int(batch.mask.sum()), 1),
        _dice(batch.labels[0], displacement),
    )


def _dice(labels: Labels | None, displacement: torch.Tensor) -> dict[int, float]:
    if labels is None:
        return {}
    warped = warp_labels(labels.moving[None, None], displacement)[0, 0]
    found = overlaps(labels.fixed.cpu().numpy(), warped.cpu().numpy())
    # A structure that the warp leaves nothing of overlaps by nothing.
    return {k: found[k].dice if found[k].voxels_moving else 0.0 for k in labels.structures}
