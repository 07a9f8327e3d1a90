"""A training in a process of its own."""

import sys
from pathlib import Path

import pytest

from vxmprep.training.launch import TrainingFailedError, command, launch
from vxmprep.training.settings import TrainingSettings

HERE = [sys.executable, "-m", "vxmprep.training", "a.toml"]


def test_several_processes_are_started_by_slurm_within_its_jobs():
    many = TrainingSettings(devices=4, nodes=2, batch_size=8, threads=3)
    job = {"SLURM_JOB_ID": "7"}
    assert command(Path("a.toml"), many, job) == [
        "srun", "--nodes=2", "--ntasks-per-node=4", "--ntasks=8", "--cpus-per-task=3", *HERE
    ]  # fmt: skip
    assert command(Path("a.toml"), TrainingSettings(), job) == HERE
    assert command(Path("a.toml"), TrainingSettings(devices=2, batch_size=2), {}) == HERE


def test_a_failure_is_told_by_its_own_last_line(tmp_path, capfd):
    config = tmp_path / "a.toml"
    config.write_text("folder = 3")
    with pytest.raises(TrainingFailedError, match=r"^.*a.toml: atlas is missing"):
        launch(config, TrainingSettings())
    assert "missing" not in capfd.readouterr().err


def test_a_killed_training_says_what_to_change(tmp_path, monkeypatch):
    kill = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setattr("vxmprep.training.launch.command", lambda *_: kill)
    with pytest.raises(TrainingFailedError, match="killed by signal 9; if memory ran out"):
        launch(tmp_path / "a.toml", TrainingSettings())
