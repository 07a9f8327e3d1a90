"""Fields that the tests of the algebra share."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage


def _smooth_field(
    seed: int,
    shape: tuple[int, ...] = (15, 18, 13),
    amplitude: float = 1.5,
    *,
    sigma: float = 3,
    batch: int = 1,
) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((batch, len(shape), *shape))
    smooth = ndimage.gaussian_filter(noise, [0, 0, *[sigma] * len(shape)])
    for axis, size in enumerate(shape):
        line = np.hanning(size)
        smooth *= line.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    smooth *= amplitude / np.abs(smooth).max()
    return torch.from_numpy(smooth).float()


def _affine_field(matrix: np.ndarray, shape: tuple[int, ...] = (15, 18, 13)) -> torch.Tensor:
    centre = (np.array(shape) - 1) / 2
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) - centre
    values = grid @ (matrix - np.eye(len(shape))).T
    return torch.from_numpy(np.moveaxis(values, -1, 0)).float()[None]


@pytest.fixture(scope="session")
def smooth_field() -> Callable[..., torch.Tensor]:
    """Random fields, zero at the border, whose gradients are below about amplitude / sigma."""
    return _smooth_field


@pytest.fixture(scope="session")
def affine_field() -> Callable[..., torch.Tensor]:
    """Displacement (matrix - I)(p - centre)."""
    return _affine_field
