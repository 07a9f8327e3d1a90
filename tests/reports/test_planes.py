"""Slices that are shown: inside the brain, and the right way round whatever the array's axes."""

import nibabel as nb
import numpy as np
import pytest

from vxmprep.reports.planes import SLICES, Mosaic

SIZE = 40


def brain(codes: str = "RAS") -> tuple[nb.Nifti1Image, nb.Nifti1Image]:
    """A mask of 20 x 24 x 16 mm, and an image that is 100 at its left, 10 at its top, 1 in front.

    In any orientation of the array.
    """
    inside = np.zeros((SIZE,) * 3, np.uint8)
    inside[10:30, 8:32, 12:28] = 1
    x, y, z = np.indices(inside.shape)
    image = (100.0 * (x < 20) + 10.0 * (z >= 20) + 1.0 * (y >= 20)) * inside
    affine = nb.affines.from_matvec(np.eye(3), (-20, -20, -20))
    ornaments = nb.orientations.axcodes2ornt(codes)
    turned = [nb.Nifti1Image(data.astype(np.float32), affine) for data in (image, inside)]
    start = nb.orientations.io_orientation(affine)
    way = nb.orientations.ornt_transform(start, ornaments)
    return tuple(one.as_reoriented(way) for one in turned)


@pytest.mark.parametrize("codes", ["RAS", "LIA", "PSR"])
def test_left_is_left_up_is_up_and_front_is_right_whatever_the_axes_of_the_array(codes):
    image, mask = brain(codes)
    assert nb.aff2axcodes(image.affine) == tuple(codes)
    sagittal, coronal, axial = Mosaic.of(mask).sample(image, nearest=True)
    hundreds = coronal[3] // 100
    columns = np.nonzero(hundreds.any(axis=0))[0]
    assert columns.max() < coronal.shape[2] / 2, "left is in the left half"
    tens = coronal[3] // 10 % 10
    assert np.nonzero(tens.any(axis=1))[0].max() < coronal.shape[1] / 2, "up is above"
    assert np.nonzero((axial[3] % 10).any(axis=1))[0].max() < axial.shape[1] / 2, "front is above"
    assert np.nonzero((sagittal[3] % 10).any(axis=0))[0].min() > sagittal.shape[2] / 2 - 1


def test_every_slice_cuts_the_brain_and_says_where_it_lies():
    image, mask = brain()
    mosaic = Mosaic.of(mask)
    for plane, stack in zip(mosaic.planes, mosaic.sample(mask, nearest=True), strict=True):
        assert len(stack) == SLICES == len(plane.places)
        assert all(tile.any() for tile in stack)
        assert np.allclose(np.diff(plane.places, 2), 0)
    sagittal = mosaic.planes[0]
    # the brain lies between -10 and 9 mm; a slice at x holds what the image holds there
    assert sagittal.places[0] > -10
    assert sagittal.places[-1] < 9
    left = [tile.max() >= 100 for tile in mosaic.sample(image, nearest=True)[0]]
    assert left == [place < -0.5 for place in sagittal.places]


def test_slices_are_laid_out_without_overlap_and_sampled_where_they_lie():
    _, mask = brain()
    mosaic = Mosaic.of(mask, slices=3)
    drawn = np.zeros(mosaic.shape, int)
    for plane, _, top, left in mosaic.corners():
        rows, columns = plane.tiles(np.empty(plane.grid.shape)).shape[1:]
        drawn[top : top + rows, left : left + columns] += 1
    assert drawn.max() == 1
    picture = mosaic.picture(mosaic.sample(mask, nearest=True), fill=-1)
    assert ((picture == -1) == (drawn == 0)).all()
    areas = {"sagittal": 24 * 16, "coronal": 20 * 16, "axial": 20 * 24}
    assert (picture == 1).sum() == 3 * sum(areas.values())


def test_a_mask_without_a_voxel_is_refused():
    _, mask = brain()
    with pytest.raises(ValueError, match="mask is empty"):
        Mosaic.of(nb.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine))
