"""Extension of fields beyond the brain."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from vxmprep.morph.field import integrate, jacobian_determinant
from vxmprep.morph.inverse import extend

SHAPE = (26, 30, 28)


def brain() -> torch.Tensor:
    """A ball."""
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"))
    distance = np.linalg.norm(grid - (np.array(SHAPE) / 2)[:, None, None, None], axis=0)
    return torch.from_numpy(distance < 9)[None, None]


def test_extension_keeps_the_field_in_the_brain_and_is_zero_on_its_border(smooth_field):
    field = integrate(smooth_field(1, SHAPE, amplitude=2, sigma=3.5)) + 1.0
    extended = extend(field, brain(), margin=8)
    assert extended.shape[2:] == tuple(size + 16 for size in SHAPE)
    inner = extended[..., 8:-8, 8:-8, 8:-8]
    torch.testing.assert_close(inner * brain(), field * brain(), atol=0.05, rtol=0)
    border = torch.ones_like(extended, dtype=torch.bool)
    border[..., 1:-1, 1:-1, 1:-1] = False
    assert not extended[border].any()


def test_extension_of_a_brain_displaced_by_five_voxels_does_not_fold():
    extended = extend(torch.full((1, 3, *SHAPE), 5 / 3**0.5), brain(), margin=12)
    assert float(jacobian_determinant(extended).min()) > 0.1


def test_extension_solves_laplaces_equation_outside_the_brain():
    extended = extend(torch.full((1, 3, *SHAPE), 1.0), brain(), margin=8, dilation=0)
    extended = extended[0, 0].numpy()
    known = np.pad(brain()[0, 0].numpy(), 8)
    solution = known.astype(float)
    free = ~known
    free[[0, -1]] = free[:, [0, -1]] = free[:, :, [0, -1]] = False
    kernel = ndimage.generate_binary_structure(3, 1).astype(float)
    kernel[1, 1, 1] = 0
    for _ in range(1500):
        solution = np.where(free, ndimage.correlate(solution, kernel / 6), solution)
    np.testing.assert_allclose(extended, solution, atol=0.05)


def test_extension_of_a_batch_is_that_of_its_members(smooth_field):
    fields = integrate(smooth_field(3, SHAPE, amplitude=1, batch=2))
    mask = torch.cat([brain(), brain().roll(2, dims=2)])
    part = (..., *(slice(4, 22),) * 3)
    fields, mask = fields[part], mask[part]
    together = extend(fields, mask, margin=4)
    for which in range(2):
        one = slice(which, which + 1)
        assert torch.equal(together[one], extend(fields[one], mask[one], margin=4))


def test_extension_refuses_a_plane():
    with pytest.raises(ValueError, match=r"^extend: displacement has shape \(1, 2, 8, 9\)"):
        extend(torch.zeros(1, 2, 8, 9), torch.ones(1, 1, 8, 9, dtype=torch.bool), margin=2)
