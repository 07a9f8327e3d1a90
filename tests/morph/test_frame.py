"""The frame of a network: images go in and fields come out where nibabel says they should."""

import nibabel as nb
import numpy as np
import pytest
import torch

from vxmprep.morph.field import warp
from vxmprep.morph.frame import FREESURFER_CROP, Frame

SHAPE = (18, 22, 20)


def bump(*centre: float) -> torch.Tensor:
    """A smooth ball at a voxel."""
    grids = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in SHAPE), indexing="ij")
    distance = sum((grid - c) ** 2 for grid, c in zip(grids, centre, strict=True))
    return torch.exp(-distance / 10)[None, None]


def test_axes_are_those_that_nibabel_would_give():
    image = torch.rand(1, 1, *SHAPE)
    found = Frame(axes="LIA").enter(image)[0, 0].numpy()
    ras = nb.Nifti1Image(image[0, 0].numpy(), np.eye(4))
    turn = nb.orientations.ornt_transform(
        nb.orientations.axcodes2ornt("RAS"), nb.orientations.axcodes2ornt("LIA")
    )
    np.testing.assert_array_equal(found, np.asarray(ras.as_reoriented(turn).dataobj))


def test_intensities_are_scaled_and_the_centre_is_where_it_belongs():
    image = torch.zeros(1, 1, 161, 221, 185)
    image[..., 80, 110, 92] = 1
    found = FREESURFER_CROP.enter(image)
    assert found.shape == (1, 1, 160, 192, 224)
    assert float(found.max()) == pytest.approx(112 / 255)
    where = np.array(np.unravel_index(int(found.argmax()), found.shape)[2:])
    assert np.abs(where - FREESURFER_CROP.centre).max() <= 0.5


@pytest.mark.parametrize(
    "frame",
    [
        Frame(),
        Frame(axes="LIA"),
        Frame(axes="PSR"),
        Frame(axes="LIA", shape=(24, 18, 32), centre=(11.0, 9.0, 15.5)),
        Frame(spacing=2),
        Frame(axes="LIA", spacing=2, shape=(12, 12, 12)),
    ],
    ids=str,
)
def test_field_brings_the_moving_image_to_the_fixed_one_in_both_frames(frame):
    moving, fixed = bump(10, 9, 9), bump(8, 11, 10)
    small_moving, small_fixed = frame.enter(moving), frame.enter(fixed)

    def centre(volume):
        grids = np.indices(volume.shape[2:])
        weight = volume[0, 0].numpy()
        return (grids * weight).sum(axis=(1, 2, 3)) / weight.sum()

    shift = torch.from_numpy(np.round(centre(small_moving) - centre(small_fixed), 3)).float()
    field = shift.view(1, 3, 1, 1, 1).expand(1, 3, *small_fixed.shape[2:])
    found = frame.leave(field, SHAPE)
    assert found.shape == (1, 3, *SHAPE)
    assert float((warp(small_moving, field) - small_fixed).abs().max()) < 0.06
    assert float((warp(moving, found) - fixed).abs().max()) < 0.06
    assert float((moving - fixed).abs().max()) > 0.4


def test_a_field_that_varies_stays_where_it_was():
    displacement = torch.rand(1, 3, *SHAPE)
    frame = Frame(axes="LIA", shape=(20, 22, 24))
    inside = torch.stack([-frame.enter(displacement[:, i : i + 1])[0, 0] for i in (0, 2, 1)])
    inside[2] *= -1  # along A, the third axis, which is not flipped
    torch.testing.assert_close(frame.leave(inside[None], SHAPE), displacement)


def test_a_grid_that_is_too_small_repeats_the_field_at_its_edge():
    frame = Frame(shape=(10, 10, 10))
    field = torch.rand(1, 3, 10, 10, 10)
    found = frame.leave(field, SHAPE)
    torch.testing.assert_close(found[..., 4:14, 6:16, 5:15], field)
    torch.testing.assert_close(found[..., 0, 6:16, 5:15], field[..., 0, :, :])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": "RAA"}, "axes is 'RAA'"),
        ({"axes": "RASS"}, "axes is 'RASS'"),
        ({"spacing": 4}, "spacing is 4"),
        ({"shape": (4, 4)}, "shape is"),
        ({"centre": (4.0, 4.0, 4.0)}, "centre is"),
    ],
)
def test_what_describes_no_grid_is_refused(options, message):
    with pytest.raises(ValueError, match=f"Frame: {message}"):
        Frame(**options)
