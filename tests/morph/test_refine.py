"""Refinement of a pair: recovers a known field, raises overlap on real brains, folds nowhere."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from vxmprep.morph.field import jacobian_determinant, resize, warp
from vxmprep.morph.refine import (
    LOOK,
    Tuning,
    refine,
    schedule,
    state_shape,
    to_image_grid,
)

STRUCTURES = (2, 3, 4, 7, 8, 10, 11, 12, 13, 16, 17, 41, 42, 43, 46, 47, 49, 50, 51, 52, 53)


def dice(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean overlap of the structures."""
    values = []
    for label in STRUCTURES:
        a, b = one == label, other == label
        values.append(float(2 * (a & b).sum() / (a.sum() + b.sum())))
    return float(np.mean(values))


@pytest.fixture
def pair(real_pair):
    return real_pair


def test_refinement_raises_the_overlap_of_two_people_and_folds_nowhere(pair):
    moving, fixed, mask, moving_labels, fixed_labels = pair
    field, what = refine(moving, fixed, mask, iterations=(20, 15, 8))
    dense = to_image_grid(field, fixed.shape[2:])
    before = dice(moving_labels, fixed_labels)
    after = dice(warp(moving_labels, dense, "nearest"), fixed_labels)
    assert after > before + 0.1
    assert jacobian_determinant(dense)[mask[:, 0]].min() > 0
    assert what.iterations == (20, 15, 8)
    assert all(values[-1] > values[0] for values in what.similarity)


def test_refinement_recovers_a_field_that_is_known(pair):
    fixed = pair[1]
    line = [torch.linspace(0, 6.0, size) for size in fixed.shape[2:]]
    x, y, z = torch.meshgrid(*line, indexing="ij")
    known = torch.stack([y.sin() + z.cos(), x.cos() * z.sin(), (x + y).sin()])[None]
    moving = fixed
    target = warp(fixed, known)
    brain = ndimage.binary_erosion((target > 0)[0, 0].numpy(), iterations=3)
    field, _ = refine(
        moving, target, target > 0, iterations=(30, 30, 20), tuning=Tuning(tolerance=-1)
    )
    error = (to_image_grid(field, fixed.shape[2:]) - known).norm(dim=1)[0]
    assert float(error[torch.from_numpy(brain)].mean()) < 0.2


def test_refinement_gives_the_same_bits_twice(pair):
    moving, fixed, mask, *_ = pair
    first, _ = refine(moving, fixed, mask, iterations=(5, 3, 2))
    second, _ = refine(moving, fixed, mask, iterations=(5, 3, 2))
    assert torch.equal(first, second)


@pytest.fixture(scope="module")
def small_pair(small_brain):
    """The small atlas bent by a few voxels, itself, and its mask."""
    data = small_brain.get_fdata(dtype=np.float32)
    fixed = torch.from_numpy(data / np.percentile(data[data > 0], 99.5)).clamp(0, 1)[None, None]
    waves = [torch.linspace(0, 9, size).sin() for size in fixed.shape[2:]]
    bent = 2 * torch.stack(torch.meshgrid(*waves, indexing="ij"))[None]
    return warp(fixed, bent), fixed, fixed > 0


def test_levels_of_an_aligned_pair_stop_after_the_first_look(small_pair):
    _, fixed, mask = small_pair
    field, what = refine(fixed, fixed, mask, iterations=(40, 40, 20))
    assert what.iterations == (LOOK + 1,) * 3
    assert field.abs().max() < 0.05


def test_a_pair_that_gains_runs_on_and_never_beyond_its_bounds(small_pair):
    _, freely = refine(*small_pair, iterations=(60, 60, 60))
    assert all(LOOK + 1 < count < 60 for count in freely.iterations)
    for bounds in ((5, 5, 5), (2, 0, 1)):
        _, bounded = refine(*small_pair, iterations=bounds)
        assert bounded.iterations == bounds


def test_a_level_ends_where_its_gain_falls_below_the_tolerance(small_pair):
    tolerance = 0.01
    _, what = refine(*small_pair, iterations=(60, 60, 60), tuning=Tuning(tolerance=tolerance))
    for values in what.similarity:
        looked_at = np.array(values[::LOOK])
        gains = np.diff(looked_at) / (1 - looked_at[:-1])
        assert (gains[:-1] > LOOK * tolerance).all()
        assert gains[-1] <= LOOK * tolerance


def test_a_tolerance_below_zero_runs_all_iterations(small_pair):
    _, what = refine(*small_pair, iterations=(12, 0, 0), tuning=Tuning(tolerance=-1))
    assert what.iterations == (12, 0, 0)


def test_stopping_costs_little_similarity_and_gives_the_same_bits_twice(small_pair):
    (first, what), (second, again) = (refine(*small_pair) for _ in range(2))
    assert torch.equal(first, second)
    assert what.similarity == again.similarity
    _, full = refine(*small_pair, tuning=Tuning(tolerance=-1))
    assert sum(what.iterations) < sum(full.iterations)
    assert what.similarity[2][-1] > full.similarity[2][-1] - 0.01


def test_from_its_own_result_the_coarse_levels_stop_at_once(small_pair):
    field, zero = refine(*small_pair)
    _, good = refine(*small_pair, start=field)
    assert good.iterations[0] < zero.iterations[0]
    assert good.iterations[1] < zero.iterations[1]
    assert good.similarity[2][-1] >= zero.similarity[2][-1] - 0.001


def test_no_iterations_give_the_start_back(pair):
    moving, fixed, mask, *_ = pair
    start = torch.rand(1, 3, *state_shape(fixed.shape[2:]))
    field, what = refine(moving, fixed, mask, start=start, iterations=schedule(0)[0])
    assert torch.equal(field, start)
    assert what.iterations == (0, 0, 0)


def test_refinement_continues_from_a_start_and_keeps_its_similarity(pair):
    moving, fixed, mask, *_ = pair
    start, first = refine(moving, fixed, mask, iterations=(20, 15, 4))
    _, second = refine(moving, fixed, mask, start=start, iterations=(0, 0, 3))
    assert second.similarity[2][0] > first.similarity[2][-1] - 0.005


@pytest.mark.parametrize("shape", [(20, 24, 22), (10, 12, 11)])
def test_a_start_at_any_resolution_means_the_same_map(shape):
    images = torch.rand(2, 1, 1, 20, 24, 22)
    mask = torch.ones(1, 1, 20, 24, 22, dtype=torch.bool)
    axes = [torch.arange(size, dtype=torch.float32) for size in (20, 24, 22)]
    dense = 0.1 * torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    start = resize(dense, shape)
    field, _ = refine(*images, mask, start=start, iterations=(0, 0, 0))
    inside = (..., *(slice(0, -2),) * 3)
    torch.testing.assert_close(
        to_image_grid(field, (20, 24, 22))[inside], dense[inside], atol=1e-4, rtol=1e-4
    )


def test_a_schedule_scales_with_the_number_a_user_gives():
    assert schedule(0) == schedule(0, started=True) == ((0, 0, 0), 0)
    (half, none), (full, _) = schedule(40), schedule(80)
    assert all(abs(2 * a - b) <= 1 for a, b in zip(half, full, strict=True))
    assert none == 0


def test_what_a_user_gives_beyond_the_coarse_levels_is_left_for_the_fine_one():
    assert schedule(100)[0] == schedule(1000)[0]
    assert [schedule(count)[1] for count in (0, 100, 101, 1000)] == [0, 0, 1, 900]


def test_after_a_network_the_fine_iterations_come_first_and_all_are_those_from_zero():
    assert schedule(4, started=True) == ((0, 0, 0), 4)
    assert schedule(16, started=True) == ((0, 0, 6), 10)
    assert schedule(60, started=True) == ((14, 30, 6), 10)
    for count in (1, 10, 31, 75, 110, 111, 300):
        coarse, fine = schedule(count, started=True)
        assert sum(coarse) + fine == count
    assert schedule(110, started=True) == schedule(110)
    assert schedule(300, started=True) == schedule(300)


def test_iterations_for_another_number_of_levels_are_refused():
    image = torch.zeros(1, 1, 8, 8, 8)
    with pytest.raises(ValueError, match="refine: iterations is"):
        refine(image, image, image > 0, iterations=(1, 2))


@pytest.mark.parametrize("empty", ["moving", "fixed", "mask"])
def test_nothing_to_compare_moves_nothing(empty):
    images = dict(zip(("moving", "fixed"), torch.rand(2, 1, 1, 20, 24, 20), strict=True))
    images["mask"] = torch.ones(1, 1, 20, 24, 20, dtype=torch.bool)
    images[empty] = torch.zeros_like(images[empty])
    field, what = refine(**images, iterations=(3, 3, 3))
    assert torch.isfinite(field).all()
    assert all(np.isfinite(values).all() for values in what.similarity)
    if empty != "mask":
        assert not field.any()
