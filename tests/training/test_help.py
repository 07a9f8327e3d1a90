"""What ``python -m vxmprep.training --help`` tells."""

from dataclasses import fields

from vxmprep.training.__main__ import main
from vxmprep.training.config import ATLAS_KEYS, KEYS, SCAN_KEYS
from vxmprep.training.settings import TrainingSettings


def test_help_names_every_key_and_every_setting(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    names = {item.name for item in fields(TrainingSettings)} | KEYS | ATLAS_KEYS | SCAN_KEYS
    assert not [name for name in sorted(names) if name not in told]


def test_wrong_arguments_are_told_in_one_line(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err == "usage: python -m vxmprep.training CONFIG\n"
