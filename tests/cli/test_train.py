"""The level train: prepared, trained and registered from one command."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from vxmprep.config import BUNDLED
from vxmprep.morph.checkpoint import load_checkpoint
from vxmprep.spatial.files import checksum

QUICK = (
    "--voxel-size", "2", "--iterations", "3", "--features", "4,4:4,4,4", "--validate-every", "2",
    "--learning-rate", "0.001",
)  # fmt: skip


def train(study, *more):
    return study.run(*QUICK, *more, level="train")


def card_of(study, name="cohort"):
    return json.loads((study.out / "models" / name / "card.json").read_text())


def test_all_is_done_again_but_nothing_twice(study, monkeypatch):
    done = []

    def process(plan, given, **more):
        for task in plan.tasks:
            done.extend(f"{task.scan.stem} {name}" for name in task.missing)
            for stage in task.stages:
                known = {str(path): checksum(path) for path in stage.inputs}
                task.record.finish(stage, files={}, checksums=known)
        return 0

    monkeypatch.setattr("vxmprep.cli.run._process", process)
    monkeypatch.setattr("vxmprep.cli.train.check_training", lambda plan: None)
    monkeypatch.setattr("vxmprep.cli.train.train", lambda plan, work, logs: BUNDLED)
    for _ in range(2):
        done.clear()
        assert study.run("participant", "--force", level="train") == 0
        assert len(done) == len(set(done)) == 2 * 7


def test_one_command_prepares_trains_and_registers_with_the_new_network(study, capfd):
    (study.bids / "participants.tsv").write_text(
        "participant_id\tsite\tperson\nsub-01\tA\tn/a\nsub-02\tB\tanna\n"
    )
    description = {"Name": "tiny", "BIDSVersion": "1.10.0", "License": "CC0"}
    (study.bids / "dataset_description.json").write_text(json.dumps(description))
    assert study.run("train", *QUICK) == 0
    folder = study.out / "models" / "cohort"
    network = load_checkpoint(folder / "model.pt")
    assert (network.frame.spacing, network.network.encoder) == (2, (4, 4))
    card = card_of(study)
    assert card["licence_of_the_scans"] == "CC0"
    assert [card["split"][part]["scans"] for part in ("train", "validation")] == [1, 1]
    config = tomllib.loads((folder / "config.toml").read_text())
    assert [scan.get("site") for scan in config["scans"]] == ["A", "B"]
    assert [scan["participant"] for scan in config["scans"]] == ["01", "anna"]
    assert [scan.get("labels") is None for scan in config["scans"]] == [False, True]
    sidecar = json.loads(next(study.out.glob("sub-01/anat/*_to-tiny_*image_xfm.json")).read_text())
    assert sidecar["Model"] == {"File": "models/cohort/model.pt", "SHA256": card["checksum"]}
    kept = [tomllib.loads(p.read_text()) for p in study.out.glob("logs/*/config.toml")]
    assert set(kept[0]["levels"]) == {"train", "participant"}
    assert len(kept) == 3
    assert all(config == kept[0] for config in kept)
    text = (study.out / "CITATION.md").read_text()
    assert "The network was trained with vxmprep on 1 scan of 1 participant" in text

    before = study.results()
    capfd.readouterr()
    assert study.run("train", *QUICK) == 0  # again: nothing is left to do
    said = capfd.readouterr().out
    assert "already trained" in said
    assert "done already: 2" in said
    assert study.run("--model", "cohort") == 0
    assert "done already: 2" in capfd.readouterr().out
    assert study.results() == before

    moved = study.root / "moved"  # the folder goes on by itself
    study.out.rename(moved)
    config = moved / "models" / "cohort" / "config.toml"
    config.write_text(config.read_text().replace("iterations = 3", "iterations = 4"))
    words = [sys.executable, "-m", "vxmprep.training", str(config)]
    assert subprocess.run(words, timeout=120).returncode == 0
    card = json.loads((moved / "models" / "cohort" / "card.json").read_text())
    assert card["progress"]["iteration"] == 4


def test_scans_that_are_not_prepared_may_be_left_out(study, capfd):
    assert train(study, "--only-prepared") == 1
    assert "FAILED train: no scan is prepared" in capfd.readouterr().err
    assert study.run("--participant-label", "01", level="prepare") == 0
    capfd.readouterr()
    assert train(study, "--only-prepared") == 0
    assert "left out of the training: sub-02: not prepared" in capfd.readouterr().out


def test_scans_that_are_excluded_flagged_or_failed_are_named_and_not_trained_on(study, capfd):
    for number, label in ((3, "03"), (4, "04")):
        study.tiny.scan(study.t1w(label), number)
    study.t1w("04").write_bytes(b"not an image")
    assert study.run(level="prepare") == 1
    path = study.out / "logs" / "sub-03_T1w.json"
    record = json.loads(path.read_text())
    record["stages"]["align tiny"]["flags"] = ["affine: scaled by 1.9"]
    path.write_text(json.dumps(record))
    exclude = study.root / "exclude.txt"
    exclude.write_text("# looked at by hand\nsub-02 moved a lot\n")
    assert train(study, "--exclude", str(exclude)) == 1
    left_out = card_of(study)["left_out"]
    assert left_out["sub-02"] == "exclude.txt: moved a lot"
    assert left_out["sub-03"] == "affine: scaled by 1.9"
    assert "04_T1w.nii.gz" in left_out["sub-04"]
    assert "left out of the training: sub-03: affine: scaled by 1.9" in capfd.readouterr().out
    assert card_of(study)["split"]["train"]["scans"] == 1


def test_a_list_of_the_whole_dataset_serves_a_part_of_it(study):
    exclude = study.root / "exclude.txt"
    exclude.write_text("sub-02\n")
    assert train(study, "--exclude", str(exclude), "--participant-label", "01") == 0
    assert card_of(study)["left_out"] == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--nodes", "2", "--batch-size", "2"], "--nodes 2: this is no Slurm job"),
        (["--segmentation-weight", "0.1", "--pairs", "subjects"], "1 of the scans have"),
        (["--segmentations", "atlas"], "--segmentations is 'atlas'; give a segmentation weight"),
        (["--memory-budget", "0.001"], "a training step takes"),
        (["--batch-size", "3", "--devices", "2"], "--batch-size is 3; give a multiple"),
        (["--features", "4,4:4"], "--features is ((4, 4), (4,)); give two lists"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_prepared(
    study, capfd, options, words
):
    assert train(study, *options) == 2
    said = capfd.readouterr().err
    assert words in said.splitlines()[-1]
    assert not list(study.out.glob("sub-*"))


def test_what_was_trained_is_neither_replaced_nor_needed_by_what_started_from_it(study, capfd):
    """One story, because each part of it begins with a trained network."""
    assert train(study) == 0
    before = (study.out / "models" / "cohort" / "model.pt").read_bytes()
    assert train(study, "--no-resume") == 2
    assert "models/cohort: a training was begun here; resume it, or" in capfd.readouterr().err
    assert train(study, "--integration-steps", "5") == 2
    assert "integration_steps was 7, is 5; choose another name" in capfd.readouterr().err
    (study.root / "split.json").write_text('{"train": "02"}')
    assert train(study, "--split", str(study.root / "split.json")) == 2
    assert "split.json: give lists of participants" in capfd.readouterr().err
    (study.root / "split.json").write_text('{"train": ["02"], "validation": ["01"]}')
    assert train(study, "--split", str(study.root / "split.json")) == 1
    said = capfd.readouterr().err
    assert "FAILED train: " in said
    assert "holds a model trained otherwise: split was" in said
    assert (study.out / "models" / "cohort" / "model.pt").read_bytes() == before
    assert train(study, "--split", str(study.root / "split.json"), "--model-name", "other") == 0
    assert card_of(study, "other")["split"]["train"]["participants"] == 1

    first = ("--initial-model", "cohort", "--model-name", "second")
    assert train(study, *first, "--features", "4,8:8,8,4", "--voxel-size", "1") == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith(f"vxmprep: --initial-model {study.out / 'models/cohort/model.pt'}: not")
    assert said.endswith("; give --features 4,4:4,4,4, --voxel-size 2")
    assert train(study, *first) == 0
    known = {"name": "cohort", "checksum": card_of(study)["checksum"]}
    assert card_of(study, "second")["initial_model"] == known
    text = (study.out / "CITATION.md").read_text()
    assert f"the network cohort (SHA-256 beginning {known['checksum'][:12]})" in text
    assert train(study, "--model-name", "second") == 2
    assert "initial_model was" in capfd.readouterr().err
    shutil.rmtree(study.out / "models" / "cohort")
    assert train(study, *first, "--iterations", "4") == 0
    assert card_of(study, "second")["progress"]["iteration"] == 4
    assert train(study, *first[:2], "--model-name", "third") == 2
    assert "cohort: no such file" in capfd.readouterr().err


def test_scans_without_segmentations_are_given_the_atlases(study):
    carried = ("--segmentations", "atlas", "--segmentation-weight", "0.1")
    assert train(study, *carried, "--participant-label", "02") == 0
    card = card_of(study)
    assert card["split"]["train"]["labelled scans"] == 1
    assert card["measured"]["validation"]["model"][0]["dice"]
    text = (study.out / "CITATION.md").read_text()
    assert "0.1 times 1 minus the soft Dice overlap of segmentations. Those of the scans" in text
    assert "no evaluation against anatomy" in text


def test_sigterm_ends_the_training_within_seconds_and_the_same_command_goes_on(study):
    assert study.run(level="prepare") == 0
    many = [*QUICK, "--iterations", "100000", "--checkpoint-every", "5"]
    words = [sys.executable, "-m", "vxmprep", *study.arguments(*many, level="train")]
    table = study.out / "models" / "cohort" / "iterations.csv"
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        waited = time.monotonic()
        while not (table.is_file() and len(table.read_text().splitlines()) > 5):
            assert time.monotonic() - waited < 120
            assert running.poll() is None, running.stdout.read().decode()
            time.sleep(0.1)
        running.send_signal(signal.SIGTERM)
        said = running.communicate(timeout=60)[0].decode()
    assert running.returncode == 143, said
    assert "the same command goes on" in said
    assert not _trainings(study)
    done = len(table.read_text().splitlines()) - 1
    assert train(study, "--iterations", str(done + 2)) == 0
    assert card_of(study)["progress"]["iteration"] == done + 2


def _trainings(study):
    """Find processes that still train."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"vxmprep.training" in words and str(study.root).encode() in b" ".join(words):
                found.append(process.name)
    return found
