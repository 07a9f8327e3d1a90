"""What identifies a scan by its voxels."""

import numpy as np
import pytest

from vxmprep.preparation.checkup import _fingerprint

VOXELS = np.random.default_rng(0).integers(0, 511, size=(20, 20, 20)).astype(np.float32)


@pytest.mark.parametrize("factor", [3, 0.1, 1 / 3, 0.7, 1e-3])
def test_a_scale_factor_does_not_change_the_fingerprint(factor):
    assert _fingerprint(np.float32(factor) * VOXELS) == _fingerprint(VOXELS)


def test_another_scan_has_another_fingerprint():
    assert _fingerprint(VOXELS[::-1]) == _fingerprint(VOXELS)
    other = np.random.default_rng(1).integers(0, 511, size=VOXELS.shape).astype(np.float32)
    assert _fingerprint(other) != _fingerprint(VOXELS)
