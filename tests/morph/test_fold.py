"""Repair of folds: what is found, where it is looked for, and what is left."""

import numpy as np
import pytest
import torch

from vxmprep.morph.fold import LEAST_MIRRORED, LEAST_MIRRORED_ROUNDED, slack, unfold, unfold_fine
from vxmprep.morph.pyramid import to_image_grid
from vxmprep.morph.smooth import gaussian

SHAPE = (36, 30, 31)
TURNED = torch.tensor([[1.05, 0.1, 0.0], [-0.1, 1.1, 0.1], [0.0, -0.1, 0.95]])
TIGHT_BY_ITSELF = torch.diag(torch.tensor([2.1, 1.0, 1.0]))


def tight_field(shape, strength: float) -> torch.Tensor:
    """A smooth field that folds in places, and is as good as none in others."""
    noise = torch.randn((1, 3, *shape), generator=torch.Generator().manual_seed(5))
    noise[..., shape[0] // 2 :, :, :] *= 0.02
    return strength * gaussian(noise, 2.0)


def inner(mask: torch.Tensor) -> torch.Tensor:
    """Leave out the two outermost voxels."""
    kept = torch.zeros_like(mask)
    kept[..., 2:-2, 2:-2, 2:-2] = mask[..., 2:-2, 2:-2, 2:-2]
    return kept


def some_mask() -> torch.Tensor:
    mask = torch.ones((1, 1, *SHAPE), dtype=torch.bool)
    mask[..., :5] = False
    return mask


@pytest.mark.parametrize("linear", [None, TURNED, TIGHT_BY_ITSELF])
@pytest.mark.parametrize("strength", [10.0, 40.0])
def test_every_tight_voxel_is_found_wherever_the_field_is_steep(linear, strength):
    state = tight_field([size // 2 + 1 for size in SHAPE], strength)
    tight = slack(to_image_grid(state, SHAPE), linear) < 0
    expected = int((tight & inner(some_mask())).sum())
    assert unfold(state, some_mask(), linear, rounds=1)[1] == expected
    assert strength < 20 or expected > 50

    fine = tight_field(SHAPE, strength / 2)
    tight = slack(fine, linear, LEAST_MIRRORED_ROUNDED) < 0
    found = unfold_fine(fine, some_mask(), linear, rounds=1)[1]
    assert found == int((tight & inner(some_mask())).sum())


@pytest.mark.parametrize("linear", [None, TURNED])
@pytest.mark.parametrize("seed", range(3))
def test_a_field_that_is_just_too_tight_at_one_place_is_found(linear, seed):
    """The map is linear there, in a random direction, and becomes the identity around it."""
    shape = (14, 14, 14)
    offset = torch.stack(torch.meshgrid(*[torch.arange(14.0) - 7] * 3, indexing="ij"))
    near = torch.exp(-offset.square().sum(dim=0) / 8)
    direction = torch.randn((3, 3), generator=torch.Generator().manual_seed(seed))
    unit = (torch.einsum("ij,jxyz->ixyz", direction, offset) * near)[None]
    everywhere = inner(torch.ones((1, 1, *shape), dtype=torch.bool))
    wide = [2 * size - 2 for size in shape]
    for strength in torch.arange(0.1, 2, 0.02):
        expected = (slack(strength * unit, linear, LEAST_MIRRORED_ROUNDED) < 0) & everywhere
        if expected.any():
            break
    assert int(expected.sum()) < 20
    assert unfold_fine(strength * unit, everywhere, linear, 1)[1] == int(expected.sum())
    whole = torch.ones((1, 1, *wide), dtype=torch.bool)
    for strength in torch.arange(0.1, 2, 0.02):
        expected = (slack(to_image_grid(strength * unit, wide), linear) < 0) & inner(whole)
        if expected.any():
            break
    assert int(expected.sum()) < 100
    assert unfold(strength * unit, whole, linear, 1)[1] == int(expected.sum())


@pytest.mark.parametrize("linear", [None, TURNED])
def test_nothing_tight_is_left_and_the_rest_stays(linear):
    state = tight_field([size // 2 + 1 for size in SHAPE], 25.0)
    mended, found = unfold(state, some_mask(), linear)
    assert found > 50
    left = slack(to_image_grid(mended, SHAPE), linear)[inner(some_mask())]
    assert float(left.min()) >= 0
    assert torch.equal(mended[..., -4:, :, :], state[..., -4:, :, :])
    assert not torch.equal(mended, state)


def test_the_slack_is_that_of_itks_determinant_on_mirrored_axes():
    field = tight_field(SHAPE, 6.0)
    vectors = field[0].permute(1, 2, 3, 0).double().numpy()
    gradients = np.stack(np.gradient(vectors, axis=(0, 1, 2)), axis=-1)
    whole = TURNED.double().numpy() @ (np.eye(3) + gradients)
    plain = np.linalg.det(np.eye(3) + gradients) - 0.1
    # ITK takes displacements of the world, x and y reversed, along the array's own axes.
    sign = np.diag([-1.0, -1.0, 1.0])
    mirrored = np.linalg.det(np.eye(3) + sign @ (whole - np.eye(3))) - LEAST_MIRRORED
    expected = np.minimum(plain, mirrored)
    assert np.abs(slack(field, TURNED)[0, 0].numpy() - expected).max() < 1e-3
