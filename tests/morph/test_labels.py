"""Label maps through fields, against indicator images warped one by one."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from vxmprep.morph import labels as module
from vxmprep.morph.field import sample, warp
from vxmprep.morph.labels import warp_labels

VALUES = np.array([0, 2, 3, 17, 41, 1035, 14175])
SHAPES = [(21, 24, 19), (33, 37)]


def segmentation(seed: int, shape: tuple[int, ...], batch: int = 1) -> torch.Tensor:
    """Blobs of labels, background among them, that also touch the border."""
    noise = np.random.default_rng(seed).standard_normal((batch, len(VALUES), *shape))
    smooth = ndimage.gaussian_filter(noise, [0, 0, *[2.5] * len(shape)])
    return torch.from_numpy(VALUES[smooth.argmax(axis=1)][:, None])


def naive(labels: torch.Tensor, field: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Arg max of warped indicators, and by how much the best beats the second."""
    values = torch.from_numpy(VALUES).view(1, -1, *[1] * (labels.ndim - 2))
    weights = warp((labels == values).double(), field.double())
    weights[:, 0] += 1 - weights.sum(dim=1)  # outside is background
    best = weights.topk(2, dim=1).values
    return values.flatten()[weights.argmax(dim=1, keepdim=True)], (best[:, :1] - best[:, 1:])


@example(0, (21, 24, 19), 0.5)
@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SHAPES), st.floats(-6, 6))
def test_labels_are_the_arg_max_of_warped_indicators(smooth_field, seed, shape, shift):
    labels = segmentation(seed, shape, batch=2)
    field = smooth_field(seed, shape, amplitude=3, batch=2) + shift
    expected, margin = naive(labels, field)
    clear = margin > 1e-4
    assert clear.double().mean() > 0.9  # half a voxel makes ties where the field is even
    assert torch.equal(warp_labels(labels, field)[clear], expected[clear])


def test_chunks_leave_no_seam(smooth_field, monkeypatch):
    labels, field = segmentation(1, SHAPES[0]), smooth_field(2, SHAPES[0])
    whole = warp_labels(labels, field)
    monkeypatch.setattr(module, "CHUNK", 1000)
    assert torch.equal(warp_labels(labels, field), whole)


def test_among_equal_weights_the_smallest_label_wins():
    labels = torch.tensor([[[[7, 3, 5, 5], [7, 3, 5, 5]]]])
    half = torch.zeros(1, 2, 2, 4)
    half[:, 1] = 0.5
    # The last position lies half way to the background beyond the image.
    assert warp_labels(labels, half).tolist() == [[[[3, 3, 5, 0], [3, 3, 5, 0]]]]


def test_many_corners_of_one_label_beat_the_heaviest_corner():
    labels = torch.tensor([[[[9, 4], [4, 4]]]])
    third = torch.full((1, 2, 2, 2), 0.35)
    assert warp_labels(labels, third)[0, 0, 0, 0] == 4
    nearest = warp(labels.float(), third, "nearest")[0, 0, 0, 0]
    assert nearest == 9


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int16, torch.uint16, torch.int64, torch.bool]
)
def test_the_identity_keeps_labels_and_their_type(dtype):
    labels = segmentation(3, SHAPES[0]).to(dtype)
    result = warp_labels(labels, torch.zeros(1, 3, *SHAPES[0]))
    assert result.dtype == dtype
    assert torch.equal(result.long(), labels.long())


def test_negative_and_large_labels_move_too():
    labels = torch.tensor([[[[-3, -3], [2**40, 2**40]]]])
    down = torch.zeros(1, 2, 2, 2)
    down[:, 0] = 0.9
    assert warp_labels(labels, down).tolist() == [[[[2**40, 2**40], [0, 0]]]]


def test_outside_the_image_and_where_the_field_is_not_a_number_is_background():
    labels = torch.full((1, 1, 5, 6), 4)
    field = torch.zeros(1, 2, 5, 6)
    field[..., 0, :], field[..., 2, :], field[..., 4, :] = 1e9, torch.nan, -torch.inf
    assert warp_labels(labels, field)[0, 0, :, 0].tolist() == [0, 4, 0, 4, 0]


def test_labels_go_to_the_grid_of_the_field():
    labels = segmentation(4, (33, 37))
    window = torch.zeros(1, 2, 5, 6)
    window += torch.tensor([10.0, 20.0]).view(1, 2, 1, 1)
    assert torch.equal(warp_labels(labels, window), labels[..., 10:15, 20:26])


def test_labels_move_with_the_image(smooth_field):
    labels, field = segmentation(5, SHAPES[0]), smooth_field(6, SHAPES[0], amplitude=3)
    mask = warp_labels(labels == 17, field)
    share = warp((labels == 17).float(), field)
    assert torch.equal(mask, share > 0.5)
    assert not torch.equal(mask, labels == 17)
    assert sample(share, torch.zeros(1, 3, 1)).shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(1, 1, 5, 6), "labels is torch.float32; give integers"),
        (torch.zeros(1, 2, 5, 6).int(), "labels has 2 channels"),
        (torch.zeros(2, 1, 5, 6).int(), "image has shape"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=f"^warp_labels: {message}"):
        warp_labels(labels, torch.zeros(1, 2, 5, 6))
