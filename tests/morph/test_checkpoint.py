"""Networks in files: the same after reading, and nothing but ours is read."""

import os
import pickle
import re
import resource
import zipfile

import h5py
import nibabel as nb
import numpy as np
import pytest
import torch

from vxmprep.morph.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from vxmprep.morph.frame import Frame
from vxmprep.morph.model import Model
from vxmprep.morph.network import VxmNet
from vxmprep.training.state import Progress, save_state


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def complaint(path) -> str:
    """Give why a file is refused, without the path with which the message starts."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.fixture
def network() -> VxmNet:
    torch.manual_seed(0)
    return VxmNet(encoder=(4, 8), decoder=(8, 8, 4))


@pytest.fixture
def saved(network, tmp_path):
    save_checkpoint(Model(network), tmp_path / "network.pt")
    return tmp_path / "network.pt"


def altered(path, **content):
    """Replace parts of a checkpoint, or of the architecture it describes."""
    saved = torch.load(path, weights_only=True)
    for name, value in content.items():
        (saved["architecture"] if name in saved["architecture"] else saved)[name] = value
    torch.save(saved, path)
    return path


def test_a_network_gives_the_same_field_after_reading(network, tmp_path):
    torch.nn.init.normal_(network.flow.weight, std=0.1)
    save_checkpoint(Model(network), tmp_path / "network.pt")
    pair = torch.rand(2, 1, 1, 20, 18, 22)
    with torch.no_grad():
        expected, found = network(*pair), load_checkpoint(tmp_path / "network.pt").network(*pair)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_what_is_known_of_a_network_comes_back(tmp_path):
    network = VxmNet((4, 8), (8, 8), steps=0, half_resolution=False, output_stride=2)
    frame = Frame(axes="LIA", shape=(8, 9, 10), centre=(4.0, 4.5, 5.0), white=0.4)
    description = {"training": {"loss": "lncc"}, "atlas": {"SHA256": "1"}, "data": "2 scans"}
    save_checkpoint(Model(network, frame, description), tmp_path / "network.pt")
    model = load_checkpoint(tmp_path / "network.pt")
    assert model.frame == frame
    assert model.description == description
    found = model.network
    assert (found.steps, found.half_resolution, found.output_stride) == (0, False, 2)
    assert not found.training


def test_a_checkpoint_is_written_whole_or_not_at_all(network, saved):
    before = saved.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(Model(network, Frame(), {"training": lambda: None}), saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path):
    assert complaint(tmp_path / "network.pt").startswith("no such file")


def test_a_folder_is_refused(tmp_path):
    assert "directory" in complaint(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "network.pt").touch()
    assert complaint(tmp_path / "network.pt").startswith("empty (0 bytes)")


@pytest.mark.parametrize("content", [b"no network", b"PK", pickle.dumps({"encoder": [4]})])
def test_a_file_of_something_else_is_refused(content, tmp_path):
    (tmp_path / "network.pt").write_bytes(content)
    assert re.search("not a checkpoint|cut short", complaint(tmp_path / "network.pt"))


def test_keras_weights_without_their_network_are_refused(tmp_path):
    with h5py.File(tmp_path / "vxm.h5", "w") as file:
        file.create_group("model_weights")
    assert complaint(tmp_path / "vxm.h5").startswith("weights without the network's description")


def test_an_image_is_refused(tmp_path):
    nb.save(nb.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / "x.nii.gz")
    assert complaint(tmp_path / "x.nii.gz").startswith("not a checkpoint")


def test_another_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "network.pt", "w") as archive:
        archive.writestr("a.txt", "text")
    assert complaint(tmp_path / "network.pt").startswith("not a checkpoint")


@pytest.mark.parametrize(
    "content",
    [{"model_state": {}}, {"flow.weight": torch.zeros(3)}, torch.zeros(3), [1], 5],
    ids=["half of VoxelMorph's", "state dict", "tensor", "list", "number"],
)
def test_another_programs_weights_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    assert complaint(tmp_path / "other.pt").startswith("of another program")


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    assert complaint(tmp_path / "module.pt").startswith("not a checkpoint")


def test_a_script_module_is_refused_without_a_warning(tmp_path, recwarn):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")
    recwarn.clear()
    assert complaint(tmp_path / "script.pt").startswith("not a checkpoint")
    assert not recwarn.list


@pytest.mark.parametrize("write", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_code_in_a_file_is_not_run(write, tmp_path):
    write({"format": Hostile(tmp_path / "ran")}, tmp_path / "network.pt")
    assert "nothing in it was run" in complaint(tmp_path / "network.pt")
    assert not (tmp_path / "ran").exists()


def test_the_hostile_file_would_run_its_code_elsewhere(tmp_path):
    pickle.loads(pickle.dumps(Hostile(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept", [40, 2000, -200])
def test_a_checkpoint_cut_short_is_refused(kept, saved):
    saved.write_bytes(saved.read_bytes()[:kept])
    assert complaint(saved).startswith("cut short or damaged")


def test_a_checkpoint_with_damaged_weights_is_refused(saved):
    """torch reads it without a word."""
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 0xFF
    saved.write_bytes(content)
    torch.load(saved, weights_only=True)
    assert complaint(saved).startswith("cut short or damaged")


def test_the_state_of_a_training_is_no_network_yet(tmp_path):
    path = tmp_path / "last.ckpt"
    network = VxmNet((2, 2), (2, 2))
    save_state(path, Progress(), network, torch.optim.Adam(network.parameters()))
    with pytest.raises(CheckpointError, match=r"last.ckpt: the state of a training; give"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_version_is_refused(saved):
    assert "another version" in complaint(altered(saved, format="vxmprep checkpoint 2"))


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": [4, 16]},
        {"decoder": [8, 8]},
        {"dims": 2},
        {"dims": 7},
        {"dims": "three"},
        {"steps": "seven"},
        {"steps": -1},
        {"steps": 7.0},
        {"output_stride": torch.ones(2)},
        {"half_resolution": "no"},
        {"output_stride": 3},
        {"weights": {}},
        {"weights": None},
        {"weights": {"flow.weight": 5}},
    ],
    ids=str,
)
def test_weights_that_do_not_fit_the_network_are_refused(change, saved):
    assert complaint(altered(saved, **change)).startswith("its weights do not fit the network")


@pytest.mark.parametrize(
    "change",
    [{"architecture": None}, {"architecture": {"encoder": [4]}}],
    ids=str,
)
def test_a_checkpoint_that_does_not_describe_its_network_is_refused(change, saved):
    assert complaint(altered(saved, **change)).startswith("it does not describe its network")


@pytest.mark.parametrize(
    "change",
    [
        {"frame": None},
        {"frame": {"axes": "XYZ"}},
        {"frame": {"spacing": 3}},
        {"frame": {"axes": "RRS"}},
        {"frame": {"shape": [4, 4]}},
        {"frame": {"colour": "grey"}},
        {"frame": {"white": float("nan")}},
        {"frame": {"white": 0}},
        {"frame": {"white": "bright"}},
        {"frame": {"shape": [4.5, 4, 4]}},
        {"frame": {"shape": [10**6] * 3}},
        {"frame": {"shape": [4, 4, 4], "centre": [float("nan"), 1, 1]}},
        {"description": 5},
    ],
    ids=str,
)
def test_a_checkpoint_that_does_not_describe_its_images_is_refused(change, saved):
    assert complaint(altered(saved, **change)).startswith("it does not describe its images")


def test_weights_of_whole_numbers_are_refused(saved, network):
    weights = {name: weight.int() for name, weight in network.state_dict().items()}
    assert complaint(altered(saved, weights=weights)).startswith("its weights do not fit")


def test_weights_that_are_not_finite_are_refused(saved, network):
    network.flow.bias.data[0] = torch.nan
    assert "not all finite" in complaint(altered(saved, weights=network.state_dict()))


@pytest.mark.parametrize("name", ["encoder", "decoder"])
@pytest.mark.parametrize(
    "features",
    [[10**9, 10**9], [0, 4], [-4, 8], [4.5, 8], ["4"], [], [4] * 1000, 4, None],
    ids=str,
)
def test_absurd_numbers_of_features_are_refused(name, features, saved):
    assert complaint(altered(saved, **{name: features})).startswith("encoder and decoder are not")


def test_a_large_network_without_its_weights_is_not_allocated(saved):
    """It would take 4 GB."""
    wide = {"encoder": [1024] * 15, "decoder": [1024] * 16}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert complaint(altered(saved, **wide)).startswith("its weights do not fit")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
