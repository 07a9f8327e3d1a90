"""Points through fields."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from vxmprep.morph.field import compose, integrate, sample, warp
from vxmprep.morph.inverse import invert
from vxmprep.morph.points import transform_points


@pytest.mark.parametrize("shape", [(15, 18, 13), (17, 21)])
def test_points_go_where_a_displacement_field_of_itk_takes_them(smooth_field, shape):
    dims = len(shape)
    field = smooth_field(0, shape, batch=2)
    points = np.random.default_rng(1).uniform(1, np.array(shape) - 2, (2, 30, dims))
    result = transform_points(torch.from_numpy(points).float(), field).numpy()
    for which in range(2):
        vectors = np.moveaxis(field[which].numpy().astype(float), 0, -1).swapaxes(0, dims - 1)
        image = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
        transform = sitk.DisplacementFieldTransform(image)
        expected = [transform.TransformPoint(point) for point in points[which]]
        np.testing.assert_allclose(result[which], expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(15, 18, 13), (17, 21)])
def test_the_warped_image_has_at_a_voxel_what_the_image_has_at_the_point_it_goes_to(
    smooth_field, shape
):
    image = torch.rand(2, 1, *shape, generator=torch.manual_seed(0))
    field = smooth_field(2, shape, batch=2)
    voxels = torch.from_numpy(
        np.random.default_rng(0).integers(3, np.array(shape) - 3, (2, 30, len(shape)))
    )
    points = transform_points(voxels.float(), field)
    expected = sample(image, points.movedim(2, 1))
    result = sample(warp(image, field), voxels.float().movedim(2, 1))
    torch.testing.assert_close(result, expected, atol=2e-5, rtol=0)


def test_a_feature_of_the_warped_image_goes_to_the_feature_of_the_image(smooth_field):
    shape, centre = (25, 27, 24), np.array([11.0, 14.0, 10.0])
    square = ((np.indices(shape) - centre[:, None, None, None]) ** 2).sum(axis=0)
    moving = torch.from_numpy(np.exp(-square / 4)).float()[None, None]
    field = integrate(smooth_field(2, shape, amplitude=2.5, sigma=6))
    warped = warp(moving, field)[0, 0].numpy()
    feature = np.array(ndimage.center_of_mass(warped**2))
    assert np.linalg.norm(feature - centre) > 1
    there = transform_points(torch.from_numpy(feature)[None, None], field)
    np.testing.assert_allclose(there[0, 0].numpy(), centre, atol=0.3)


def test_points_through_a_composition_go_through_its_inner_then_its_outer_map(smooth_field):
    inner, outer = smooth_field(3), smooth_field(4)
    voxels = torch.tensor([[[5.0, 6, 7], [8, 9, 4], [3, 12, 9]]])
    chained = transform_points(transform_points(voxels, inner), outer)
    torch.testing.assert_close(
        transform_points(voxels, compose(outer, inner)), chained, atol=1e-5, rtol=0
    )


def test_points_come_back_through_the_inverse(smooth_field):
    field = integrate(smooth_field(5, (20, 22), batch=2))
    points = 4 + 12 * torch.rand(2, 50, 2, generator=torch.manual_seed(0))
    there = transform_points(points, field)
    back = transform_points(there, invert(field).displacement)
    torch.testing.assert_close(back, points, atol=0.1, rtol=0)


def test_a_point_outside_the_grid_moves_as_the_nearest_voxel_of_the_edge():
    field = torch.zeros(1, 2, 6, 7)
    field[:, 0, -1] = 2.0
    points = torch.tensor([[[40.0, 3.0], [-40.0, 3.0]]])
    assert transform_points(points, field).tolist() == [[[42.0, 3.0], [-40.0, 3.0]]]


def test_no_points_stay_no_points():
    assert transform_points(torch.zeros(1, 0, 3), torch.zeros(1, 3, 4, 5, 6)).shape == (1, 0, 3)


def test_points_keep_their_precision(smooth_field):
    points = torch.full((1, 1, 3), 6.0, dtype=torch.float64)
    assert transform_points(points, smooth_field(6)).dtype == torch.float64


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.zeros(1, 3, 8), r"points has shape \(1, 3, 8\).*takes \(1, M, 3\)"),
        (torch.zeros(2, 8, 3), r"points has shape \(2, 8, 3\)"),
        (torch.zeros(1, 8, 3).int(), "points is torch.int32"),
    ],
)
def test_points_of_another_shape_or_type_are_refused(points, message):
    with pytest.raises(ValueError, match=f"^transform_points: {message}"):
        transform_points(points, torch.zeros(1, 3, 4, 5, 6))
