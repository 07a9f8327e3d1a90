"""The finish of a refinement: closer than the field of half resolution, and without folds."""

import numpy as np
import pytest
import torch

from vxmprep.morph.field import jacobian_determinant, warp
from vxmprep.morph.fine import refine_finely
from vxmprep.morph.fold import LEAST, slack
from vxmprep.morph.ncc import LocalNcc
from vxmprep.morph.refine import refine, to_image_grid


@pytest.fixture(scope="module")
def bent(small_brain):
    """The small atlas bent by waves too short for a field of half its resolution, and itself."""
    data = small_brain.get_fdata(dtype=np.float32)
    fixed = torch.from_numpy(data / np.percentile(data[data > 0], 99.5)).clamp(0, 1)[None, None]
    waves = [torch.linspace(0, 60, size).sin() for size in fixed.shape[2:]]
    bend = 0.8 * torch.stack(torch.meshgrid(*waves, indexing="ij"))[None]
    return warp(fixed, bend), fixed, fixed > 0


@pytest.fixture(scope="module")
def finished(bent):
    state, _ = refine(*bent, iterations=(10, 10, 10))
    return state, *refine_finely(*bent, state, iterations=6)


def test_the_finish_brings_the_images_closer(bent, finished):
    moving, fixed, mask = bent
    state, dense, similarity, _ = finished
    assert len(similarity) == 6
    compare = LocalNcc(fixed, mask.float(), 5)
    before = compare(warp(moving, to_image_grid(state, fixed.shape[2:]))).value
    assert compare(warp(moving, dense)).value > before + 0.02


def test_the_finished_field_neither_folds_nor_seems_to_in_itks_frame(bent, finished):
    mask = bent[2].clone()
    for axis in (2, 3, 4):
        mask.transpose(axis, 0)[:2] = mask.transpose(axis, 0)[-2:] = False
    assert jacobian_determinant(finished[1])[mask[:, 0]].min() > LEAST
    assert slack(finished[1])[mask].min() >= 0


def test_the_repair_finds_and_mends_folds_that_touch(bent):
    """Noise of two voxels folds everywhere in the middle; around it nothing is changed."""
    torch.manual_seed(1)
    from vxmprep.morph.fold import unfold_fine

    field = torch.zeros(1, 3, 40, 40, 40)
    field[..., 15:25, 15:25, 15:25] = torch.randn(1, 3, 10, 10, 10)
    mask = torch.ones(1, 1, 40, 40, 40, dtype=torch.bool)
    mended, found = unfold_fine(field, mask)
    assert found > 100
    assert slack(mended)[..., 2:-2, 2:-2, 2:-2].min() >= 0
    assert mended[..., 15:25, 15:25, 15:25].abs().max() > 0.1
    assert not mended[..., :2, :, :].any()


def test_the_finish_gives_the_same_bits_twice(bent, finished):
    again, *_ = refine_finely(*bent, finished[0], iterations=6)
    assert torch.equal(again, finished[1])
