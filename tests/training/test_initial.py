"""Trainings that start from a network that is there already."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vxmprep.morph.checkpoint import load_checkpoint, save_checkpoint
from vxmprep.morph.field import warp
from vxmprep.morph.frame import Frame
from vxmprep.morph.losses import local_ncc
from vxmprep.morph.model import Model
from vxmprep.morph.network import VxmNet
from vxmprep.morph.original import OriginalNet
from vxmprep.morph.predict import predict
from vxmprep.spatial.files import checksum
from vxmprep.spatial.images import load
from vxmprep.training.config import read_config
from vxmprep.training.errors import TrainingError
from vxmprep.training.folder import ModelFolder
from vxmprep.training.initial import find_initial
from vxmprep.training.logs import read_table
from vxmprep.training.run import run
from vxmprep.training.settings import TrainingSettings

SMALL = ((4, 8), (8, 8, 4))
SETTINGS = {
    "features": SMALL,
    "learning_rate": 1e-4,
    "iterations": 4,
    "validate_every": 2,
    "checkpoint_every": 2,
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
}


def saved(path: Path, network: VxmNet | None = None, frame: Frame | None = None) -> Path:
    """Write a network that moves what it is given."""
    torch.manual_seed(3)
    network = network or VxmNet(*SMALL)
    torch.nn.init.constant_(network.flow.bias, 0.5)
    path.parent.mkdir(exist_ok=True)
    save_checkpoint(Model(network, frame or Frame(), {}), path)
    return path


@pytest.fixture
def start(tmp_path) -> Path:
    return saved(tmp_path / "theirs" / "model.pt")


def from_there(brains, folder: Path, start: Path | None, **settings) -> Path:
    extra = "" if start is None else f'initial_model = "{start}"'
    return brains.toml(folder, extra=extra, **{**SETTINGS, **settings})


def train(path: Path, tell=print) -> Path:
    return run(read_config(path), tell)


def state(folder: Path) -> dict:
    return torch.load(folder / "last.ckpt", weights_only=True)


def test_before_the_first_iteration_it_is_that_network(brains, tmp_path, start):
    train(from_there(brains, tmp_path / "m", start))
    model, scans = load_checkpoint(start), {scan.participant: scan for scan in brains.scans}
    fixed, found, unmoved = read(brains.image), [], []
    for person in json.loads((tmp_path / "m" / "split.json").read_text())["validation"]:
        moving = read(scans[person].image)
        found.append(local_ncc(fixed, warp(moving, predict(model, moving, fixed))))
        unmoved.append(local_ncc(fixed, moving))
    measured = read_table(tmp_path / "m" / "validations.csv")["ncc"][0]
    assert measured == pytest.approx(np.mean(found), abs=1e-4)
    assert abs(measured - np.mean(unmoved)) > 1e-2


def read(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(load(path).dataobj) / 255)[None, None]


def test_model_card_and_folder_name_it(brains, tmp_path, start):
    path = train(from_there(brains, tmp_path / "m", start))
    known = {"name": "theirs", "checksum": checksum(start)}
    assert load_checkpoint(path).description["initial_model"] == known
    assert json.loads((tmp_path / "m" / "card.json").read_text())["initial_model"] == known
    assert f"the network theirs (SHA-256 of its file: `{known['checksum']}`)" in (
        tmp_path / "m" / "README.md"
    ).read_text(encoding="utf-8")
    kept = json.loads((tmp_path / "m" / "training.json").read_text())
    assert kept["initial_model"] == known["checksum"]


def test_another_start_is_another_training(brains, tmp_path, start, refused, told):
    train(from_there(brains, tmp_path / "m", start))
    alone = from_there(brains, tmp_path / "m", None)
    assert "initial_model was" in refused(TrainingError, train, alone, told)
    other = saved(tmp_path / "other.pt", VxmNet(*SMALL, steps=7))
    other.write_bytes(other.read_bytes() + b" ")
    message = refused(TrainingError, train, from_there(brains, tmp_path / "m", other), told)
    assert f"initial_model was {checksum(start)[:10]}" in message
    train(from_there(brains, tmp_path / "n", None))
    other = from_there(brains, tmp_path / "n", start)
    assert "initial_model was not given, is" in refused(TrainingError, train, other, told)
    assert not told  # before anything is packed


def test_a_training_of_before_there_was_a_choice_goes_on(brains, tmp_path):
    train(from_there(brains, tmp_path / "m", None))
    identity = tmp_path / "m" / "training.json"
    known = json.loads(identity.read_text())
    assert known.pop("initial_model") is None
    identity.write_text(json.dumps(known))
    train(from_there(brains, tmp_path / "m", None, iterations=6))
    assert state(tmp_path / "m")["progress"]["iteration"] == 6


def test_going_on_needs_the_file_no_more_and_is_the_same_to_the_bit(brains, tmp_path, start):
    train(from_there(brains, tmp_path / "whole", start, iterations=8))
    train(from_there(brains, tmp_path / "m", start))
    known = checksum(start)
    start.unlink()
    path = train(from_there(brains, tmp_path / "m", start, iterations=8))
    one, other = (state(tmp_path / name)["network"] for name in ("m", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    described = load_checkpoint(path).description["initial_model"]
    assert described == {"name": "theirs", "checksum": known}


def test_a_training_that_has_no_state_yet_needs_the_file(brains, tmp_path, start, refused):
    train(from_there(brains, tmp_path / "m", start))
    (tmp_path / "m" / "last.ckpt").unlink()
    start.unlink()
    message = refused(TrainingError, train, from_there(brains, tmp_path / "m", start))
    assert message.startswith(f"{start}: no such file")


@pytest.mark.parametrize(
    ("network", "frame", "said"),
    [
        (VxmNet(), Frame(), "not the network of features = [[4, 8], [8, 8, 4]]; give features = "),
        (VxmNet(*SMALL, steps=5), Frame(), "integration_steps = 7; give integration_steps = 5"),
        (
            VxmNet(*SMALL, half_resolution=False),
            Frame(spacing=2),
            'field_resolution = "half", voxel_size = 1; give field_resolution = "full", '
            "voxel_size = 2",
        ),
        (VxmNet(*SMALL, dims=2), Frame(), "of a kind that is not trained here"),
        (VxmNet(*SMALL, output_stride=2), Frame(), "of a kind that is not trained here"),
        (VxmNet(*SMALL), Frame(axes="LIA"), "of a kind that is not trained here"),
        (OriginalNet(*SMALL, outside="zeros"), Frame(), "of a kind that is not trained here"),
    ],
)
def test_another_network_than_that_of_the_settings_is_refused(
    network, frame, said, tmp_path, refused
):
    path, folder = saved(tmp_path / "other.pt", network, frame), ModelFolder(tmp_path / "m")
    settings = TrainingSettings(features=SMALL)
    message = refused(TrainingError, find_initial, path, settings, folder)
    assert message.startswith(f"{path}: ")
    assert said in message


def test_names_of_features_are_said_where_they_have_one(tmp_path, refused):
    path, folder = saved(tmp_path / "other.pt", VxmNet()), ModelFolder(tmp_path / "m")
    message = refused(TrainingError, find_initial, path, TrainingSettings(features="x2"), folder)
    assert 'the network of features = "x2"; give features = "vxm"' in message


def test_what_is_no_network_is_refused_before_anything_is_packed(
    brains, tmp_path, start, refused, told
):
    train(from_there(brains, tmp_path / "m", start))
    for path in (brains.image, tmp_path / "m" / "best.ckpt", tmp_path / "absent.pt"):
        message = refused(TrainingError, train, from_there(brains, tmp_path / "n", path), told)
        assert message.startswith(f"{path}: ")
    assert not told
