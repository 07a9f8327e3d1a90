"""Squared differences, smoothness and overlap: closed forms, MONAI, autograd, limits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vxmprep.morph import blocks
from vxmprep.morph.losses import bending_energy, gradient_penalty, mse, soft_dice

SHAPES = [(2, 3, 9, 7, 8), (1, 2, 12, 11)]


@pytest.fixture(params=[None, 150], ids=["one block", "many blocks"])
def cache(request, monkeypatch):
    """Blocks that hold all of a test's small volumes, or a few planes of one."""
    if request.param:
        monkeypatch.setitem(blocks.CACHED_VALUES, "cpu", request.param)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.manual_seed(seed))


def grid(*shape: int) -> torch.Tensor:
    """Coordinates of the voxels, ``(D, ...)``."""
    axes = [torch.arange(size, dtype=torch.float32) for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def assert_same_with_gradients(ours, theirs, *inputs: torch.Tensor) -> None:
    """Compare two functions of the same tensors, and their derivatives by all of them."""
    results = []
    for function in (ours, theirs):
        leaves = [volume.clone().requires_grad_() for volume in inputs]
        value = function(*leaves)
        results.append((value, *torch.autograd.grad(2 * value, leaves)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)


def test_mse_is_the_mean_of_squared_differences():
    fixed, moving = random(2, 1, 5, 6, 7), random(2, 1, 5, 6, 7, seed=1)
    expected = np.mean((fixed.numpy().astype(float) - moving.numpy()) ** 2)
    assert float(mse(fixed, moving)) == pytest.approx(expected, rel=1e-5)


def test_penalty_of_a_linear_field_is_the_mean_of_its_squared_slopes():
    slopes = torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.5, 0.0], [1.0, 0.0, 0.4]])
    field = torch.einsum("ij,jxyz->ixyz", slopes, grid(5, 6, 7))[None]
    assert float(gradient_penalty(field)) == pytest.approx(float(slopes.square().mean()), rel=1e-4)
    assert float(gradient_penalty(field, "l1")) == pytest.approx(float(slopes.mean()), rel=1e-4)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("shape", SHAPES)
def test_penalty_and_its_gradient_are_those_of_autograd_through_differences(shape, norm):
    def reference(field):
        steps = [field.diff(dim=axis) for axis in range(2, field.ndim)]
        return sum((s.abs() if norm == "l1" else s**2).mean() for s in steps) / len(steps)

    field = random(*shape)
    assert_same_with_gradients(lambda volume: gradient_penalty(volume, norm), reference, field)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("shape", SHAPES)
def test_bending_energy_and_its_gradient_are_those_of_autograd_through_differences(shape):
    def reference(field):
        total = 0
        for one in range(2, field.ndim):
            for other in range(2, field.ndim):  # mixed terms come twice
                total = total + field.diff(dim=one).diff(dim=other).square().mean()
        return total

    assert_same_with_gradients(bending_energy, reference, random(*shape))


def test_bending_energy_of_a_quadratic_field_is_that_of_its_second_derivatives():
    x, y, z = grid(7, 8, 9)
    field = torch.stack([0.1 * x * x, 0.2 * x * y, 0.3 * y * z + z])[None]
    expected = (0.2**2 + 2 * 0.2**2 + 2 * 0.3**2) / 3
    assert float(bending_energy(field)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_bending_energy_of_a_quadratic_field_is_that_of_monai():
    losses = pytest.importorskip("monai.losses")
    coefficients = 0.1 * random(3, 3, 3)
    where = grid(8, 9, 10)
    field = torch.einsum("ijk,jxyz,kxyz->ixyz", coefficients, where, where)[None]
    expected = float(losses.BendingEnergyLoss()(field))
    assert float(bending_energy(field)) == pytest.approx(expected, rel=1e-3)


def test_an_affine_field_bends_nothing():
    field = torch.einsum("ij,jxyz->ixyz", random(3, 3), grid(6, 7, 8))[None]
    assert float(bending_energy(field)) < 1e-10


@pytest.mark.parametrize("energy", [gradient_penalty, bending_energy])
@pytest.mark.parametrize("shape", [(1, 3, 1, 5, 2), (1, 2, 1, 1)])
def test_an_axis_of_one_voxel_has_no_differences(energy, shape):
    field = random(*shape).requires_grad_()
    value = energy(field)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(field.grad).all()


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("shape", [(2, 4, 6, 7, 8), (3, 2, 9, 10)])
def test_dice_and_its_gradients_are_those_of_monai(shape):
    losses = pytest.importorskip("monai.losses")
    reference = losses.DiceLoss(smooth_nr=0, smooth_dr=1e-12)
    assert_same_with_gradients(
        soft_dice,
        lambda fixed, moving: 1 - reference(moving, fixed),
        random(*shape),
        random(*shape, seed=1),
    )


def one_hot(labels: list[int]) -> torch.Tensor:
    """Maps ``(1, 4, 2, n / 2)`` of labels 0 to 3."""
    image = torch.tensor(labels).reshape(1, 2, -1)
    return torch.stack([image == label for label in range(4)], dim=1)


def test_dice_of_label_maps_is_twice_the_intersection_over_the_sizes():
    fixed, moving = one_hot([0, 0, 1, 1, 2, 2, 3, 3]), one_hot([0, 0, 1, 2, 2, 2, 0, 0])
    expected = np.mean([4 / 6, 2 / 3, 4 / 5, 0])
    assert float(soft_dice(fixed, moving)) == pytest.approx(expected, rel=1e-6)


def test_a_structure_in_neither_map_counts_for_nothing():
    fixed, moving = one_hot([0, 0, 1, 1, 2, 2, 2, 2]), one_hot([0, 0, 1, 1, 2, 2, 1, 1])
    expected = np.mean([1, 4 / 6, 4 / 6])
    assert float(soft_dice(fixed, moving)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_structures_that_are_not_known_are_left_out(dtype):
    fixed, moving = random(3, 4, 5, 6), random(3, 4, 5, 6, seed=1)
    known = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1]]).to(dtype)
    pairs = [(n, k) for n in range(3) for k in range(4) if known[n, k]]
    parts = [
        soft_dice(fixed[n : n + 1, k : k + 1], moving[n : n + 1, k : k + 1]) for n, k in pairs
    ]
    result = soft_dice(fixed, moving.requires_grad_(), known)
    torch.testing.assert_close(result.detach(), torch.stack(parts).mean())
    result.backward()
    moved = moving.grad.abs().sum(dim=(2, 3)) > 0
    assert torch.equal(moved, known > 0)


@pytest.mark.parametrize("weight", [None, torch.zeros(2, 3)])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0])
def test_dice_is_finite_with_finite_gradients_where_nothing_counts_or_hardly_anything(
    scale, weight
):
    fixed = scale * random(2, 3, 4, 5)
    moving = (scale * random(2, 3, 4, 5, seed=1)).requires_grad_()
    value = soft_dice(fixed, moving, weight)
    value.backward()
    assert 0 <= value.item() <= 1
    assert torch.isfinite(moving.grad).all()
    if weight is not None or scale == 0:
        assert value == 0
        assert (moving.grad == 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(2, 3, 4, 5), (1, 2, 3, 4, 5)]))
def test_dice_is_symmetric_and_that_of_a_map_with_itself_is_one(seed, shape):
    fixed = (random(*shape, seed=seed) > 0.3).float()
    moving = random(*shape, seed=seed + 1)
    assert soft_dice(fixed, moving) == soft_dice(moving, fixed)
    assert float(soft_dice(fixed, fixed)) == pytest.approx(1)


@pytest.mark.parametrize("loss", [mse, soft_dice])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pairs_in_half_precision_are_computed_in_single_precision(loss, dtype):
    fixed, moving = random(1, 2, 8, 8, 8).to(dtype), random(1, 2, 8, 8, 8, seed=1).to(dtype)
    moving.requires_grad_()
    value = loss(fixed, moving)
    value.backward()
    assert value.dtype == torch.float32
    assert value == loss(fixed.float(), moving.float())
    assert moving.grad.dtype == dtype


@pytest.mark.parametrize("loss", [gradient_penalty, bending_energy])
def test_fields_in_half_precision_are_computed_in_single_precision(loss):
    field = random(1, 3, 6, 6, 6).bfloat16().requires_grad_()
    value = loss(field)
    value.backward()
    assert value.dtype == torch.float32
    assert value == loss(field.float())
    assert field.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("loss", [mse, soft_dice])
def test_pairs_of_different_shapes_are_refused(loss):
    with pytest.raises(ValueError, match=rf"^{loss.__name__}: fixed is \(1, 1, 4, 4\)"):
        loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5))


@pytest.mark.parametrize("loss", [gradient_penalty, bending_energy])
def test_what_is_no_field_is_refused(loss):
    with pytest.raises(ValueError, match=rf"^{loss.__name__}: shape is \(3, 4, 4\)"):
        loss(torch.zeros(3, 4, 4))


def test_a_norm_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match="gradient_penalty: norm is 'l3'"):
        gradient_penalty(torch.zeros(1, 3, 4, 4, 4), "l3")


def test_weights_of_another_shape_are_refused():
    maps = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"soft_dice: weight is \(3,\)"):
        soft_dice(maps, maps, torch.ones(3))
