"""Field algebra against SimpleITK, scipy and the matrix exponential."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.linalg import expm

from vxmprep.morph.field import (
    compose,
    displaced,
    integrate,
    jacobian_determinant,
    resize,
    warp,
)

SHAPE = (15, 18, 13)


def smooth_field(
    seed: int, amplitude: float = 1.5, shape: tuple[int, ...] = SHAPE
) -> torch.Tensor:
    """A random field whose gradient stays well below 1, zero at the border."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((len(shape), *shape))
    smooth = np.stack([ndimage.gaussian_filter(component, 3) for component in noise])
    window = np.ones(shape)
    for axis, size in enumerate(shape):
        window *= np.hanning(size).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    smooth *= window
    return torch.from_numpy(amplitude * smooth / np.abs(smooth).max()).float()[None]


def affine_field(matrix: np.ndarray, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """Displacement (matrix - I)(p - centre)."""
    centre = (np.array(shape) - 1) / 2
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) - centre
    values = grid @ (matrix - np.eye(len(shape))).T
    return torch.from_numpy(np.moveaxis(values, -1, 0)).float()[None]


@pytest.mark.parametrize(("mode", "order"), [("linear", 1), ("nearest", 0)])
def test_warp_samples_the_moving_image_where_scipy_does(mode, order):
    image = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    field = smooth_field(1)
    positions = displaced(field)[0].numpy()
    expected = ndimage.map_coordinates(image, positions, order=order, mode="grid-constant")
    result = warp(torch.from_numpy(image)[None, None], field, mode)
    np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=2e-5)


def test_warp_agrees_with_a_displacement_field_of_itk():
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


def test_warp_is_zero_outside_the_moving_image():
    away = torch.full((1, 3, *SHAPE), 100.0)
    assert not warp(torch.ones(1, 1, *SHAPE), away).any()


def test_warp_refuses_an_unknown_mode():
    with pytest.raises(ValueError, match="warp: mode is 'cubic'"):
        warp(torch.ones(1, 1, *SHAPE), torch.zeros(1, 3, *SHAPE), "cubic")


def test_warp_gives_the_same_bits_with_one_thread_as_with_several():
    image, field = torch.rand(1, 1, *SHAPE), smooth_field(4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = warp(image, field)
    torch.set_num_threads(threads)
    assert torch.equal(alone, warp(image, field))


def test_composition_of_affine_maps_is_the_product_of_their_matrices():
    outer = np.eye(3) + 0.05 * np.random.default_rng(5).standard_normal((3, 3))
    inner = np.eye(3) + 0.05 * np.random.default_rng(6).standard_normal((3, 3))
    result = compose(affine_field(outer), affine_field(inner))
    inside = (..., *(slice(4, -4),) * 3)
    torch.testing.assert_close(
        result[inside], affine_field(outer @ inner)[inside], atol=2e-5, rtol=0
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_composition_with_the_identity_changes_nothing(seed):
    field, identity = smooth_field(seed), torch.zeros(1, 3, *SHAPE)
    torch.testing.assert_close(compose(field, identity), field, atol=1e-5, rtol=0)
    torch.testing.assert_close(compose(identity, field), field, atol=1e-5, rtol=0)


def test_warping_by_a_composition_is_warping_by_its_outer_then_by_its_inner_map():
    ramp = displaced(torch.zeros(1, 3, *SHAPE))
    outer, inner = smooth_field(7), smooth_field(8)
    twice = warp(warp(ramp, outer), inner)
    torch.testing.assert_close(warp(ramp, compose(outer, inner)), twice, atol=1e-4, rtol=0)


def test_integration_of_a_linear_velocity_is_the_matrix_exponential():
    rate = 0.1 * np.random.default_rng(9).standard_normal((3, 3))
    result = integrate(affine_field(rate + np.eye(3)), steps=7)
    inside = (..., *(slice(4, -4),) * 3)
    torch.testing.assert_close(result[inside], affine_field(expm(rate))[inside], atol=0.02, rtol=0)


def test_integration_in_no_steps_takes_the_velocity_as_the_displacement():
    velocity = smooth_field(10)
    assert torch.equal(integrate(velocity, steps=0), velocity)


def test_integrating_the_negated_velocity_gives_the_inverse():
    velocity = smooth_field(11)
    there_and_back = compose(integrate(velocity), integrate(-velocity))
    assert there_and_back.abs().max() < 0.1


def test_jacobian_determinant_is_that_of_itk():
    field = smooth_field(12, amplitude=3)
    vectors = np.moveaxis(field[0].numpy(), 0, -1).transpose(2, 1, 0, 3)
    image = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    expected = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image)).T
    inside = (slice(1, -1),) * 3
    np.testing.assert_allclose(
        jacobian_determinant(field)[0].numpy()[inside], expected[inside], atol=1e-5
    )


def test_jacobian_determinant_of_an_affine_map_in_the_plane_is_its_matrix_determinant():
    matrix = np.array([[1.1, 0.2], [-0.1, 0.8]])
    result = jacobian_determinant(affine_field(matrix, (9, 11)))
    np.testing.assert_allclose(result.numpy(), np.linalg.det(matrix), atol=1e-5)


def test_resizing_an_affine_field_keeps_its_map():
    matrix = np.eye(3) + 0.1 * np.random.default_rng(13).standard_normal((3, 3))
    fine, coarse = (21, 17, 13), (11, 9, 7)
    half = resize(affine_field(matrix, fine), coarse)
    torch.testing.assert_close(half, affine_field(matrix, coarse), atol=1e-5, rtol=0)
