"""Inversion of fields, against SimpleITK and by coming back."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vxmprep.morph.inverse as module
from vxmprep.morph.field import compose, integrate, integrate_both, jacobian_determinant, sample
from vxmprep.morph.inverse import invert, invert_between

SHAPE = (26, 30, 28)
PLANE = (31, 26)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([SHAPE, PLANE]))
def test_fields_and_their_inverses_compose_to_the_identity(smooth_field, seed, shape):
    field = integrate(smooth_field(seed, shape, amplitude=3, batch=2))
    inverse = invert(field)
    assert compose(field, inverse.displacement).norm(dim=1).max() < 0.05
    # This way round the inverse is interpolated between its voxels.
    assert compose(inverse.displacement, field).norm(dim=1).mean() < 0.05
    assert inverse.residual.shape == (2, 1, *shape)
    assert inverse.largest < 0.05


@pytest.mark.parametrize("shape", [SHAPE, PLANE])
@pytest.mark.parametrize("method", [invert, invert_between])
def test_points_solved_in_parts_are_those_solved_at_once(smooth_field, shape, method, monkeypatch):
    field = smooth_field(3, shape, amplitude=3)
    at_once = method(field)
    monkeypatch.setattr(module, "POINTS", 401)
    in_parts = method(field)
    assert torch.equal(in_parts.displacement, at_once.displacement)
    assert torch.equal(in_parts.residual, at_once.residual)


@pytest.mark.parametrize("shape", [SHAPE, PLANE])
@pytest.mark.parametrize("method", [invert, invert_between])
def test_the_inverses_of_a_batch_are_those_of_its_members(smooth_field, shape, method):
    fields = integrate(smooth_field(4, shape, amplitude=3, batch=2))
    together = method(fields)
    for which in range(2):
        alone = method(fields[which : which + 1])
        torch.testing.assert_close(
            together.displacement[which], alone.displacement[0], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(together.residual[which], alone.residual[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [SHAPE, PLANE])
def test_an_inverse_is_that_of_itk(smooth_field, shape):
    field, dims = integrate(smooth_field(5, shape, amplitude=2, sigma=4)), len(shape)
    vectors = np.moveaxis(field[0].numpy().astype(float), 0, -1).swapaxes(0, dims - 1)
    image = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    theirs = sitk.InvertDisplacementField(
        image,
        maximumNumberOfIterations=100,
        meanErrorToleranceThreshold=1e-4,
        maxErrorToleranceThreshold=1e-3,
        enforceBoundaryCondition=False,
    )
    expected = np.moveaxis(sitk.GetArrayFromImage(theirs).swapaxes(0, dims - 1), -1, 0)
    result = invert(field).displacement[0].numpy()
    assert np.abs(expected).max() > 1.5
    np.testing.assert_allclose(result, expected, atol=0.03)


@pytest.mark.parametrize("shape", [(19, 21, 17), PLANE])
def test_an_affine_map_is_inverted_in_one_newton_step(affine_field, shape):
    dims = len(shape)
    matrix = np.eye(dims) + 0.3 * np.random.default_rng(3).uniform(-1, 1, (dims, dims))
    expected = affine_field(np.linalg.inv(matrix), shape)
    middle = (..., *(slice(size // 2 - 3, size // 2 + 4) for size in shape))
    result = invert(affine_field(matrix, shape), iterations=2, tolerance=0).displacement
    torch.testing.assert_close(result[middle], expected[middle], atol=1e-4, rtol=0)


def test_an_inverse_is_the_integral_of_the_negated_velocity(smooth_field):
    forward, backward = integrate_both(smooth_field(6, SHAPE, amplitude=3, sigma=4))
    assert backward.abs().max() > 2
    torch.testing.assert_close(invert(forward).displacement, backward, atol=0.2, rtol=0)


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


@pytest.mark.parametrize("shape", [SHAPE, PLANE])
def test_an_inverse_fitted_between_voxels_returns_points_closer_than_an_exact_one(
    smooth_field, shape
):
    dims = len(shape)
    field = integrate(smooth_field(2, shape, amplitude=4))
    points = 6 + 14 * torch.rand(1, dims, 500, generator=torch.manual_seed(0))
    errors = []
    for inverse in (invert(field), invert_between(field)):
        there = points + sample(field, points)
        back = there + sample(inverse.displacement, there)
        errors.append(float((back - points).norm(dim=1).mean()))
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("method", [invert, invert_between])
def test_inversion_refuses_what_is_no_field(method):
    with pytest.raises(ValueError, match=rf"^{method.__name__}: displacement has shape"):
        method(torch.zeros(1, 3, 8, 9))
