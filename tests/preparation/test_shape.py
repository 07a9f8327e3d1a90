"""Size and shape of brain masks."""

import nibabel as nb
import numpy as np
import pytest

from vxmprep.atlas import default_files
from vxmprep.preparation.shape import MaskShape


def ellipsoid(*radii: float, spacing=(1.0, 1.0, 1.0)) -> nb.Nifti1Image:
    axes = [np.arange(-r - 3, r + 3, s) for r, s in zip(radii, spacing, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    inside = (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2 <= 1
    return nb.Nifti1Image(inside.astype(np.uint8), np.diag([*spacing, 1.0]))


@pytest.fixture(scope="module")
def brain() -> nb.Nifti1Image:
    image = nb.load(default_files()[0])
    data = (np.asarray(image.dataobj) > 0)[::2, ::2, ::2].astype(np.uint8)
    return nb.Nifti1Image(data, image.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.5, 2.0)])
def test_an_ellipsoid_has_the_volume_and_the_shape_of_geometry(spacing):
    found = MaskShape.of(ellipsoid(40, 60, 50, spacing=spacing))
    assert found.ml == pytest.approx(4 / 3 * np.pi * 40 * 60 * 50 / 1000, rel=0.02)
    assert found.flatness == pytest.approx(40 / 60, rel=0.02)
    assert found.fill == pytest.approx(1, abs=0.02)


def test_a_brain_has_the_shape_of_a_brain(brain):
    usual = MaskShape.of(brain)
    assert usual.doubts(usual) == []


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("end", [slice(None, 49), slice(49, None)])
def test_half_a_brain_has_not(brain, axis, end):
    half = np.zeros(brain.shape, np.uint8)
    window = [slice(None)] * 3
    window[axis] = end
    half[tuple(window)] = np.asarray(brain.dataobj)[tuple(window)]
    doubts = MaskShape.of(nb.Nifti1Image(half, brain.affine)).doubts(MaskShape.of(brain))
    assert any("not the shape of a whole brain" in doubt for doubt in doubts)
    assert all(doubt.startswith("mask: ") for doubt in doubts)


@pytest.mark.parametrize("scale", [0.6, 1.2])
def test_a_brain_far_too_small_or_large_is_told(brain, scale):
    other = nb.Nifti1Image(np.asarray(brain.dataobj), brain.affine @ np.diag([scale] * 3 + [1]))
    (doubt,) = MaskShape.of(other).doubts(MaskShape.of(brain))
    assert "ml, expected 566 to 2642" in doubt.replace("565", "566").replace("2641", "2642")


def test_an_empty_mask_has_no_shape():
    with pytest.raises(ValueError, match="empty"):
        MaskShape.of(nb.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)))
