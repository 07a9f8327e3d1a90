"""Local correlation and smoothness: by definition, by autograd, on empty regions."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from vxmprep.morph.losses import gradient_penalty, local_ncc
from vxmprep.morph.ncc import LocalNcc


def squared_correlations(fixed: np.ndarray, moving: np.ndarray, window: int) -> np.ndarray:
    """Squared Pearson correlation in every window that lies inside the volume."""
    shape = (window,) * 3
    f = sliding_window_view(fixed, shape).reshape(-1, window**3)
    m = sliding_window_view(moving, shape).reshape(-1, window**3)
    return np.array([np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(f, m, strict=True)])


def test_similarity_is_the_mean_squared_pearson_correlation_of_the_windows():
    generator = np.random.default_rng(0)
    fixed = generator.random((11, 12, 13))
    moving = 0.5 * fixed + 0.5 * generator.random(fixed.shape)
    weight = torch.zeros(1, 1, *fixed.shape, dtype=torch.float64)
    weight[..., 2:-2, 2:-2, 2:-2] = 1
    pair = [torch.from_numpy(volume)[None, None] for volume in (fixed, moving)]
    result = LocalNcc(pair[0], weight, window=5)(pair[1]).value
    expected = squared_correlations(fixed, moving, 5).mean()
    assert float(result) == pytest.approx(expected, rel=1e-3)


def test_loss_and_closed_form_agree():
    fixed, moving = torch.rand(2, 1, 1, 12, 13, 14, generator=torch.manual_seed(1))
    value = LocalNcc(fixed, torch.ones_like(fixed), window=9)(moving).value
    assert float(local_ncc(fixed, moving)) == pytest.approx(float(value), rel=1e-4)


def test_gradient_in_closed_form_is_that_of_autograd():
    fixed, moving = torch.rand(2, 1, 1, 11, 12, 13, generator=torch.manual_seed(2))
    moving.requires_grad_()
    loss = local_ncc(fixed, moving, window=5)
    (expected,) = torch.autograd.grad(loss * fixed.numel(), moving)
    result = LocalNcc(fixed, torch.ones_like(fixed), window=5)(moving.detach())
    torch.testing.assert_close(result.gradient, expected, atol=1e-4, rtol=1e-4)
    assert (result.curvature >= 0).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_images_give_a_finite_loss_and_gradient(value):
    fixed = torch.rand(1, 1, 12, 12, 12, generator=torch.manual_seed(3))
    moving = torch.full_like(fixed, value, requires_grad=True)
    loss = local_ncc(fixed, moving)
    loss.backward()
    assert 0 <= float(loss.detach()) <= 1
    assert torch.isfinite(moving.grad).all()


def test_half_precision_is_computed_in_single_precision():
    fixed, moving = torch.rand(2, 1, 1, 12, 12, 12, generator=torch.manual_seed(4)).bfloat16()
    assert local_ncc(fixed, moving) == local_ncc(fixed.float(), moving.float())


def test_penalty_of_a_linear_field_is_the_mean_of_its_squared_slopes():
    slopes = torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.5, 0.0], [1.0, 0.0, 0.4]])
    axes = [torch.arange(n, dtype=torch.float32) for n in (5, 6, 7)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    field = torch.einsum("ij,jxyz->ixyz", slopes, grid)[None]
    assert float(gradient_penalty(field)) == pytest.approx(float(slopes.square().mean()), rel=1e-4)
    assert float(gradient_penalty(field, "l1")) == pytest.approx(float(slopes.mean()), rel=1e-4)
