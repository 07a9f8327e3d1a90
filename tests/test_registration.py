"""Registration of conformed images: what is written inverts, and a network's field is used."""

from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from vxmprep.config import default_iterations
from vxmprep.morph.checkpoint import save_checkpoint
from vxmprep.morph.model import Model
from vxmprep.morph.network import VxmNet
from vxmprep.registration import register


@pytest.fixture(scope="module")
def pair(small_brain):
    """The small atlas as if its voxels were 1 mm, and itself stretched by a tenth."""
    data = np.pad(small_brain.get_fdata(), 8)
    shape = [n // 16 * 16 for n in data.shape]
    data = data[tuple(slice(0, n) for n in shape)]
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    image = sitk.GetImageFromArray(data.T.astype(np.float32))
    centre = [(n - 1) / 2 for n in shape]
    stretch = sitk.AffineTransform(np.diag([1.1, 1.0, 0.95]).ravel().tolist(), (0, 0, 0), centre)
    moved = sitk.GetArrayFromImage(sitk.Resample(image, image, stretch, sitk.sitkLinear)).T
    scaled = [np.clip(255 * x / np.percentile(data, 99.5), 0, 255) for x in (moved, data)]
    moving, fixed = (nb.Nifti1Image(np.rint(x).astype(np.uint8), affine) for x in scaled)
    return moving, fixed, nb.Nifti1Image((data > 0).astype(np.uint8), affine)


def test_a_stretch_is_found_and_its_inverse_written(pair, tmp_path):
    """The fixed image's point x lies at centre + (x - centre) / 1.1 in the moving one."""
    moving, fixed, mask = pair
    found = register(moving, fixed, mask, iterations=60, device="cpu")
    files = tmp_path / "forward.h5", tmp_path / "inverse.h5"
    found.write(np.eye(4), *files)
    forward, inverse = (sitk.ReadTransform(str(path)) for path in files)
    inside = np.argwhere(np.asarray(mask.dataobj) > 0)[::50].astype(float)
    flip = np.array([-1.0, -1.0, 1.0])
    there = np.array([forward.TransformPoint(p) for p in (inside * flip).tolist()])
    back = np.array([inverse.TransformPoint(p) for p in there.tolist()]) * flip
    centre = (np.array(fixed.shape) - 1) / 2
    known = centre + (inside - centre) / np.array([1.1, 1.0, 0.95])
    error = np.linalg.norm(there * flip - known, axis=1)
    before = np.linalg.norm(inside - known, axis=1)
    assert error.mean() < 0.4 * before.mean()
    assert np.percentile(np.linalg.norm(back - inside, axis=1), 99) < 0.5


def test_beyond_100_iterations_the_fields_are_of_1_mm_and_invert_each_other(pair):
    coarse, fine = (register(*pair, iterations=count, device="cpu") for count in (100, 104))
    assert fine.iterations == (*coarse.iterations[:3], 4)
    np.testing.assert_allclose(fine.grid.spacing, 1)
    np.testing.assert_allclose(coarse.grid.spacing, 2)
    np.testing.assert_allclose(
        fine.grid.world(np.zeros((1, 3))), coarse.grid.world(np.zeros((1, 3)))
    )
    for field in (fine.forward, fine.inverse):
        edge = np.ones(field.shape[:3], bool)
        edge[1:-1, 1:-1, 1:-1] = False
        assert not field[edge].any()
    assert fine.residual_p99 < 0.1
    assert fine.similarity[1] > coarse.similarity[1]
    inside = np.asarray(pair[2].dataobj) > 0
    place = tuple(slice(26, 26 + n) for n in inside.shape)
    dense = fine.forward[place][::2, ::2, ::2]
    rough = coarse.forward[tuple(slice(13, 13 + n) for n in dense.shape[:3])]
    apart = np.linalg.norm(dense - rough, axis=-1)[inside[::2, ::2, ::2]]
    assert np.median(apart) < 0.5


@pytest.mark.parametrize("iterations", [10, 102])
def test_the_same_input_gives_the_same_bits(pair, iterations):
    first, second = (register(*pair, iterations=iterations, device="cpu") for _ in range(2))
    np.testing.assert_array_equal(first.forward, second.forward)
    np.testing.assert_array_equal(first.inverse, second.inverse)


def test_without_refinement_the_field_is_the_networks(pair, tmp_path):
    """A network that always answers 0.4 voxels of 1 mm along the first axis moves by 0.4 mm."""
    network = VxmNet(encoder=(2, 2), decoder=(2, 2, 2))
    with torch.no_grad():
        network.flow.bias[0] = 0.4
    save_checkpoint(Model(network), tmp_path / "network.pt")
    found = register(*pair, model=tmp_path / "network.pt", iterations=0, device="cpu")
    middle = tuple(n // 2 for n in found.grid.shape)
    assert found.forward[middle] == pytest.approx((0.4, 0, 0), abs=0.02)


@pytest.fixture
def usual(monkeypatch):
    """Make fewer iterations the usual ones, so that they are enough to be called poor."""

    def make(count: int, *, network: bool) -> None:
        counts = {network: count, not network: default_iterations(network=not network)}
        monkeypatch.setattr(
            "vxmprep.registration.default_iterations", lambda *, network: counts[network]
        )

    return make


def shifting(shift: float, path: Path) -> Path:
    """Write a network that always answers the same displacement."""
    network = VxmNet((4, 4), (4, 4))
    with torch.no_grad():
        network.flow.weight.zero_()
        network.flow.bias.fill_(shift)
    save_checkpoint(Model(network), path)
    return path


@pytest.mark.parametrize(("shift", "misled"), [(0.0, False), (9.0, True)])
def test_a_network_that_misleads_the_refinement_is_put_aside(
    shift, misled, pair, usual, tmp_path, monkeypatch
):
    """The two images lie up to 4 voxels apart, a field 9 voxels off leads to no good."""
    usual(8, network=True)
    monkeypatch.setattr("vxmprep.registration.LEAST_SIMILARITY", 0.6)  # 8 iterations are few
    model = shifting(shift, tmp_path / "network.pt")
    found = register(*pair, model=model, iterations=8, device="cpu")
    if misled:
        assert found.second_try["Kept"]
        assert found.iterations == (80, 80, 40, 20)
    else:
        assert found.second_try == {}
        assert found.iterations == (0, 0, 0, 8)
    assert found.similarity[-1] > 0.6


def test_a_network_worse_than_nothing_is_put_aside_though_the_refinement_ends_well(
    pair, tmp_path, monkeypatch
):
    monkeypatch.setattr("vxmprep.registration.LEAST_SIMILARITY", 0.0)
    monkeypatch.setattr("vxmprep.registration.default_iterations", lambda *, network: 1)
    for shift, tried in ((0.0, False), (3.0, True)):
        model = shifting(shift, tmp_path / "network.pt")
        found = register(*pair, model=model, iterations=1, device="cpu")
        assert bool(found.second_try) == tried


def test_a_poor_result_is_tried_once_more_from_zero_with_twice_the_iterations(pair, usual):
    """Six voxels more are too much for six iterations; no level of the second try ends early."""
    usual(6, network=False)
    moving, fixed, mask = pair
    away = nb.Nifti1Image(np.roll(np.asarray(moving.dataobj), 6, axis=1), moving.affine)
    found = register(away, fixed, mask, iterations=6, device="cpu")
    again = found.summary()["SecondTry"]
    assert again["Iterations"] == list(found.iterations) == [6, 6, 4, 0]
    assert again["Kept"]
    assert again["LocalCorrelation"] == round(found.similarity[-1], 4)
    fewer = register(away, fixed, mask, iterations=5, device="cpu")
    assert sum(fewer.iterations) == 5, "whoever asks for fewer wants no more"
    assert fewer.second_try == {}


def test_a_network_of_the_original_code_answers_in_its_own_axes(pair, tmp_path):
    """Its axes point to the left, downwards and to the front."""
    original = Path(__file__).parent / "parity" / "small" / "torch-displacement.pt"
    content = torch.load(original, weights_only=True)
    content["model_state"]["flow.weight"].zero_()
    content["model_state"]["flow.bias"] = torch.tensor([0.4, 0.8, 1.2])
    torch.save(content, tmp_path / "original.pt")
    found = register(*pair, model=tmp_path / "original.pt", iterations=0, device="cpu")
    middle = tuple(n // 2 for n in found.grid.shape)
    assert found.forward[middle] == pytest.approx((-0.4, 1.2, -0.8), abs=0.02)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_is_told(precision, pair, tmp_path):
    save_checkpoint(Model(VxmNet(encoder=(2, 2), decoder=(2, 2))), tmp_path / "network.pt")
    options = {"iterations": 0, "device": "cpu", "precision": precision}
    found = register(*pair, model=tmp_path / "network.pt", **options)
    assert found.summary()["Precision"] == precision
    assert found.summary()["Device"] == "cpu"


def test_a_scan_outside_the_atlas_is_refused(pair):
    moving, fixed, mask = pair
    nothing = nb.Nifti1Image(np.zeros(moving.shape, np.uint8), moving.affine)
    with pytest.raises(ValueError, match="nothing of the scan lies inside"):
        register(nothing, fixed, mask, iterations=3, device="cpu")
    with pytest.raises(ValueError, match="nothing of the scan lies inside"):
        register(moving, fixed, nothing, iterations=3, device="cpu")


def test_a_network_whose_field_is_not_finite_is_refused(pair, tmp_path):
    network = VxmNet(encoder=(2, 2), decoder=(2, 2))
    for weight in network.parameters():
        weight.data.fill_(1e30)
    save_checkpoint(Model(network), tmp_path / "network.pt")
    with pytest.raises(ValueError, match="its displacement is not finite"):
        register(*pair, model=tmp_path / "network.pt", iterations=0, device="cpu")


def test_too_little_memory_of_a_gpu_is_told_with_what_to_do(pair, monkeypatch):
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("vxmprep.morph.refine.refine", exhausted)
    with pytest.raises(MemoryError, match=r"does not suffice .* choose --device cpu"):
        register(*pair, iterations=10, device="cpu")
