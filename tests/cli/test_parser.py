"""The command line: what is understood and what is refused."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import vxmprep
from vxmprep.cli.parser import parse
from vxmprep.config import BUNDLED, default_iterations

PACKAGE = Path(vxmprep.__file__).resolve().parents[1]
HEAVY = ("torch", "nipype", "bids", "SimpleITK", "nibabel", "scipy", "matplotlib")
LOOK = f"""
import sys
from vxmprep.cli.run import main
code = main(sys.argv[1:])
print("loaded:", *[name for name in {HEAVY!r} if name in sys.modules])
sys.exit(code)
"""


def said_about(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as leave:
        parse(arguments)
    assert leave.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def bids_dir(tmp_path) -> Path:
    folder = tmp_path / "bids"
    folder.mkdir()
    return folder


@pytest.fixture
def given(bids_dir, tmp_path):
    """Parse options after a valid beginning."""
    return lambda *more: parse([str(bids_dir), str(tmp_path / "out"), "participant", *more])


@pytest.fixture
def refused(bids_dir, tmp_path, capsys):
    """Parse options that are wrong, and give what is said."""

    words = [str(bids_dir), str(tmp_path / "out"), "participant"]
    return lambda *more: said_about([*words, *more], capsys)


@pytest.fixture(scope="module")
def help_text() -> subprocess.CompletedProcess:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LOOK, "--help"],
        capture_output=True, text=True, cwd=PACKAGE, check=False, timeout=60,
    )  # fmt: skip
    done.seconds = time.monotonic() - start
    return done


def test_help_loads_nothing_heavy(help_text):
    assert help_text.returncode == 0
    assert help_text.stdout.splitlines()[-1].strip() == "loaded:"


def test_help_answers_fast(help_text):
    # A second when nothing else runs.
    assert help_text.seconds < 5


@pytest.mark.parametrize(
    "option",
    [
        "BIDS_DIR", "OUTPUT_DIR", "--participant-label", "--session-label", "--derivatives",
        "--fs-subjects-dir", "--work-dir", "--nprocs", "--omp-nthreads", "--mem-mb",
        "--stop-on-first-crash", "--atlas", "--atlas-name", "--atlas-labels", "--skull-strip",
        "--no-n4", "--affine", "--model", "--refine-iterations", "--device", "--version",
        "--bids-filter-file", "--bids-database-dir", "--skip-bids-validation", "--use-plugin",
        "--config-file", "--resource-monitor", "--boilerplate-only", "--write-graph",
        "--clean-workdir", "--force", "--verbose", "prepare", "exit codes",
    ],
)  # fmt: skip
def test_help_names_every_option(option, help_text):
    assert option in help_text.stdout


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as leave:
        parse(["--version"])
    assert leave.value.code == 0
    assert capsys.readouterr().out == f"vxmprep {vxmprep.__version__}\n"


def test_the_network_that_comes_along_is_for_its_own_atlas_and_where_none_is_trained(given):
    other = given("--atlas", "MNI152NLin6Asym")
    assert (other.model, other.refine_iterations) == (None, default_iterations(network=False))
    none = given("--model", "none", "--refine-iterations", "7")
    assert (none.model, none.refine_iterations) == (None, 7)
    assert given("--atlas", "MNI152NLin6Asym", "--model", "bundled").model == BUNDLED


def test_a_network_that_is_trained_takes_the_place_of_the_bundled_one(tmp_path):
    (tmp_path / "bids").mkdir()
    words = [str(tmp_path / "bids"), str(tmp_path / "out")]
    trained = parse([*words, "train", "participant"])
    assert (trained.model, trained.refine_iterations) == (None, default_iterations(network=True))
    assert parse([*words, "prepare"]).model is None
    assert parse([*words, "prepare", "participant", "group"]).model == BUNDLED


def test_defaults_are_those_that_are_documented(given):
    settings = given()
    assert settings.levels == ("participant",)
    assert settings.atlas == "MNI152NLin2009cAsym"
    assert settings.skull_strip == "auto"
    assert settings.n4
    assert settings.affine == "greedy"
    assert settings.model == BUNDLED
    assert settings.device == "auto"
    assert settings.refine_iterations == default_iterations(network=True)
    assert settings.participant_label == ()
    assert settings.nprocs >= 1


def test_options_are_understood(given, tmp_path):
    (tmp_path / "fs").mkdir()
    (tmp_path / "masks").mkdir()
    settings = given(
        "--participant-label", "01", "sub-02", "--session-label", "a", "--no-n4",
        "-d", f"masks={tmp_path / 'masks'}", str(tmp_path / "fs"),
        "--fs-subjects-dir", str(tmp_path / "fs"), "-w", str(tmp_path / "w"), "--nprocs", "3",
        "--omp-nthreads", "2", "--mem-mb", "4000", "--stop-on-first-crash", "--affine", "none",
        "--skull-strip", "none", "--refine-iterations", "0", "--device", "cpu", "-v", "-v",
    )  # fmt: skip
    assert settings.participant_label == ("01", "sub-02")
    assert settings.session_label == ("a",)
    assert not settings.n4
    assert settings.derivatives == (tmp_path / "masks", tmp_path / "fs")
    assert settings.fs_subjects_dir == tmp_path / "fs"
    assert settings.work_dir == tmp_path / "w"
    assert (settings.nprocs, settings.omp_nthreads, settings.mem_mb) == (3, 2, 4000)
    assert settings.stop_on_first_crash
    assert (settings.affine, settings.skull_strip) == ("none", "none")
    assert settings.refine_iterations == 0
    assert settings.verbose == 2


def test_relative_paths_become_absolute(bids_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = parse(["bids", "out", "participant", "-w", "w"])
    assert settings.bids_dir == bids_dir
    assert settings.output_dir == tmp_path / "out"
    assert settings.work_dir == tmp_path / "w"


def test_files_named_from_where_one_is_are_found_by_workers_elsewhere(
    given, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("net.pt", "atlas.nii.gz"):
        (tmp_path / name).touch()
    settings = given("--model", "net.pt", "--atlas", "atlas.nii.gz")
    assert settings.model == tmp_path / "net.pt"
    assert settings.atlas == str(tmp_path / "atlas.nii.gz")


def test_the_bundled_model_is_the_same_wherever_the_package_lies(given):
    settings = given("--model", "bundled")
    assert settings.model == BUNDLED
    assert settings.as_options()["model"] == "bundled"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fs-subjects-dir", "/nowhere"], "--fs-subjects-dir /nowhere: no such folder"),
        (["-d", "masks=/nowhere"], "--derivatives /nowhere: no such folder"),
        (
            ["--model", "/nowhere/net.pt"],
            "--model /nowhere/net.pt: no such file, nor a network in OUTPUT_DIR/models",
        ),
    ],
)
def test_a_path_that_is_not_there_is_named_in_one_line(options, words, refused):
    said = refused(*options)
    assert said == f"vxmprep: {words}\n"


@pytest.mark.parametrize(
    ("options", "program"),
    [
        (["--skull-strip", "synthstrip"], "mri_synthstrip"),
        (["--skull-strip", "bet"], "bet"),
        (["--affine", "ants"], "antsRegistration"),
        (["--affine", "flirt"], "flirt"),
        (["--write-graph"], "dot"),
    ],
)
def test_an_option_whose_program_is_absent_is_refused(
    options, program, refused, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refused(*options)
    assert said.startswith(f"vxmprep: {' '.join(options)}: the program {program}")
    assert "is not on the PATH" in said
    assert said.count("\n") == 1


def test_a_skull_strip_whose_program_is_there_is_accepted(given, monkeypatch, tmp_path):
    (tmp_path / "bet").write_text("#!/bin/sh\n")
    (tmp_path / "bet").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert given("--skull-strip", "bet").skull_strip == "bet"


def test_a_dataset_that_is_not_there_is_refused_in_one_line(tmp_path, capsys):
    missing = tmp_path / "nowhere"
    said = said_about([str(missing), str(tmp_path / "out"), "participant"], capsys)
    assert said.startswith(f"vxmprep: {missing}: no such folder")
    assert said.count("\n") == 1


def test_the_dataset_cannot_be_the_output(bids_dir, capsys):
    said = said_about([str(bids_dir), f"{bids_dir}/x/..", "participant"], capsys)
    assert "cannot be the dataset itself" in said
    assert said.count("\n") == 1


def test_the_output_cannot_lie_inside_the_dataset(bids_dir, capsys):
    said = said_about([str(bids_dir), f"{bids_dir}/out", "participant"], capsys)
    assert "the output lies inside the dataset" in said
    assert said.count("\n") == 1


def test_the_output_may_be_among_the_derivatives_of_the_dataset(bids_dir):
    place = bids_dir / "derivatives" / "vxmprep"
    assert parse([str(bids_dir), str(place), "participant"]).output_dir == place


@pytest.mark.parametrize("below", [".", "work", "derivatives/work"])
def test_the_work_folder_cannot_lie_inside_the_dataset(below, refused, bids_dir):
    assert "lies inside the dataset" in refused("-w", str(bids_dir / below))


@pytest.mark.parametrize("below", ["sub-01", "logs/work", "models"])
def test_the_work_folder_cannot_lie_among_the_results(below, refused, tmp_path):
    assert "lies among the results" in refused("-w", str(tmp_path / "out" / below))


@pytest.mark.parametrize("below", [".", "index"])
def test_the_index_cannot_lie_inside_the_dataset(below, refused, bids_dir):
    assert "lies inside the dataset" in refused("--bids-database-dir", str(bids_dir / below))


def test_the_work_folder_cannot_be_the_output(refused, tmp_path):
    assert "is the output too" in refused("-w", str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("words", "lacking"), [([], "BIDS_DIR"), (["a"], "OUTPUT_DIR"), (["a", "b"], "LEVEL")]
)
def test_a_word_that_is_missing_is_named(words, lacking, capsys):
    assert said_about(words, capsys).startswith(f"vxmprep: {lacking} is missing; usage: vxmprep")


def test_words_that_an_option_has_swallowed_are_explained(bids_dir, tmp_path, capsys):
    said = said_about(["--participant-label", "01", str(bids_dir), "out", "prepare"], capsys)
    assert said.startswith("vxmprep: BIDS_DIR is missing; words after --participant-label")


def test_an_option_cut_short_is_no_option(refused):
    assert "unrecognized arguments: --refine-iteration" in refused("--refine-iteration", "3")


def test_options_may_stand_anywhere(bids_dir, tmp_path):
    settings = parse(["--nprocs", "3", str(bids_dir), "--force", str(tmp_path / "o"), "prepare"])
    assert (settings.nprocs, settings.force, settings.levels) == (3, True, ("prepare",))


def test_the_output_cannot_be_a_file(bids_dir, tmp_path, capsys):
    (tmp_path / "out").touch()
    said = said_about([str(bids_dir), str(tmp_path / "out"), "participant"], capsys)
    assert said == f"vxmprep: {tmp_path / 'out'}: a file; the output is a folder\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--refine-iterations", "-1"], "--refine-iterations: -1 is less than 0"),
        (["--nprocs", "0"], "--nprocs: 0 is less than 1"),
        (["--skull-strip", "magic"], "invalid choice: 'magic'"),
        (["--affine", "magic"], "invalid choice: 'magic'"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_a_value_out_of_its_range_is_refused_in_the_last_line(options, words, refused):
    assert words in refused(*options).splitlines()[-1]


def test_an_unknown_level_is_refused(bids_dir, tmp_path, capsys):
    said = said_about([str(bids_dir), str(tmp_path / "out"), "everything"], capsys)
    assert said == (
        "vxmprep: everything: no such level; levels are prepare, train, participant, group\n"
    )


def test_a_word_in_place_of_a_number_is_refused_in_the_users_terms(refused):
    said = refused("--refine-iterations", "many")
    assert "many" in said
    assert "_count" not in said


def test_an_unknown_device_is_refused(refused):
    assert "--device" in refused("--device", "banana")
