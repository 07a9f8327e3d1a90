"""Derivatives of fields against SimpleITK, matrices and finite differences."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from vxmprep.morph.field import integrate_both, warp
from vxmprep.morph.jacobian import derivative, jacobian_determinant, log_jacobian_determinant


def itk_determinant(field: torch.Tensor) -> np.ndarray:
    """Determinants of one field by ITK."""
    vectors = np.moveaxis(field.numpy(), 0, -1)
    vectors = np.ascontiguousarray(vectors.swapaxes(0, len(field) - 1))
    image = sitk.GetImageFromArray(vectors, isVector=True)
    return sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image)).T


@pytest.mark.parametrize("shape", [(15, 18, 13), (17, 21)])
def test_determinants_of_a_batch_are_those_of_itk(smooth_field, shape):
    fields = smooth_field(12, shape, amplitude=3, batch=2)
    result = jacobian_determinant(fields).numpy()
    inside = (slice(1, -1),) * len(shape)
    for determinant, field in zip(result, fields, strict=True):
        expected = itk_determinant(field)
        np.testing.assert_allclose(determinant[inside], expected[inside], atol=1e-5)


def test_determinant_of_an_affine_map_in_the_plane_is_its_matrix_determinant(affine_field):
    matrix = np.array([[1.1, 0.2], [-0.1, 0.8]])
    result = jacobian_determinant(affine_field(matrix, (9, 11)))
    np.testing.assert_allclose(result.numpy(), np.linalg.det(matrix), atol=1e-5)


def test_logarithms_of_a_map_and_of_its_inverse_at_the_same_point_add_up_to_zero(smooth_field):
    forward, inverse = integrate_both(smooth_field(0, (25, 27, 29), amplitude=2, sigma=4))
    there = log_jacobian_determinant(forward)
    back = warp(log_jacobian_determinant(inverse)[:, None], forward)[:, 0]
    inside = (..., *(slice(2, -2),) * 3)
    assert there[inside].abs().max() > 0.3
    assert (there + back)[inside].abs().max() < 0.1


def test_logarithm_is_not_a_number_exactly_where_the_map_folds():
    field = torch.zeros(1, 2, 9, 9)
    field[:, 0, 4:] = -3.0
    determinant = jacobian_determinant(field)
    assert (determinant < 0).any()
    result = log_jacobian_determinant(field)
    assert torch.equal(result.isnan(), determinant <= 0)
    assert not result.isinf().any()


def test_logarithm_of_zero_is_not_a_number_either():
    field = torch.zeros(1, 2, 9, 9)
    field[:, 0] = -torch.arange(9.0)[:, None]
    assert (jacobian_determinant(field) == 0).all()
    assert log_jacobian_determinant(field).isnan().all()


def test_a_fold_spoils_no_gradient():
    field = torch.zeros(1, 2, 9, 9)
    field[:, 0, 4:] = -3.0
    field.requires_grad_()
    logarithm = log_jacobian_determinant(field)
    logarithm.nan_to_num().square().sum().backward()
    assert logarithm.isnan().any()
    assert torch.isfinite(field.grad).all()


def test_a_determinant_has_the_gradient_of_its_finite_differences(smooth_field):
    field = smooth_field(1, (5, 4, 6)).double().requires_grad_()
    assert torch.autograd.gradcheck(jacobian_determinant, field, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_derivative_is_that_of_numpy_whether_or_not_a_gradient_is_kept(axis):
    volume = torch.rand(2, 5, 6, generator=torch.manual_seed(0))
    expected = np.gradient(volume.numpy(), axis=axis)
    for keep in (False, True):
        result = derivative(volume.clone().requires_grad_(keep), axis)
        np.testing.assert_allclose(result.detach().numpy(), expected, atol=1e-6)


def test_a_derivative_needs_two_voxels():
    with pytest.raises(ValueError, match="derivative: axis -2 has 1 voxel"):
        jacobian_determinant(torch.zeros(1, 2, 1, 7))


def test_a_determinant_needs_a_field():
    with pytest.raises(ValueError, match=r"jacobian_determinant: displacement has shape \(3, 4"):
        jacobian_determinant(torch.zeros(3, 4, 5, 6))
