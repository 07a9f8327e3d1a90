"""Options from a TOML file, under those of the command line."""

import dataclasses

import pytest
import tomli_w

from vxmprep.cli.parser import parse


@pytest.fixture
def places(tmp_path) -> dict[str, str]:
    (tmp_path / "bids").mkdir()
    return {"bids_dir": str(tmp_path / "bids"), "output_dir": str(tmp_path / "out")}


@pytest.fixture
def write(tmp_path):
    """Write a configuration and give the words that choose it."""

    def to(text: str | dict) -> list[str]:
        path = tmp_path / "config.toml"
        # As Windows writes text, with a mark at its beginning.
        path.write_text(text if isinstance(text, str) else tomli_w.dumps(text), "utf-8-sig")
        return ["--config-file", str(path)]

    return to


def words(places: dict[str, str]) -> list[str]:
    return [places["bids_dir"], places["output_dir"], "participant"]


def complaint(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as leave:
        parse(arguments)
    assert leave.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_file_gives_options_that_the_command_line_does_not(places, write):
    options = write({"refine_iterations": 50, "no_n4": True, "affine": "none"})
    settings = parse([*words(places), *options, "--affine", "greedy"])
    assert settings.refine_iterations == 50
    assert not settings.n4
    assert settings.affine == "greedy"


def test_lists_of_the_command_line_replace_those_of_the_file(places, write):
    options = write({"participant_label": ["01", "02"], "session_label": "a"})
    settings = parse([*words(places), *options, "--participant-label", "03"])
    assert settings.participant_label == ("03",)
    assert settings.session_label == ("a",)


def test_a_file_may_say_what_and_where_too(places, write):
    settings = parse(write({**places, "levels": ["prepare", "participant"]}))
    assert str(settings.bids_dir) == places["bids_dir"]
    assert settings.levels == ("prepare", "participant")


def test_the_order_of_keys_does_not_matter(places, write):
    options = write({"levels": ["participant"], **dict(reversed(places.items()))})
    settings = parse(options)
    assert (str(settings.bids_dir), str(settings.output_dir)) == tuple(places.values())
    assert settings.levels == ("participant",)


def test_what_a_run_leaves_behind_gives_the_same_settings(places, write, tmp_path):
    (tmp_path / "fs").mkdir()
    (tmp_path / "net.pt").touch()
    (tmp_path / "a=b").mkdir()
    given = parse(
        [
            *words(places), "--participant-label", "01", "sub-02", "-d",
            f"x={tmp_path / 'fs'}", f"y={tmp_path / 'a=b'}",
            "--fs-subjects-dir", str(tmp_path / "fs"), "--no-n4", "--nprocs", "3", "-v", "-v",
            "--model", str(tmp_path / "net.pt"), "--mem-mb", "4000", "--omp-nthreads", "2",
            "--force", "--resource-monitor", "--skip-bids-validation", "--stop-on-first-crash",
            "--skull-strip", "none", "--refine-iterations", "0", "--atlas-name", "other",
            "-w", str(tmp_path / "-w"),
        ]
    )  # fmt: skip
    again = parse(write(given.as_options()))
    assert dataclasses.asdict(again) == dataclasses.asdict(given)


def test_settings_of_a_training_come_back(places, write, tmp_path):
    (tmp_path / "out.txt").write_text("sub-01\n")
    given = parse(
        [
            *words(places)[:2], "train", "--features", "8,16:16,8,8", "--structures", "3", "42",
            "--smoothness-weight", "0.5", "--final-learning-rate", "1e-5", "--voxel-size", "2",
            "--memory-budget", "2.5", "--exclude", str(tmp_path / "out.txt"), "--no-resume",
            "--model-name", "mine", "--nprocs", "3", "--devices", "2", "--batch-size", "4",
        ]
    )  # fmt: skip
    assert given.training.features == ((8, 16), (16, 8, 8))
    assert (given.training.structures, given.training.threads) == ((3, 42), 1)
    assert (given.resume, given.model_name) == (False, "mine")
    assert parse(write(given.as_options())) == given


def test_the_defaults_of_a_run_come_back_too(places, write):
    given = parse(words(places))
    assert dataclasses.asdict(parse(write(given.as_options()))) == dataclasses.asdict(given)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"refine_iteration": 50}, "unknown key 'refine_iteration'"),
        ({"config_file": "x"}, "unknown key 'config_file'"),
        ({"n4": True}, "unknown key 'n4'"),
        ({"refine_iterations": "many"}, "many is not a whole number"),
        ({"refine_iterations": -1}, "-1 is less than 0"),
        ({"refine_iterations": True}, "refine_iterations is one value"),
        ({"refine_iterations": [1]}, "refine_iterations is one value"),
        ({"participant_label": 1}, "participant_label is a list"),
        ({"verbose": "many"}, "verbose is a count"),
        ({"verbose": True}, "verbose is a count"),
        ({"no_n4": "yes"}, "no_n4 is true or false"),
        ({"affine": "magic"}, "invalid choice: 'magic'"),
        ({"machine": {"nprocs": 2}}, "unknown key 'machine'"),
        ("refine_iterations = ", "not TOML"),
    ],
)
def test_what_no_option_is_or_takes_is_refused_with_the_name_of_the_file(
    content, said, places, write, capsys
):
    options = write(content)
    complained = complaint([*words(places), *options], capsys)
    assert complained.startswith(f"vxmprep: --config-file {options[1]}: ")
    assert said in complained


def test_a_file_that_is_not_there_is_named(places, capsys):
    said = complaint([*words(places), "--config-file", "/nowhere.toml"], capsys)
    assert said == "vxmprep: --config-file /nowhere.toml: No such file or directory\n"
