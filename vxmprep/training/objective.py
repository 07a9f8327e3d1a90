"""What is minimised for a batch of pairs, equations 4 and 10 of the paper.

References
----------
Balakrishnan et al., IEEE TMI 38(8), 2019, arXiv 1809.05231.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from vxmprep.morph.field import resize, warp
from vxmprep.morph.losses import gradient_penalty, local_ncc, mse, soft_dice
from vxmprep.training.augmentation import change_image, change_labels, draw_change
from vxmprep.training.data import Batch, Labels
from vxmprep.training.settings import TrainingSettings

TOGETHER = 4
"""Structures whose maps are in memory at a time; those of the others are made again when the
derivative is taken."""

Forward = Callable[[torch.Tensor, torch.Tensor, torch.dtype], torch.Tensor]


@dataclass(frozen=True)
class Losses:
    """Parts of a loss as they count in it, weights included; tensors without dimensions."""

    similarity: torch.Tensor
    smoothness: torch.Tensor
    segmentation: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """Their sum."""
        return self.similarity + self.smoothness + self.segmentation


class Objective:
    """Similarity + lambda x smoothness + gamma x (1 - Dice) of a network's fields.

    All are means over the pairs, so that the gradients of several devices average to that of one
    with all their pairs. A pair without labels has no part of the third.

    Parameters
    ----------
    settings
        The losses and their weights.
    integrate
        Turns what the network gives into a displacement.
    dtype
        Precision of the convolutions.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        integrate: Callable[[torch.Tensor], torch.Tensor],
        dtype: torch.dtype,
    ) -> None:
        self.settings, self.integrate, self.dtype = settings, integrate, dtype

    def __call__(self, network: Forward, batch: Batch) -> Losses:
        """Compute the losses of a batch on the network's device."""
        moving, fixed, labels = self._prepared(batch)
        field = network(moving, fixed, self.dtype)
        displacement = resize(self.integrate(field), fixed.shape[2:])
        warped = warp(moving, displacement)
        return Losses(
            similarity(self.settings.image_loss, fixed, warped),
            self.settings.smoothness * gradient_penalty(field),
            self.settings.segmentation_weight * _segmentation(labels, displacement),
        )

    def _prepared(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, list[Labels | None]]:
        """Scale intensities to [0, 1], and change moving scans where that is asked for."""
        moving, fixed = as_intensities(batch.moving), as_intensities(batch.fixed)
        labels, strength = list(batch.labels), self.settings.augmentation
        if not strength:
            return moving, fixed, labels
        changes = [draw_change(self.settings.seed, n, strength) for n in batch.numbers]
        pairs = zip(moving.split(1), changes, strict=True)
        moving = torch.cat([change_image(image, change) for image, change in pairs])
        labels = [
            each and Labels(change_labels(each.moving, change), each.fixed, each.structures)
            for each, change in zip(labels, changes, strict=True)
        ]
        return moving, fixed, labels


def as_intensities(image: torch.Tensor) -> torch.Tensor:
    """Bring uint8 to [0, 1]."""
    return image.float() / 255


def similarity(kind: str, fixed: torch.Tensor, warped: torch.Tensor) -> torch.Tensor:
    """Dissimilarity of two images: ``mse``, or 1 - local NCC for ``lncc``."""
    return mse(fixed, warped) if kind == "mse" else 1 - local_ncc(fixed, warped)


def _segmentation(labels: list[Labels | None], displacement: torch.Tensor) -> torch.Tensor:
    """1 - soft Dice, over the pairs that have labels; divided by the number of all pairs."""
    total = displacement.new_zeros(())
    for each, field in zip(labels, displacement.split(1), strict=True):
        if each is not None:
            total = total + 1 - _overlap(each, field)
    return total / len(labels)


def _overlap(labels: Labels, displacement: torch.Tensor) -> torch.Tensor:
    """Mean soft Dice of the structures that both have, their maps warped linearly."""
    structures = torch.tensor(labels.structures, device=displacement.device)
    total = displacement.new_zeros(())
    for some in structures.split(TOGETHER):
        mean = checkpoint(_overlap_of, displacement, labels, some, use_reentrant=False)
        total = total + mean * len(some)
    return total / len(structures)


def _overlap_of(displacement: torch.Tensor, labels: Labels, some: torch.Tensor) -> torch.Tensor:
    moving = (labels.moving == some.view(-1, 1, 1, 1))[None].float()
    fixed = (labels.fixed == some.view(-1, 1, 1, 1))[None]
    return soft_dice(fixed, warp(moving, displacement))
