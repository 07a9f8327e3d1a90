"""What one of several processes does when another one fails."""

import pytest

from vxmprep.training import __main__ as command
from vxmprep.training.devices import zero_first
from vxmprep.training.errors import ToldElsewhereError


class Processes:
    """Two processes, one after the other, in the place of a Fabric."""

    world_size = 2

    def __init__(self) -> None:
        self.is_global_zero = True
        self.said = None

    def broadcast(self, value):
        if self.is_global_zero:
            self.said = [value]
        return self.said[0]


@pytest.mark.parametrize("kind", [OSError, RuntimeError, ValueError])
def test_whatever_fails_in_the_first_process_ends_the_others(kind):
    processes, problem = Processes(), kind("why")

    def fail():
        raise problem

    with pytest.raises(kind) as caught:
        zero_first(processes, fail)
    assert caught.value is problem
    processes.is_global_zero = False
    with pytest.raises(ToldElsewhereError, match="why"):
        zero_first(processes, lambda: pytest.fail("does its work"))


def test_the_others_work_once_the_first_has():
    processes = Processes()
    assert zero_first(processes, lambda: "first") == "first"
    processes.is_global_zero = False
    assert zero_first(processes, lambda: "second") == "second"


def test_an_error_of_another_process_is_said_with_its_number(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert command.main([str(tmp_path / "absent.toml")]) == 2
    assert capsys.readouterr().err.startswith("vxmprep.training: process 1: ")


def test_what_the_first_process_says_no_other_repeats(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ToldElsewhereError("why")

    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("vxmprep.training.config.read_config", fail)
    assert command.main([str(tmp_path / "any.toml")]) == 2
    assert capsys.readouterr().err == ""
