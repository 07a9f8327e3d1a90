"""Local correlation: by definition, by MONAI, by autograd through convolutions, at its limits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from torch.nn import functional

from vxmprep.morph import blocks
from vxmprep.morph.losses import local_ncc
from vxmprep.morph.ncc import VARIANCE_FLOOR, LocalNcc


@pytest.fixture(params=[None, 2000], ids=["one slab", "many slabs"])
def cache(request, monkeypatch):
    """Slabs that hold all of a test's small images, or a few planes of one."""
    if request.param:
        monkeypatch.setitem(blocks.CACHED_VALUES, "cpu", request.param)


def images(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images that correlate."""
    fixed, noise = torch.rand(2, *shape, generator=torch.manual_seed(seed))
    return fixed, 0.5 * fixed + 0.5 * noise


def by_convolution(fixed: torch.Tensor, moving: torch.Tensor, window: int) -> torch.Tensor:
    """Equation 6 with dense convolutions in double precision."""
    dims = fixed.ndim - 2
    convolve = functional.conv3d if dims == 3 else functional.conv2d
    kernel = torch.ones(1, 1, *[window] * dims, dtype=torch.float64)
    fixed, moving = fixed.double(), moving.double()

    def total(volume: torch.Tensor) -> torch.Tensor:
        return convolve(volume, kernel, padding=window // 2)

    count = window**dims
    f, m = total(fixed), total(moving)
    cross = total(fixed * moving) - f * m / count
    spread = [
        total(i * i) - s * s / count + count * VARIANCE_FLOOR for i, s in ((fixed, f), (moving, m))
    ]
    return (cross**2 / (spread[0] * spread[1])).mean()


def squared_correlations(fixed: np.ndarray, moving: np.ndarray, window: int) -> np.ndarray:
    """Squared Pearson correlation in every window that lies inside the volume."""
    shape = (window,) * fixed.ndim
    f, m = (sliding_window_view(v, shape).reshape(-1, window**v.ndim) for v in (fixed, moving))
    return np.array([np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(f, m, strict=True)])


def test_similarity_is_the_mean_squared_pearson_correlation_of_the_windows():
    fixed, moving = images(1, 1, 11, 12, 13)
    fixed, moving = fixed.double(), moving.double()
    weight = torch.zeros_like(fixed)
    weight[..., 2:-2, 2:-2, 2:-2] = 1
    result = LocalNcc(fixed, weight, window=5)(moving).value
    expected = squared_correlations(fixed[0, 0].numpy(), moving[0, 0].numpy(), 5).mean()
    assert float(result) == pytest.approx(expected, rel=1e-3)


def test_loss_is_the_mean_squared_pearson_correlation_with_zeros_around_the_image():
    fixed, moving = images(1, 1, 14, 15)
    padded = [np.pad(image[0, 0].double().numpy(), 4) for image in (fixed, moving)]
    expected = squared_correlations(*padded, 9).mean()
    assert float(local_ncc(fixed, moving)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("shape", [(2, 1, 14, 12, 13), (1, 1, 40, 30)])
def test_loss_is_that_of_monai_where_the_smoothing_terms_are_small(shape):
    losses = pytest.importorskip("monai.losses")
    fixed, moving = images(*shape)
    expected = losses.LocalNormalizedCrossCorrelationLoss(
        spatial_dims=len(shape) - 2, kernel_size=9, smooth_nr=0, smooth_dr=1e-7
    )(moving, fixed)
    assert float(local_ncc(fixed, moving)) == pytest.approx(-float(expected), rel=1e-3)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("window", [3, 5, 7, 9, 11])
@pytest.mark.parametrize("shape", [(2, 1, 13, 12, 14), (1, 1, 29, 9, 8), (3, 1, 70, 40)])
def test_value_and_both_gradients_are_those_of_convolutions(shape, window):
    pair = [image.requires_grad_() for image in images(*shape)]
    expected = by_convolution(*pair, window)
    result = local_ncc(*pair, window)
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=0)
    gradients = [torch.autograd.grad(3 * loss, pair) for loss in (result, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("which", [0, 1])
def test_only_the_image_that_requires_it_gets_a_gradient(which):
    pair = images(1, 1, 10, 11, 12)
    both = [image.clone().requires_grad_() for image in pair]
    expected = torch.autograd.grad(local_ncc(*both), both)[which]
    pair[which].requires_grad_()
    local_ncc(*pair).backward()
    assert torch.equal(pair[which].grad, expected)
    assert pair[1 - which].grad is None


@pytest.mark.usefixtures("cache")
def test_refinement_sees_value_and_gradient_of_the_loss():
    fixed, moving = images(1, 1, 19, 12, 13)
    result = LocalNcc(fixed, torch.ones_like(fixed), window=5)(moving)
    moving.requires_grad_()
    loss = local_ncc(fixed, moving, window=5)
    (expected,) = torch.autograd.grad(loss * fixed.numel(), moving)
    torch.testing.assert_close(result.value, loss.detach())
    torch.testing.assert_close(result.gradient, expected)
    assert (result.curvature > 0).all()


@pytest.mark.usefixtures("cache")
def test_weights_choose_the_windows():
    fixed, moving = images(1, 1, 17, 12, 13)
    weight = (torch.rand(fixed.shape, generator=torch.manual_seed(5)) > 0.5).float()
    parts = [LocalNcc(fixed, part, window=5)(moving) for part in (weight, 1 - weight)]
    whole = LocalNcc(fixed, torch.ones_like(fixed), window=5)(moving)
    gradient, curvature = (
        sum(getattr(part, name) for part in parts) for name in ("gradient", "curvature")
    )
    torch.testing.assert_close(gradient, whole.gradient, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(curvature, whole.curvature, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 12, 12, 12), (1, 1, 20, 20), (1, 1, 3, 2, 1)])
@pytest.mark.parametrize("values", [(0, 0), (1, 1), (0, None), (1, None)])
def test_constant_images_give_a_finite_loss_and_gradient(shape, values):
    pair = [
        torch.rand(shape, generator=torch.manual_seed(3))
        if v is None
        else torch.full(shape, float(v))
        for v in values
    ]
    for image in pair:
        image.requires_grad_()
    loss = local_ncc(*pair)
    loss.backward()
    assert 0 <= loss.item() <= 1
    assert all(torch.isfinite(image.grad).all() for image in pair)


def test_an_empty_background_adds_neither_value_nor_gradient():
    fixed, moving = images(1, 1, 10, 10, 10)
    tight, wide = (
        [functional.pad(image, around).requires_grad_() for image in (fixed, moving)]
        for around in ([4] * 6, [14, 20, 16, 19, 15, 14])
    )
    sums = [local_ncc(*pair) * pair[0].numel() for pair in (tight, wide)]
    torch.testing.assert_close(*sums)
    (gradient,) = torch.autograd.grad(sums[1], wide[1])
    gradient[..., 7:33, 8:34, 6:32] = 0  # windows of these voxels reach the images
    assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_computed_in_single_precision(dtype):
    fixed, moving = (image.to(dtype) for image in images(1, 1, 12, 12, 12))
    moving.requires_grad_()
    loss = local_ncc(fixed, moving)
    assert loss.dtype == torch.float32
    assert loss == local_ncc(fixed.float(), moving.float())
    loss.backward()
    assert moving.grad.dtype == dtype


@pytest.mark.usefixtures("cache")
def test_the_same_bits_come_twice():
    fixed, moving = images(1, 1, 40, 41, 42)
    moving.requires_grad_()
    results = [local_ncc(fixed, moving) for _ in range(2)]
    first, second = (torch.autograd.grad(loss, moving)[0] for loss in results)
    assert torch.equal(*results)
    assert torch.equal(first, second)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(7, 8, 9), (12, 11)]), st.sampled_from([3, 5, 9]))
def test_images_can_change_places(seed, shape, window):
    fixed, moving = images(1, 1, *shape, seed=seed)
    torch.testing.assert_close(local_ncc(fixed, moving, window), local_ncc(moving, fixed, window))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 3), st.booleans())
def test_a_linear_change_of_intensities_changes_nothing_but_the_share_of_the_floor(
    seed, scale, negative
):
    fixed, moving = images(1, 1, 12, 11, 10, seed=seed)
    changed = moving * (-scale if negative else scale)
    assert float(local_ncc(fixed, changed)) == pytest.approx(
        float(local_ncc(fixed, moving)), rel=2e-3
    )


def test_adding_a_constant_changes_no_window_inside():
    fixed, moving = images(1, 1, 13, 12, 11)
    weight = torch.zeros_like(fixed)
    weight[..., 4:-4, 4:-4, 4:-4] = 1
    similarity = LocalNcc(fixed, weight, window=9)
    torch.testing.assert_close(similarity(moving + 0.5).value, similarity(moving).value)


@pytest.mark.parametrize(
    ("shapes", "window", "message"),
    [
        (((1, 1, 8, 8), (1, 1, 8, 9)), 9, "local_ncc: fixed is .* differ"),
        (((8, 8, 8), (8, 8, 8)), 9, "local_ncc: shape is"),
        (((1, 1, 8, 8), (1, 1, 8, 8)), 4, "local_ncc: window is 4"),
    ],
)
def test_what_makes_no_sense_is_refused(shapes, window, message):
    with pytest.raises(ValueError, match=message):
        local_ncc(*(torch.zeros(shape) for shape in shapes), window)
