"""Inversion and extension of fields."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from vxmprep.morph.field import compose, integrate, jacobian_determinant, sample
from vxmprep.morph.inverse import extend, invert, invert_between

SHAPE = (26, 30, 28)


def velocity(seed: int, amplitude: float) -> torch.Tensor:
    """A random smooth velocity, zero at the border."""
    noise = np.random.default_rng(seed).standard_normal((3, *SHAPE))
    smooth = np.stack([ndimage.gaussian_filter(component, 3.5) for component in noise])
    for axis, size in enumerate(SHAPE):
        smooth *= np.hanning(size).reshape([-1 if a == axis else 1 for a in range(3)])
    return torch.from_numpy(amplitude * smooth / np.abs(smooth).max()).float()[None]


def brain() -> torch.Tensor:
    """A ball."""
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"))
    distance = np.linalg.norm(grid - (np.array(SHAPE) / 2)[:, None, None, None], axis=0)
    return torch.from_numpy(distance < 9)[None, None]


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_a_field_followed_by_its_inverse_is_the_identity(seed):
    field = integrate(velocity(seed, amplitude=3))
    inverse = invert(field)
    assert compose(field, inverse.displacement).norm(dim=1).max() < 0.05
    assert inverse.largest < 0.05


def test_inversion_converges_where_the_field_expands_more_than_twofold():
    line = torch.linspace(-14, 14, 29)
    field = torch.zeros(1, 3, 29, 9, 9)
    field[:, 0] = (2 * line * torch.exp(-((line / 4) ** 2) / 2)).view(1, -1, 1, 1)
    determinant = jacobian_determinant(field)
    assert determinant.max() > 2.5
    assert determinant.min() > 0
    assert float(invert(field).residual[:, :, 3:-3].max()) < 0.05


def test_the_inverse_reports_a_field_that_folds():
    field = torch.zeros(1, 3, 29, 9, 9)
    field[:, 0, 15:] = -6.0
    result = invert(field)
    assert torch.isfinite(result.displacement).all()
    assert result.p99 <= result.largest


def test_extension_keeps_the_field_in_the_brain_and_is_zero_on_its_border():
    field = integrate(velocity(1, amplitude=2)) + 1.0
    extended = extend(field, brain(), margin=8)
    assert extended.shape[2:] == tuple(size + 16 for size in SHAPE)
    inner = extended[..., 8:-8, 8:-8, 8:-8]
    torch.testing.assert_close(inner * brain(), field * brain(), atol=0.05, rtol=0)
    border = torch.ones_like(extended, dtype=torch.bool)
    border[..., 1:-1, 1:-1, 1:-1] = False
    assert not extended[border].any()


def test_extension_of_a_brain_displaced_by_five_voxels_does_not_fold():
    extended = extend(torch.full((1, 3, *SHAPE), 5 / 3**0.5), brain(), margin=12)
    assert float(jacobian_determinant(extended).min()) > 0.1


def test_extension_solves_laplaces_equation_outside_the_brain():
    extended = extend(torch.full((1, 3, *SHAPE), 1.0), brain(), margin=8, dilation=0)
    extended = extended[0, 0].numpy()
    known = np.pad(brain()[0, 0].numpy(), 8)
    solution = known.astype(float)
    free = ~known
    free[[0, -1]] = free[:, [0, -1]] = free[:, :, [0, -1]] = False
    kernel = ndimage.generate_binary_structure(3, 1).astype(float)
    kernel[1, 1, 1] = 0
    for _ in range(1500):
        solution = np.where(free, ndimage.correlate(solution, kernel / 6), solution)
    np.testing.assert_allclose(extended, solution, atol=0.05)


def test_an_inverse_fitted_between_voxels_returns_points_closer_than_an_exact_one():
    field = integrate(velocity(2, amplitude=4))
    points = 6 + 14 * torch.rand(1, 3, 500, 1, 1, generator=torch.manual_seed(0))
    errors = []
    for inverse in (invert(field), invert_between(field)):
        there = points + sample(field, points)
        back = there + sample(inverse.displacement, there)
        errors.append(float((back - points).norm(dim=1).mean()))
    assert errors[1] < 0.7 * errors[0]
