"""Networks of the original code: the same displacement, and nothing else is taken for one.

The files in tests/parity/small were written by the original; `make parity-fixtures` makes them.
"""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from vxmprep.morph.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from vxmprep.morph.field import resize
from vxmprep.morph.frame import FREESURFER_CROP

SMALL = Path(__file__).parents[1] / "parity" / "small"
TORCH, KERAS = SMALL / "torch-velocity-half.pt", SMALL / "keras-velocity-half.h5"
FILES = [TORCH, SMALL / "torch-displacement.pt", KERAS, SMALL / "keras-coarse-decoder.h5"]


@pytest.fixture(scope="module")
def pair() -> list[torch.Tensor]:
    images = np.load(SMALL / "inputs.npz")
    return [
        torch.from_numpy(images[name].astype(np.float32))[None, None]
        for name in ("moving", "fixed")
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_displacement_is_the_originals(file, pair):
    network = load_checkpoint(file).network
    with torch.inference_mode():
        displacement = resize(network.integrate(network(*pair)), pair[0].shape[2:])
    original = torch.from_numpy(np.load(file.with_suffix(".npy")))
    assert original.abs().max() > 3
    torch.testing.assert_close(displacement[0], original, atol=1e-4, rtol=0)


@pytest.mark.parametrize("file", [TORCH, KERAS], ids=["torch", "keras"])
def test_it_gets_the_frame_of_its_training_data(file):
    model = load_checkpoint(file)
    assert model.frame == FREESURFER_CROP
    assert model.description["origin"].startswith("VoxelMorph")
    assert not model.network.training


def changed_torch(tmp_path, config=None, state=None) -> Path:
    content = torch.load(TORCH, weights_only=True)
    content["config"].update(config or {})
    content["model_state"].update(state or {})
    torch.save(content, tmp_path / "changed.pt")
    return tmp_path / "changed.pt"


def changed_keras(tmp_path, change) -> Path:
    shutil.copy(KERAS, tmp_path / "changed.h5")
    with h5py.File(tmp_path / "changed.h5", "r+") as file:
        change(file)
    return tmp_path / "changed.h5"


def replace_config(file, old, new):
    text = file.attrs["model_config"]
    assert old in text
    file.attrs["model_config"] = text.replace(old, new)


def complaint(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"src_feats": 2}, "a network with src_feats 2"),
        ({"nb_unet_conv_per_level": 2}, "a network with nb_unet_conv_per_level 2"),
        ({"int_downsize": 4}, "a network with int_downsize 4"),
        ({"nb_unet_features": [[4, 7], [6, 5, 5, 4]]}, "its weights do not fit"),
        ({"nb_unet_features": "many"}, "its network's description is damaged"),
        ({"inshape": None}, "its network's description is damaged"),
    ],
    ids=str,
)
def test_networks_of_torch_that_are_not_known_are_refused(config, message, tmp_path):
    assert complaint(changed_torch(tmp_path, config)).startswith(message)


def test_features_may_be_one_number_and_a_growth(tmp_path):
    from vxmprep.morph.original import _features

    config = {"nb_unet_features": 8, "nb_unet_levels": 3, "unet_feat_mult": 2}
    assert _features(config) == ([8, 16], [32, 16, 8])
    assert _features({}) == ([16, 32, 32, 32], [32, 32, 32, 32, 32, 16, 16])


def test_weights_of_another_module_are_refused(tmp_path):
    strange = {"unet_model.attention.0.main.weight": torch.zeros(3)}
    message = complaint(changed_torch(tmp_path, state=strange))
    assert message.endswith("it holds unet_model.attention.0.main.weight")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = {"flow.bias": torch.full((3,), torch.nan)}
    assert complaint(changed_torch(tmp_path, state=state)).startswith("its weights are not all")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"svf_resolution": 1', '"svf_resolution": 4', "a network with svf_resolution 4"),
        ('"use_probs": false', '"use_probs": true', "a network with use_probs True"),
        ('"inshape"', '"outshape"', "a Keras network of class 'VxmDense' without an input shape"),
        ("{", "[", "its network's description is damaged"),
    ],
)
def test_networks_of_keras_that_are_not_known_are_refused(old, new, message, tmp_path):
    path = changed_keras(tmp_path, lambda file: replace_config(file, old, new))
    assert complaint(path).startswith(message)


def test_a_keras_file_without_one_of_its_layers_is_refused(tmp_path):
    path = changed_keras(tmp_path, lambda file: file["model_weights"].pop("vxm_dense_flow"))
    assert complaint(path).startswith("its weights do not fit the network it describes")


def replace_weights(file, **options):
    del file["model_weights/vxm_dense_flow/vxm_dense_flow/bias:0"]
    file.create_dataset("model_weights/vxm_dense_flow/vxm_dense_flow/bias:0", **options)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: replace_weights(file, data="text"),
        lambda file: replace_weights(file, data=h5py.Empty("f")),
        lambda file: replace_weights(file, data=1.0),
        lambda file: replace_weights(file, data=[1e300, 0.0, 0.0]),
        lambda file: replace_weights(file, data=np.zeros((3, 3, 3, 3, 2))),
        lambda file: replace_weights(file, shape=(2**29,), dtype="f4", chunks=True),
        lambda file: replace_weights(
            file, shape=(3,), dtype="f4", external=[("/etc/passwd", 0, 12)]
        ),
        lambda file: file.move("model_weights", "others"),
        lambda file: replace_config(file, '"int_steps": 7', '"int_steps": Infinity'),
    ],
    ids=[
        "text", "empty", "a number", "infinite", "another shape", "huge", "of another file",
        "no weights", "infinitely many steps",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:overflow")
def test_hostile_keras_files_are_refused(change, tmp_path):
    assert complaint(changed_keras(tmp_path, change))


def test_weights_in_another_keras_file_are_not_read(tmp_path):
    def link(file):
        del file["model_weights"]
        file["model_weights"] = h5py.ExternalLink(str(KERAS), "model_weights")

    assert complaint(changed_keras(tmp_path, link))


@pytest.mark.parametrize(
    ("config", "state"),
    [
        ({"int_steps": float("inf")}, {}),
        ({"inshape": torch.zeros(())}, {}),
        ({}, {3: torch.zeros(3)}),
        ({}, {"flow.bias": torch.zeros(3, dtype=torch.complex64)}),
        ({}, {"flow.bias": torch.zeros(3).to_sparse()}),
        ({}, {"flow.bias": "text"}),
        ({}, {"flow.bias": torch.full((3,), 1e300, dtype=torch.float64)}),
    ],
    ids=["steps", "shape", "key", "complex", "sparse", "text", "infinite"],
)
def test_hostile_files_of_torch_are_refused(config, state, tmp_path):
    assert complaint(changed_torch(tmp_path, config, state))


def test_weights_saved_of_a_parallel_network_are_taken(tmp_path, pair):
    content = torch.load(TORCH, weights_only=True)
    state = {f"module.{name}": value for name, value in content["model_state"].items()}
    parallel = tmp_path / "parallel.pt"
    torch.save({**content, "model_state": state}, parallel)
    found, expected = (load_checkpoint(file).network(*pair) for file in (parallel, TORCH))
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_stays_the_same_network_when_saved_again(file, tmp_path, pair):
    model = load_checkpoint(file)
    save_checkpoint(model, tmp_path / "again.pt")
    again = load_checkpoint(tmp_path / "again.pt")
    assert again.frame == model.frame
    found, expected = (m.network.integrate(m.network(*pair)) for m in (again, model))
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_a_keras_file_cut_short_is_refused(tmp_path):
    (tmp_path / "cut.h5").write_bytes(KERAS.read_bytes()[:30_000])
    assert complaint(tmp_path / "cut.h5").startswith("cut short or damaged")
