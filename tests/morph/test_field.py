"""Field algebra against SimpleITK, scipy, MONAI and the matrix exponential."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from vxmprep.morph.field import (
    compose,
    displaced,
    integrate,
    integrate_both,
    resize,
    sample,
    warp,
)

SHAPE = (15, 18, 13)
PLANE = (17, 21)


@pytest.mark.parametrize(("mode", "order"), [("linear", 1), ("nearest", 0)])
@pytest.mark.parametrize("shape", [SHAPE, PLANE])
def test_warp_samples_the_moving_image_where_scipy_does(smooth_field, shape, mode, order):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    field = smooth_field(1, shape)
    positions = displaced(field)[0].numpy()
    expected = ndimage.map_coordinates(image, positions, order=order, mode="grid-constant")
    result = warp(torch.from_numpy(image)[None, None], field, mode)
    np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=2e-5)


def test_warp_agrees_with_a_displacement_field_of_itk(smooth_field):
    image = np.random.default_rng(2).random(SHAPE).astype(np.float32)
    field = smooth_field(3)
    vectors = np.moveaxis(field[0].numpy().astype(float), 0, -1).transpose(2, 1, 0, 3)
    transform = sitk.DisplacementFieldTransform(
        sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    )
    moving = sitk.GetImageFromArray(np.ascontiguousarray(image.T))
    expected = sitk.GetArrayFromImage(sitk.Resample(moving, transform, sitk.sitkLinear, 0.0)).T
    result = warp(torch.from_numpy(image)[None, None], field)[0, 0].numpy()
    inside = (slice(2, -2),) * 3
    np.testing.assert_allclose(result[inside], expected[inside], atol=2e-5)


@pytest.mark.filterwarnings("ignore:monai.networks.blocks.Warp")
@pytest.mark.parametrize("shape", [SHAPE, PLANE])
def test_warp_and_integration_agree_with_monai(smooth_field, shape):
    blocks = pytest.importorskip("monai.networks.blocks")
    image = torch.rand(2, 3, *shape, generator=torch.manual_seed(0))
    # A constant adds motion across the border, where the two rules differ.
    velocity = smooth_field(14, shape, amplitude=3, batch=2) + 2
    theirs = blocks.Warp(padding_mode="zeros")
    torch.testing.assert_close(warp(image, velocity), theirs(image, velocity), atol=2e-5, rtol=0)
    for outside in ("zeros", "border"):
        expected = blocks.DVF2DDF(num_steps=5, padding_mode=outside)(velocity)
        result = integrate(velocity, steps=5, outside=outside)
        torch.testing.assert_close(result, expected, atol=5e-5, rtol=0)


def test_warp_is_zero_outside_the_moving_image():
    away = torch.full((1, 3, *SHAPE), 100.0)
    assert not warp(torch.ones(1, 1, *SHAPE), away).any()


@pytest.mark.parametrize(
    ("image", "field", "mode", "message"),
    [
        (torch.ones(1, 1, 4, 5), torch.zeros(1, 2, 4, 5), "cubic", "warp: mode is 'cubic'"),
        (
            torch.ones(1, 1, 4, 5),
            torch.zeros(1, 3, 4, 5),
            "linear",
            "warp: displacement has shape",
        ),
        (torch.ones(2, 1, 4, 5), torch.zeros(1, 2, 4, 5), "linear", "warp: image has shape"),
        (
            torch.ones(1, 1, 4, 5).int(),
            torch.zeros(1, 2, 4, 5),
            "linear",
            "warp: image is torch.i",
        ),
        (torch.ones(1, 1, 4, 5), torch.zeros(1, 2, 4, 5).int(), "linear", "is torch.int32; give"),
    ],
)
def test_warp_says_what_it_cannot_take(image, field, mode, message):
    with pytest.raises(ValueError, match=message):
        warp(image, field, mode)


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [SHAPE, PLANE])
def test_values_and_gradients_are_the_same_on_any_number_of_threads(smooth_field, shape, threads):
    start = torch.rand(2, 2, *shape, generator=torch.manual_seed(0))
    results = []
    for count in (1, 2, 7):
        threads(count)
        image, field = start.clone(), smooth_field(4, shape, batch=2)
        image.requires_grad_()
        field.requires_grad_()
        values = warp(image, field)
        values.square().sum().backward()
        results.append((values, image.grad, field.grad))
    for values, image_grad, field_grad in results[1:]:
        assert torch.equal(values, results[0][0])
        assert torch.equal(field_grad, results[0][2])
        torch.testing.assert_close(image_grad, results[0][1], atol=1e-5, rtol=1e-5)


def test_a_gradient_through_integration_is_the_finite_difference(smooth_field, threads):
    threads(2)
    # Shifted so that no position is on a voxel, where linear interpolation has a kink.
    velocity = (smooth_field(15, amplitude=0.4) + 1.3).double().requires_grad_()
    weight, direction = torch.rand(2, *velocity.shape, generator=torch.manual_seed(3)).double()
    (integrate(velocity, steps=2) * weight).sum().backward()
    with torch.no_grad():
        ahead, behind = (
            (integrate(velocity + step * direction, steps=2) * weight).sum()
            for step in (1e-6, -1e-6)
        )
    expected = (ahead - behind) / 2e-6
    torch.testing.assert_close((velocity.grad * direction).sum(), expected, rtol=1e-6, atol=0)


def test_a_batch_gives_what_its_members_give(smooth_field):
    for shape in (SHAPE, PLANE):
        image = torch.rand(3, 2, *shape, generator=torch.manual_seed(1))
        field, other = smooth_field(5, shape, batch=3), smooth_field(6, shape, batch=3)
        warped, composed, integrated = warp(image, field), compose(other, field), integrate(field)
        for which in range(3):
            one = slice(which, which + 1)
            assert torch.equal(warped[one], warp(image[one], field[one]))
            assert torch.equal(composed[one], compose(other[one], field[one]))
            assert torch.equal(integrated[one], integrate(field[one]))


def test_composition_of_affine_maps_is_the_product_of_their_matrices(affine_field):
    outer = np.eye(3) + 0.05 * np.random.default_rng(5).standard_normal((3, 3))
    inner = np.eye(3) + 0.05 * np.random.default_rng(6).standard_normal((3, 3))
    result = compose(affine_field(outer), affine_field(inner))
    inside = (..., *(slice(4, -4),) * 3)
    torch.testing.assert_close(
        result[inside], affine_field(outer @ inner)[inside], atol=2e-5, rtol=0
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([SHAPE, PLANE]))
def test_composition_with_the_identity_changes_nothing(smooth_field, seed, shape):
    field = smooth_field(seed, shape, batch=2)
    identity = torch.zeros_like(field)
    torch.testing.assert_close(compose(field, identity), field, atol=1e-5, rtol=0)
    torch.testing.assert_close(compose(identity, field), field, atol=1e-5, rtol=0)


def test_warping_by_a_composition_is_warping_by_its_outer_then_by_its_inner_map(smooth_field):
    ramp = displaced(torch.zeros(1, 3, *SHAPE))
    outer, inner = smooth_field(7), smooth_field(8)
    twice = warp(warp(ramp, outer), inner)
    torch.testing.assert_close(warp(ramp, compose(outer, inner)), twice, atol=1e-4, rtol=0)


def test_outside_its_grid_the_outer_field_keeps_its_edge_or_is_zero():
    shift = torch.full((1, 2, *PLANE), 30.0)
    assert (compose(shift, shift) == 60).all()
    assert (compose(shift, shift, outside="zeros") == 30).all()
    with pytest.raises(ValueError, match="compose: outside is 'reflect'"):
        compose(shift, shift, outside="reflect")


@pytest.mark.parametrize("time", [1.0, -1.0, 0.4])
@pytest.mark.parametrize("shape", [SHAPE, PLANE])
def test_integration_of_a_linear_velocity_is_the_matrix_exponential(affine_field, shape, time):
    dims = len(shape)
    rate = 0.1 * np.random.default_rng(9).standard_normal((dims, dims))
    result = integrate(affine_field(rate + np.eye(dims), shape), steps=7, time=time)
    inside = (..., *(slice(4, -4),) * dims)
    expected = affine_field(expm(time * rate), shape)
    assert expected[inside].abs().max() > 0.15
    torch.testing.assert_close(result[inside], expected[inside], atol=0.02, rtol=0)


@pytest.mark.parametrize("time", [1.0, -1.0, 1.7])
def test_integration_ends_where_the_trajectories_of_scipy_do(smooth_field, time):
    velocity = smooth_field(16, (22, 24, 20), amplitude=3, sigma=4)
    starts = np.random.default_rng(0).integers(5, 15, (40, 3))
    result = integrate(velocity, time=time)[0].numpy()
    components = velocity[0].numpy().astype(float)

    def rate(_, point):
        here = point.reshape(3, -1)
        moves = [ndimage.map_coordinates(c, here, order=1, mode="nearest") for c in components]
        return np.stack(moves).ravel()

    solved = solve_ivp(rate, (0, time), starts.T.ravel().astype(float), rtol=1e-6, atol=1e-6)
    moved = solved.y[:, -1].reshape(3, -1) - starts.T
    assert np.abs(moved).max() > 1.5
    np.testing.assert_allclose(result[:, *starts.T], moved, atol=0.15)


def test_integrals_over_two_times_compose_to_that_over_their_sum(smooth_field):
    velocity = smooth_field(17, (22, 24, 20), amplitude=3, sigma=4)
    assert velocity.abs().max() > 2
    parts = compose(integrate(velocity, time=0.7), integrate(velocity, time=0.3))
    torch.testing.assert_close(parts, integrate(velocity), atol=0.1, rtol=0)


def test_integration_in_no_steps_takes_the_velocity_as_the_displacement(smooth_field):
    velocity = smooth_field(10)
    assert torch.equal(integrate(velocity, steps=0), velocity)


def test_integration_refuses_a_negative_number_of_steps(smooth_field):
    with pytest.raises(ValueError, match="integrate: steps is -1"):
        integrate(smooth_field(10), steps=-1)


@pytest.mark.parametrize("shape", [SHAPE, PLANE])
def test_integrating_the_negated_velocity_gives_the_inverse(smooth_field, shape):
    forward, inverse = integrate_both(smooth_field(11, shape, batch=2))
    assert forward.norm(dim=1).max() > 1
    assert compose(forward, inverse).abs().max() < 0.1
    assert compose(inverse, forward).abs().max() < 0.1


@pytest.mark.parametrize("outside", ["border", "zeros"])
def test_both_directions_in_one_pass_are_those_of_two(smooth_field, outside):
    velocity = smooth_field(18, batch=2)
    forward, inverse = integrate_both(velocity, 6, time=0.8, outside=outside)
    assert torch.equal(forward, integrate(velocity, 6, time=0.8, outside=outside))
    assert torch.equal(inverse, integrate(-velocity, 6, time=0.8, outside=outside))


@pytest.mark.parametrize(("fine", "coarse"), [((21, 17, 13), (11, 9, 7)), ((21, 17), (31, 13))])
def test_resizing_an_affine_field_keeps_its_map(affine_field, fine, coarse):
    dims = len(fine)
    matrix = np.eye(dims) + 0.1 * np.random.default_rng(13).standard_normal((dims, dims))
    # Corners stay on corners: the map in the new voxels is the matrix seen through the scaling.
    scale = np.diag([(new - 1) / (old - 1) for new, old in zip(coarse, fine, strict=True)])
    expected = affine_field(scale @ matrix @ np.linalg.inv(scale), coarse)
    result = resize(affine_field(matrix, fine), coarse)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_resizing_refuses_an_axis_of_one_voxel():
    with pytest.raises(ValueError, match=r"resize: cannot carry a field from shape \(4, 5\)"):
        resize(torch.zeros(1, 2, 4, 5), (1, 5))


def test_sampling_at_points_and_on_a_grid_gives_the_same_values(smooth_field):
    image = torch.rand(2, 3, *SHAPE, generator=torch.manual_seed(2))
    positions = displaced(smooth_field(19, batch=2))
    for mode in ("linear", "nearest"):
        grid, points = sample(image, positions, mode), sample(image, positions.flatten(2), mode)
        assert torch.equal(grid.flatten(2), points)


def test_sampling_refuses_positions_of_another_batch():
    with pytest.raises(ValueError, match="sample: image has shape"):
        sample(torch.rand(2, 1, 4, 5), torch.rand(1, 2, 7))
