"""Trainings from their configuration to their model."""

import contextlib
import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vxmprep.evaluation.overlap import overlaps
from vxmprep.morph.checkpoint import load_checkpoint
from vxmprep.morph.predict import predict
from vxmprep.spatial.files import checksum
from vxmprep.spatial.images import load
from vxmprep.training import __main__ as command
from vxmprep.training.config import read_config
from vxmprep.training.errors import Diverged, Interrupted, TrainingError
from vxmprep.training.folder import ModelFolder
from vxmprep.training.logs import read_table
from vxmprep.training.objective import Objective
from vxmprep.training.run import run

TINY = {
    "features": [[4, 8], [8, 8, 4]],
    "learning_rate": 1e-3,
    "iterations": 6,
    "validate_every": 3,
    "checkpoint_every": 2,
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
    "structures": [2, 3, 4, 10, 41, 42, 43, 49],
}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["network"]


def done(folder: Path) -> int:
    return torch.load(folder / "last.ckpt", weights_only=True)["progress"]["iteration"]


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return all(torch.equal(first[name], second[name]) for name in first)


def train(path: Path, tell=print) -> Path:
    return run(read_config(path), tell)


@pytest.fixture(scope="module")
def trained(brains, tmp_path_factory) -> tuple[Path, list[str]]:
    """A training long enough to learn, with segmentations."""
    folder = tmp_path_factory.mktemp("models") / "first"
    settings = {**TINY, "iterations": 45, "learning_rate": 1e-2, "validate_every": 15}
    extra = 'licence = "CC0"'
    told = []
    train(brains.toml(folder, extra=extra, segmentation_weight=0.1, **settings), told.append)
    return folder, told


def test_the_loss_falls_and_overlap_rises(trained):
    folder, _ = trained
    loss = read_table(folder / "iterations.csv")["loss"]
    assert len(loss) == 45
    assert np.mean(loss[-8:]) < np.mean(loss[:8]) - 0.02
    validation = read_table(folder / "validations.csv")
    assert validation["iteration"] == [0, 15, 30, 45]
    assert max(validation["dice"]) > validation["dice"][0] + 0.005
    assert max(validation["ncc"]) > validation["ncc"][0] + 0.02


def test_tensorboard_has_what_the_tables_have(trained):
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in (trained[0] / "tensorboard").iterdir():
        data = path.read_bytes()
        while data:  # length, its checksum, an event, its checksum
            size = int.from_bytes(data[:8], "little")
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    losses = {
        event.step: value.simple_value
        for event in found
        for value in event.summary.value
        if value.tag == "training/loss"
    }
    table = read_table(trained[0] / "iterations.csv")
    assert list(losses) == table["iteration"]
    np.testing.assert_allclose(list(losses.values()), table["loss"], rtol=1e-4)


def test_parts_add_up_to_the_loss(trained):
    found = read_table(trained[0] / "iterations.csv")
    parts = np.sum([found[name] for name in ("similarity", "smoothness", "segmentation")], axis=0)
    np.testing.assert_allclose(parts, found["loss"], rtol=1e-4)
    assert min(found["segmentation"]) > 0


def test_dice_before_training_is_that_of_the_affine_alignment(trained, brains):
    folder, _ = trained
    split = json.loads((folder / "split.json").read_text())
    names = {scan.participant: scan for scan in brains.scans}
    fixed = np.asarray(load(brains.labels, np.int32).dataobj)
    means = []
    for person in split["validation"]:
        moving = np.asarray(load(names[person].labels, np.int32).dataobj)
        kept = json.loads((folder / "card.json").read_text())
        structures = [int(k) for k in kept["measured"]["validation"]["model"][0]["dice"]]
        found = overlaps(fixed, moving)
        means.append(np.mean([found[k].dice for k in structures]))
    measured = read_table(folder / "validations.csv")["dice"][0]
    assert measured == pytest.approx(np.mean(means), abs=1e-4)


def test_the_model_loads_and_registers_as_it_was_measured(trained, brains):
    folder, _ = trained
    model = load_checkpoint(folder / "model.pt")
    card = json.loads((folder / "card.json").read_text())
    assert card["checksum"] == checksum(folder / "model.pt")
    assert model.description["training"]["segmentation_weight"] == 0.1
    assert model.description["iteration"] == card["iteration"] > 0
    measured = card["measured"]["test"]["model"][0]
    scan = next(scan for scan in brains.scans if scan.name == measured["moving"])
    images = [
        torch.from_numpy(np.asarray(load(path).dataobj) / 255)[None, None]
        for path in (scan.image, brains.image)
    ]
    from vxmprep.morph.field import warp
    from vxmprep.morph.losses import local_ncc

    warped = warp(images[0], predict(model, *images))
    assert float(local_ncc(images[1], warped)) == pytest.approx(measured["ncc"], abs=1e-4)


def test_the_card_tells_what_a_user_of_the_model_must_know(trained):
    folder, _ = trained
    card = (folder / "README.md").read_text()
    for said in (
        "# first",
        "Licence of the scans: CC0",
        "| train | 6 | 6 | 6 |",
        "| validation | Dice |",
        "| segmentation_weight | 0.1 |",
        "| torch | ",
        "Cerebral-White-Matter",
        "Scans that were left out: 0.",
    ):
        assert said in card
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_user_is_told_what_happens(trained):
    _, told = trained
    text = "\n".join(told)
    for said in (
        "cohort: 8 scans",
        "split: train 6",
        "less if these",
        "validation after 0",
        "waited for",
    ):
        assert said in text


def test_a_finished_training_is_not_done_again_but_can_be_prolonged(brains, tmp_path, told):
    path = brains.toml(tmp_path / "m", **TINY)
    train(path)
    files = [tmp_path / "m" / name for name in ("last.ckpt", "model.pt", "card.json")]
    before = [file.stat().st_mtime_ns for file in files]
    train(path, told)
    assert "already trained" in told.text
    assert [file.stat().st_mtime_ns for file in files] == before
    train(brains.toml(tmp_path / "m", **{**TINY, "iterations": 8}))
    train(brains.toml(tmp_path / "whole", **{**TINY, "iterations": 8}))
    assert same_weights(tmp_path / "m" / "last.ckpt", tmp_path / "whole" / "last.ckpt")


def test_the_configuration_that_is_kept_goes_on_without_the_users_split(brains, tmp_path):
    split = tmp_path / "mine.json"
    split.write_text('{"train": ["01", "02"], "validation": ["03"]}')
    extra = f'split = "{split}"\nresume = false'
    folder = tmp_path / "m"
    train(brains.toml(folder, brains.scans[:3], extra=extra, **{**TINY, "iterations": 2}))
    split.unlink()
    kept = folder / "config.toml"
    kept.write_text(kept.read_text().replace("iterations = 2", "iterations = 3"))
    train(kept)
    assert done(folder) == 3


def test_killed_and_resumed_gives_the_weights_of_never_stopped(brains, tmp_path):
    settings = {**TINY, "iterations": 18, "checkpoint_every": 3, "validate_every": 8}
    settings |= {"augmentation": 0.5, "pairs": "subjects", "segmentation_weight": 0.1}
    path = brains.toml(tmp_path / "killed", **settings)
    process = subprocess.Popen(
        [sys.executable, "-m", "vxmprep.training", path],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    last = tmp_path / "killed" / "last.ckpt"
    limit = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < done(last.parent) < 18
    train(path)
    train(brains.toml(tmp_path / "whole", **settings))
    assert same_weights(last, tmp_path / "whole" / "last.ckpt")
    tables = [
        [row[:4] for row in csv.reader((tmp_path / name / "iterations.csv").open())]
        for name in ("killed", "whole")
    ]
    assert tables[0] == tables[1]


def test_a_signal_stops_it_with_its_state_written(brains, tmp_path):
    def tell(message: str) -> None:
        if message.startswith("validation after 3"):
            os.kill(os.getpid(), signal.SIGTERM)

    path = brains.toml(tmp_path / "m", **TINY)
    with pytest.raises(Interrupted) as caught:
        train(path, tell)
    assert (caught.value.signal, caught.value.iteration) == (signal.SIGTERM, 3)
    train(path)
    train(brains.toml(tmp_path / "whole", **TINY))
    assert same_weights(tmp_path / "m" / "last.ckpt", tmp_path / "whole" / "last.ckpt")


def test_two_processes_learn_as_one_with_the_whole_batch(brains, tmp_path):
    settings = {**TINY, "iterations": 3, "batch_size": 2, "segmentation_weight": 0.1}
    two = brains.toml(tmp_path / "two", devices=2, **settings)
    subprocess.run([sys.executable, "-m", "vxmprep.training", two], check=True, timeout=200)
    train(brains.toml(tmp_path / "one", **settings))
    moments = []
    for name in ("one", "two"):
        state = torch.load(tmp_path / name / "last.ckpt", weights_only=True)
        moments.append([each["exp_avg"] for each in state["optimizer"]["state"].values()])
    for one, other in zip(*moments, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


def test_divergence_ends_it_with_the_best_network(brains, tmp_path, monkeypatch):
    original, count = Objective.__call__, []

    def spoiled(self, network, batch):
        losses = original(self, network, batch)
        count.append(1)
        spoil = float("nan") if len(count) > 3 + 4 else 1.0  # three are for the estimate of time
        return replace(losses, similarity=losses.similarity * spoil)

    monkeypatch.setattr(Objective, "__call__", spoiled)
    with pytest.raises(Diverged, match="iteration 5: the loss is no longer finite"):
        train(brains.toml(tmp_path / "m", **TINY))
    assert done(tmp_path / "m") == 4
    assert all(weight.isfinite().all() for weight in weights(tmp_path / "m/last.ckpt").values())
    load_checkpoint(tmp_path / "m" / "model.pt")


def test_weights_that_diverged_are_not_kept(brains, tmp_path):
    """The first step is so long that the second has no finite loss."""
    path = brains.toml(tmp_path / "m", **{**TINY, "learning_rate": 1e30})
    for _ in range(2):
        with pytest.raises(Diverged, match="the loss is no longer finite"):
            train(path)
    model = load_checkpoint(tmp_path / "m" / "model.pt").network
    assert all(weight.abs().max() < 100 for weight in model.parameters())
    assert not (tmp_path / "m" / "last.ckpt").exists()


def test_a_model_that_was_removed_is_made_again(brains, tmp_path):
    path = brains.toml(tmp_path / "m", **TINY)
    train(path)
    before = load_checkpoint(tmp_path / "m" / "model.pt").network.state_dict()
    (tmp_path / "m" / "model.pt").unlink()
    train(path)
    after = load_checkpoint(tmp_path / "m" / "model.pt").network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_plateau_ends_it(brains, tmp_path, told):
    settings = {**TINY, "iterations": 50, "learning_rate": 1e-12, "patience": 2}
    train(brains.toml(tmp_path / "m", **settings), told)
    assert (
        torch.load(tmp_path / "m" / "last.ckpt", weights_only=True)["progress"]["iteration"] == 6
    )
    assert "ended by plateau" in told.text


def test_a_folder_of_other_settings_is_refused_with_what_differs(brains, tmp_path, refused):
    train(brains.toml(tmp_path / "m", **TINY))
    other = brains.toml(tmp_path / "m", **{**TINY, "learning_rate": 1e-2})
    message = refused(TrainingError, train, other)
    assert "learning_rate was 0.001, is 0.01" in message
    fewer = brains.toml(tmp_path / "m", brains.scans[:5], **TINY)
    assert "cohort was" in refused(TrainingError, train, fewer)
    again = brains.toml(tmp_path / "m", brains.scans[:5], extra="resume = false", **TINY)
    told = []
    message = refused(TrainingError, train, again, told.append)
    assert "resume it, or choose another name" in message
    assert not told  # before anything is packed


def test_a_folder_of_other_settings_keeps_its_packed_scans(brains, tmp_path, refused, told):
    train(brains.toml(tmp_path / "m", **TINY))
    other = brains.toml(tmp_path / "m", brains.scans[:5], **{**TINY, "seed": 1})
    assert "seed was 0, is 1" in refused(TrainingError, train, other, told)
    assert "packing" not in told.text


def test_a_damaged_state_is_replaced_by_the_best_one(brains, tmp_path, told):
    settings = {**TINY, "validate_every": 2}
    train(brains.toml(tmp_path / "m", **settings))
    (tmp_path / "m" / "last.ckpt").write_bytes(b"")
    longer = brains.toml(tmp_path / "m", **{**settings, "iterations": 8})
    train(longer, told)
    assert "last.ckpt: damaged; going on from best.ckpt" in told.text
    train(brains.toml(tmp_path / "whole", **{**settings, "iterations": 8}))
    assert same_weights(tmp_path / "m" / "last.ckpt", tmp_path / "whole" / "last.ckpt")
    for name in ("last.ckpt", "best.ckpt"):
        (tmp_path / "m" / name).write_bytes(b"")
    with pytest.raises(TrainingError, match=r"last\.ckpt: not a state"):
        train(longer)


def test_a_last_state_damaged_at_the_very_end_is_replaced_too(brains, tmp_path, told):
    settings = {**TINY, "iterations": 20, "learning_rate": 1e-2, "validate_every": 20}
    path = brains.toml(tmp_path / "m", **settings)
    train(path)
    best, last = tmp_path / "m" / "best.ckpt", tmp_path / "m" / "last.ckpt"
    assert torch.load(best, weights_only=True)["progress"]["iteration"] == 20
    last.write_bytes(b"")
    (tmp_path / "m" / "model.pt").unlink()
    train(path, told)
    assert "ended by iterations" in told.text
    assert same_weights(last, best)


def test_a_signal_while_scans_are_packed_ends_it_at_once(brains, tmp_path, monkeypatch, capsys):
    def tell(message: str) -> None:
        if message.startswith("packing"):
            os.kill(os.getpid(), signal.SIGTERM)

    path = brains.toml(tmp_path / "m", **TINY)
    monkeypatch.setattr(command, "_tell", tell)
    assert command.main([str(path)]) == 143
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "m" / "cohort").iterdir()] == ["lock"]


def test_what_the_first_of_two_processes_cannot_use_ends_both(brains, tmp_path):
    scans = [replace(scan, labels=None) for scan in brains.scans]
    settings = {**TINY, "segmentation_weight": 0.1, "devices": 2, "batch_size": 2}
    path = brains.toml(tmp_path / "m", scans, **settings)
    words = [sys.executable, "-m", "vxmprep.training", path]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 2
    assert ended.stderr.count("vxmprep.training: segmentation_weight is above 0, but no") == 1


def test_a_few_labelled_scans_among_pairs_of_subjects_train(brains, tmp_path, told):
    scans = [*brains.scans[:2], *(replace(scan, labels=None) for scan in brains.scans[2:])]
    settings = {**TINY, "segmentation_weight": 0.1, "pairs": "subjects", "iterations": 1}
    train(brains.toml(tmp_path / "m", scans, **settings), told)
    assert "segmentations: 2 of 6 training scans have labels" in told.text


def test_labels_that_cannot_be_used_are_on_the_card(brains, tmp_path):
    scans = [replace(brains.scans[0], labels=tmp_path / "absent.nii.gz"), *brains.scans[1:]]
    train(brains.toml(tmp_path / "m", scans, **TINY))
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert "absent.nii.gz" in card["without_labels"]["sub-01"]
    text = (tmp_path / "m" / "README.md").read_text()
    assert "Scans that were used without the labels given: 1.\n- sub-01: " in text


def test_a_small_loss_that_falls_slowly_is_no_plateau(brains, tmp_path):
    """Each validation gains less than 1e-4, but more than that share of the loss."""
    scans = [replace(scan, labels=None) for scan in brains.scans]
    settings = {**TINY, "image_loss": "mse", "learning_rate": 1e-4, "patience": 1}
    train(brains.toml(tmp_path / "m", scans, **{**settings, "iterations": 12}))
    loss = read_table(tmp_path / "m" / "validations.csv")["loss"]
    assert len(loss) == 5
    assert max(-np.diff(loss)) < 1e-4


def test_one_scan_is_trained_and_validated_on(brains, tmp_path, told):
    train(brains.toml(tmp_path / "m", brains.scans[:1], **TINY), told)
    assert "only participant" in told.text
    card = (tmp_path / "m" / "README.md").read_text()
    assert "| validation | 1 | 1 | 1 |" in card


def test_without_labels_the_loss_is_what_counts(brains, tmp_path):
    scans = [replace(scan, labels=None) for scan in brains.scans]
    settings = {**TINY, "image_loss": "mse", "integration_steps": 0, "field_resolution": "full"}
    train(brains.toml(tmp_path / "m", scans, **settings))
    table = (tmp_path / "m" / "validations.csv").read_text()
    assert ",nan," in table
    assert "Dice" not in (tmp_path / "m" / "README.md").read_text()


def test_segmentations_that_nobody_has_are_refused(brains, tmp_path, refused):
    scans = [replace(scan, labels=None) for scan in brains.scans]
    path = brains.toml(tmp_path / "m", scans, **{**TINY, "segmentation_weight": 0.01})
    assert "give labels" in refused(TrainingError, train, path)


def test_a_configuration_that_is_wrong_is_one_line_and_code_2(brains, tmp_path, capsys):
    path = brains.toml(tmp_path / "m", **{**TINY, "lambda": 1})
    assert command.main([str(path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "unknown setting 'lambda'" in said
    assert command.main([str(tmp_path / "absent.toml")]) == 2
    assert command.main([]) == 2


def test_pairs_that_go_one_at_a_time_give_the_gradient_of_all(brains, tmp_path):
    settings = {**TINY, "iterations": 2, "batch_size": 4, "segmentation_weight": 0.1}
    train(brains.toml(tmp_path / "whole", **settings))
    told = []
    train(brains.toml(tmp_path / "parts", memory_budget=0.01, **settings), told.append)
    assert any("1 of 4 pairs at a time" in line for line in told)
    moments = []
    for name in ("whole", "parts"):
        state = torch.load(tmp_path / name / "last.ckpt", weights_only=True)
        moments.append([each["exp_avg"] for each in state["optimizer"]["state"].values()])
    for one, other in zip(*moments, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


def test_a_full_disk_leaves_the_last_state_and_is_told(brains, tmp_path, monkeypatch, capsys):
    original = Path.write_bytes

    def full(self, data):
        if self.name.endswith("last.ckpt") and (tmp_path / "m" / "last.ckpt").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return original(self, data)

    path = brains.toml(tmp_path / "m", **TINY)
    monkeypatch.setattr(Path, "write_bytes", full)
    assert command.main([str(path)]) == 1
    assert "no space left on device; once that is mended" in capsys.readouterr().err
    assert done(tmp_path / "m") == 2
    monkeypatch.undo()
    assert command.main([str(path)]) == 0
    train(brains.toml(tmp_path / "whole", **TINY))
    assert same_weights(tmp_path / "m" / "last.ckpt", tmp_path / "whole" / "last.ckpt")


def test_a_training_waits_for_another_that_is_at_work_in_its_folder(brains, tmp_path):
    other, told = contextlib.ExitStack(), []
    other.enter_context(ModelFolder(tmp_path / "m").locked())

    def tell(message: str) -> None:
        told.append(message)
        if message.startswith("waiting for the end of another training"):
            other.close()

    train(brains.toml(tmp_path / "m", **TINY), tell)
    assert told[0].startswith("waiting for the end of another training")
    assert done(tmp_path / "m") == TINY["iterations"]
