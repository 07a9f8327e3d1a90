"""The loss of a batch."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from vxmprep.morph.field import integrate, resize, warp
from vxmprep.morph.losses import gradient_penalty, local_ncc
from vxmprep.training.augmentation import change_image, change_labels, draw_change
from vxmprep.training.data import Batch, Labels
from vxmprep.training.objective import Objective
from vxmprep.training.settings import TrainingSettings

SHAPE = (16, 18, 14)


def make_batch(count: int = 1, labelled: tuple[int, ...] = (0,)) -> Batch:
    draw = np.random.default_rng(0)
    images = [
        torch.from_numpy(draw.integers(0, 256, (count, 1, *SHAPE), dtype=np.uint8))
        for _ in range(2)
    ]
    labels = [
        Labels(
            *(torch.from_numpy(draw.integers(0, 8, SHAPE).astype(np.int16)) for _ in range(2)),
            (1, 2, 3, 5, 6, 7),
        )
        for _ in range(count)
    ]
    kept = tuple(each if i in labelled else None for i, each in enumerate(labels))
    return Batch(*images, kept, (("m", "f"),) * count, tuple(range(count)), images[1][0, 0] > 0)


@pytest.fixture
def velocity() -> torch.Tensor:
    noise = torch.randn((2, 3, 8, 9, 7), generator=torch.manual_seed(1))
    return functional.avg_pool3d(noise, 3, 1, 1).requires_grad_()


def given(velocity: torch.Tensor):
    return lambda moving, fixed, dtype: velocity[: len(moving)]


def test_parts_are_those_of_the_paper_with_their_weights(velocity):
    batch = make_batch()
    settings = TrainingSettings(smoothness_weight=0.7, segmentation_weight=0.3)
    losses = Objective(settings, lambda field: integrate(field, 7), torch.float32)(
        given(velocity), batch
    )
    displacement = resize(integrate(velocity[:1], 7), SHAPE)
    moving, fixed = batch.moving.float() / 255, batch.fixed.float() / 255
    ncc = local_ncc(fixed, warp(moving, displacement))
    assert losses.similarity.item() == pytest.approx(1 - ncc.item(), abs=1e-6)
    penalty = gradient_penalty(velocity[:1]).item()
    assert losses.smoothness.item() == pytest.approx(0.7 * penalty)
    labels, dice = batch.labels[0], []
    for k in labels.structures:
        one = (labels.fixed == k).float()
        other = warp((labels.moving == k).float()[None, None], displacement)[0, 0]
        dice.append(2 * ((one * other).sum() / (one.sum() + other.sum())).item())
    assert losses.segmentation.item() == pytest.approx(0.3 * (1 - np.mean(dice)), abs=1e-6)


def test_gradient_of_the_overlap_is_that_of_all_structures_at_once(velocity):
    settings = TrainingSettings(smoothness_weight=0, segmentation_weight=1)
    objective = Objective(settings, lambda field: integrate(field, 7), torch.float32)
    labels = make_batch().labels[0]
    (ours,) = torch.autograd.grad(objective(given(velocity), make_batch()).segmentation, velocity)
    displacement = resize(integrate(velocity[:1], 7), SHAPE)
    maps = [
        torch.stack([(side == k).float() for k in labels.structures])[None]
        for side in (labels.fixed, labels.moving)
    ]
    warped = warp(maps[1], displacement)
    sums = (maps[0] + warped).sum(dim=(2, 3, 4))
    loss = 1 - (2 * (maps[0] * warped).sum(dim=(2, 3, 4)) / sums).mean()
    (theirs,) = torch.autograd.grad(loss, velocity)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_a_batch_counts_as_the_mean_of_its_pairs(velocity):
    settings = TrainingSettings(segmentation_weight=0.5)
    objective = Objective(settings, lambda field: integrate(field, 7), torch.float32)
    batch = make_batch(2, labelled=(1,))
    whole = objective(given(velocity), batch)
    parts = []
    for one in range(2):
        single = Batch(
            batch.moving[one : one + 1],
            batch.fixed[one : one + 1],
            batch.labels[one : one + 1],
            batch.names[:1],
            (one,),
            batch.mask,
        )
        parts.append(float(objective(given(velocity[one : one + 1]), single).total.detach()))
    assert whole.total.item() == pytest.approx(np.mean(parts), rel=1e-5)


def test_a_pair_without_labels_has_no_part_in_the_overlap(velocity):
    settings = TrainingSettings(segmentation_weight=0.5)
    objective = Objective(settings, lambda field: field, torch.float32)
    assert float(objective(given(velocity), make_batch(labelled=())).segmentation) == 0


def test_changes_depend_on_seed_and_number_and_grow_with_strength():
    one, same, other = (draw_change(0, number, 0.5) for number in (3, 3, 4))
    np.testing.assert_array_equal(one.matrix, same.matrix)
    assert np.abs(one.matrix - other.matrix).max() > 1e-3
    assert np.abs(draw_change(0, 3, 1e-9).matrix - np.eye(3)).max() < 1e-8


def test_images_and_labels_are_changed_alike():
    labels = torch.zeros(SHAPE, dtype=torch.int16)
    labels[5:11, 6:13, 4:9] = 7
    change = draw_change(0, 1, 1.0)
    moved = change_labels(labels, change)
    image = change_image((labels == 7).float()[None, None], change)[0, 0]
    both = (image ** (1 / change.exponent) > 0.5) == (moved == 7)
    assert both.float().mean() > 0.995
    assert (moved != labels).any()
