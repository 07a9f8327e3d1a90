"""The file that says what to train on."""

from dataclasses import replace
from pathlib import Path

import pytest

from vxmprep.training.config import read_config, write_config
from vxmprep.training.errors import TrainingError

MINIMAL = """
folder = "models/mine"
[atlas]
name = "small"
image = "atlas.nii.gz"
mask = "/data/mask.nii.gz"
[[scans]]
name = "sub-01"
participant = "01"
image = "sub-01.nii.gz"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "c.toml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file_and_the_rest_has_defaults(tmp_path):
    config = read_config(written(tmp_path, MINIMAL))
    assert config.folder == tmp_path / "models" / "mine"
    assert config.cohort == config.folder / "cohort"
    assert config.atlas.image == tmp_path / "atlas.nii.gz"
    assert config.atlas.mask == Path("/data/mask.nii.gz")
    assert config.scans[0].image == tmp_path / "sub-01.nii.gz"
    assert (config.atlas.labels, config.scans[0].labels, config.scans[0].site) == (None,) * 3
    assert config.resume
    assert config.settings.iterations == 150_000


def test_everything_can_be_said(tmp_path):
    said = MINIMAL.replace("[atlas]", 'licence = "CC0"\nsplit = "s.json"\nresume = false\n[atlas]')
    said = said.replace("[atlas]", 'initial_model = "other/model.pt"\n[atlas]', 1)
    said += (
        'site = "A"\nlabels = "l.nii.gz"\n[left_out]\nsub-02 = "flagged"\n[settings]\nseed = 3\n'
    )
    config = read_config(written(tmp_path, said))
    assert (config.licence, config.resume, config.settings.seed) == ("CC0", False, 3)
    assert config.split == tmp_path / "s.json"
    assert config.initial_model == tmp_path / "other" / "model.pt"
    write_config(config, tmp_path / "models" / "again.toml")
    again = read_config(tmp_path / "models" / "again.toml")
    assert replace(again, settings=config.settings) == config
    assert config.scans[0].site == "A"
    assert config.left_out == {"sub-02": "flagged"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("folder =", "folders =", "unknown key 'folders'"),
        ('folder = "models/mine"', "", "folder is missing"),
        ("mask =", "brain =", "atlas: unknown key 'brain'"),
        ('participant = "01"', "", "scan 1: participant is missing"),
        ('participant = "01"', "participant = 1", "scan 1: participant is 1"),
        ("[[scans]]", "[[scan]]", "unknown key 'scan'"),
        ("[atlas]", "[atlas", "not TOML"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(before, after, said, tmp_path, refused):
    path = written(tmp_path, MINIMAL.replace(before, after))
    message = refused(TrainingError, read_config, path)
    assert message.startswith(str(path))
    assert said in message
