"""Random changes of moving scans: small affine maps and contrasts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vxmprep.morph.field import warp
from vxmprep.morph.labels import warp_labels

CHANGE = 2
"""What a draw is for, beside those of `vxmprep.training.pairs`."""

DEGREES, SCALE, SHIFT, CONTRAST = 10.0, 0.1, 0.04, 0.3
"""Largest rotation, logarithm of a scale, share of the grid, and logarithm of the intensities'
exponent, at strength 1."""


@dataclass(frozen=True)
class Change:
    """A map p -> matrix (p - centre) + centre + shift (of the grid's sizes), and an exponent."""

    matrix: np.ndarray
    shift: np.ndarray
    exponent: float

    def field(self, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """Displacement ``(1, 3, X, Y, Z)`` of the map, voxels."""
        sizes = torch.tensor(shape, device=device)
        axes = [torch.arange(size, device=device) - (size - 1) / 2 for size in shape]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        change = torch.as_tensor(self.matrix - np.eye(3), dtype=torch.float32, device=device)
        shift = torch.as_tensor(self.shift, dtype=torch.float32, device=device) * sizes
        moved = torch.einsum("ij,jxyz->ixyz", change, grid.float())
        return (moved + shift.view(3, 1, 1, 1))[None]


def draw_change(seed: int, number: int, strength: float) -> Change:
    """Draw the change of a pair.

    Parameters
    ----------
    seed, number
        Of the training, and of the pair: they alone decide.
    strength
        0 is none, 1 strong.
    """
    draw = np.random.default_rng([seed, CHANGE, number])
    turns = np.radians(DEGREES) * strength * draw.uniform(-1, 1, 3)
    scales = np.exp(SCALE * strength * draw.uniform(-1, 1, 3))
    shift = SHIFT * strength * draw.uniform(-1, 1, 3)
    exponent = float(np.exp(CONTRAST * strength * draw.uniform(-1, 1)))
    matrix = np.diag(scales)
    for axis, turn in enumerate(turns):
        rotation = np.eye(3)
        one, other = [each for each in range(3) if each != axis]
        rotation[[one, other], [one, other]] = np.cos(turn)
        rotation[one, other], rotation[other, one] = -np.sin(turn), np.sin(turn)
        matrix = rotation @ matrix
    return Change(matrix, shift, exponent)


def change_image(image: torch.Tensor, change: Change) -> torch.Tensor:
    """Change an image ``(1, 1, X, Y, Z)`` of intensities in [0, 1]; background stays 0."""
    moved = warp(image, change.field(tuple(image.shape[2:]), image.device))
    return moved.clamp(0, 1).pow(change.exponent)


def change_labels(labels: torch.Tensor, change: Change) -> torch.Tensor:
    """Change labels ``(X, Y, Z)`` as the image they belong to."""
    field = change.field(tuple(labels.shape), labels.device)
    return warp_labels(labels[None, None], field)[0, 0]
