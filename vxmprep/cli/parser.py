"""Settings from what the user says: command line over configuration file over defaults."""

from __future__ import annotations

import argparse
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import NoReturn

from vxmprep.cli.options import Parser, build_parser
from vxmprep.config import (
    BUNDLED,
    DEFAULT_ATLAS,
    LABEL_SETS,
    LEVELS,
    PROGRAMS,
    SHARED,
    Settings,
    default_iterations,
)
from vxmprep.resources import available_processors
from vxmprep.training.errors import TrainingError
from vxmprep.training.settings import TrainingSettings

OUTPUT_FOLDERS = ("assets", "logs", "models", "sourcedata")
"""Folders of the output, beside those of the participants, in which nothing else belongs."""

TRAINING = tuple(item.name for item in fields(TrainingSettings) if item.name not in SHARED)
POSITIONALS = ("bids_dir", "output_dir", "levels")


class BadOptionError(Exception):
    """An option that cannot be; the message is one line."""


class _Quiet(Parser):
    """A parser whose complaints are for its caller."""

    def error(self, message: str) -> NoReturn:
        raise BadOptionError(message)


def parse(argv: Sequence[str] | None = None, parser: Parser | None = None) -> Settings:
    """Turn a command line into settings.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; the process's own by default.
    parser : Parser, optional
        Of `build_parser`, with name and usage of a command that takes these options too.

    Returns
    -------
    Settings
        Complete and checked.

    Raises
    ------
    SystemExit
        With code 2 and one line, for bad usage.
    """
    parser = parser or build_parser()
    given = _parsed(parser, argv)
    try:
        file = given.pop("config_file", None)
        if file is not None:
            given = {**read_config_file(file), **given}
        return _settings(given, parser.usage)
    except BadOptionError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def read_config_file(path: Path) -> dict:
    """Read options from a TOML file: ``refine_iterations = 50`` is ``--refine-iterations 50``.

    Raises
    ------
    BadOptionError
        If the file cannot be read, or holds a key or a value that no option has.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadOptionError(f"--config-file {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise BadOptionError(f"--config-file {path}: not TOML ({error})") from error
    parser = build_parser(_Quiet)
    actions = {_key(action): action for action in parser._actions}
    for key in content.keys() - actions.keys() | content.keys() & {"config_file", "help"}:
        raise BadOptionError(
            f"--config-file {path}: unknown key {key!r}; --refine-iterations is written "
            "refine_iterations"
        )
    options: list[str] = []
    positionals: dict[str, Path | list[str]] = {}
    for key, value in content.items():
        words = _words(actions[key], key, value, path)
        if actions[key].option_strings:
            options += words
        elif words:  # by their names: a file has its keys in any order
            positionals[key] = words if key == "levels" else Path(words[0])
    try:
        return _parsed(parser, options) | positionals
    except BadOptionError as error:
        raise BadOptionError(f"--config-file {path}: {error}") from error


def _parsed(parser: Parser, argv: Sequence[str] | None) -> dict:
    """Parse, and leave out positionals that are not there."""
    found = vars(parser.parse_intermixed_args(argv))
    return {key: value for key, value in found.items() if value is not None and value != []}


def _key(action: argparse.Action) -> str:
    names = [name for name in action.option_strings if name.startswith("--")]
    return names[0].removeprefix("--").replace("-", "_") if names else action.dest


def _words(action: argparse.Action, key: str, value: object, path: Path) -> list[str]:
    """Give a key of a configuration file as words of a command line."""
    option = action.option_strings[-1:]
    if isinstance(action, argparse._CountAction):
        if type(value) is not int or value < 0:
            raise BadOptionError(f"--config-file {path}: {key} is a count, not {value!r}")
        return option * value
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise BadOptionError(f"--config-file {path}: {key} is true or false, not {value!r}")
        return option if value else []
    several = action.nargs in ("+", "*")
    value = [value] if several and isinstance(value, str) else value
    if isinstance(value, list) != several or isinstance(value, dict | bool):
        wanted = "a list" if several else "one value"
        raise BadOptionError(f"--config-file {path}: {key} is {wanted}, not {value!r}")
    values = [str(one) for one in value] if several else [str(value)]
    if option and not several:
        return [f"{option[0]}={values[0]}"]
    return [*option, *values]


def _settings(given: dict, usage: str) -> Settings:
    """Complete what was given with defaults, and check it."""
    lacking = [name.upper() for name in POSITIONALS if name not in given]
    if lacking:
        listed = {"participant_label", "session_label", "derivatives"} & given.keys()
        hint = "; words after --participant-label and the like are its own: put it last"
        raise BadOptionError(
            f"{lacking[0].removesuffix('S')} is missing{hint if listed else ''}; usage: {usage}"
        )
    unknown = [level for level in given["levels"] if level not in LEVELS]
    if unknown:
        raise BadOptionError(f"{unknown[0]}: no such level; levels are {', '.join(LEVELS)}")
    if "model" in given and {"train", "participant"} <= set(given["levels"]):
        raise BadOptionError("--model: participant after train uses the network just trained")
    defaults = {f.name: f.default for f in fields(Settings) if f.default is not MISSING}
    defaults["nprocs"] = available_processors()
    values = {**defaults, **given, "training": _training({**defaults, **given})}
    for option in TRAINING:
        values.pop(option, None)
    for option in ("levels", "participant_label", "session_label", "derivatives"):
        values[option] = tuple(values[option])
    for option, value in values.items():
        if isinstance(value, Path):
            values[option] = value.absolute()
    values["derivatives"] = tuple(path.absolute() for path in values["derivatives"])
    for option in ("model", "initial_model"):
        values[option] = _model(values[option], values["output_dir"])
    trains, registers = ({level} <= set(values["levels"]) for level in ("train", "participant"))
    usual_atlas = values["atlas"] == DEFAULT_ATLAS and values["atlas_name"] is None
    if "model" not in given and registers and not trains and usual_atlas:
        values["model"] = BUNDLED
    if "refine_iterations" not in given:
        network = trains or values["model"] is not None
        values["refine_iterations"] = default_iterations(network=network)
    if values["labels"] not in LABEL_SETS and Path(values["labels"]).is_file():
        values["labels"] = str(Path(values["labels"]).absolute())
    if Path(values["atlas"]).is_file():
        values["atlas"] = str(Path(values["atlas"]).absolute())
    settings = Settings(**values)
    problem = _bad_folder(settings) or _absent_file(settings) or _absent_program(settings)
    if problem:
        raise BadOptionError(problem)
    return settings


def _training(values: dict) -> TrainingSettings:
    """Take the options of a training, and those of the run that are its own too."""
    given = {name: values[name] for name in TRAINING if name in values}
    if "structures" in given:
        given["structures"] = tuple(given["structures"])
    threads = max(1, values["nprocs"] // given.get("devices", 1))
    shared = {"device": values["device"], "precision": values["precision"], "threads": threads}
    try:
        return TrainingSettings(**given, **shared)
    except TrainingError as error:
        name, _, rest = str(error).partition(" ")
        raise BadOptionError(f"--{name.replace('_', '-')} {rest}") from error


def _model(given: str | None, output_dir: Path) -> Path | None:
    """Give the file of the network that is named: a file's name counts before a model's."""
    if given in (None, "none"):
        return None
    if given == "bundled":
        return BUNDLED
    named = output_dir / "models" / given / "model.pt"
    return named if not Path(given).is_file() and named.is_file() else Path(given).absolute()


def _bad_folder(settings: Settings) -> str | None:
    for folder in (settings.bids_dir, settings.output_dir, settings.work_dir):
        try:
            str(folder.resolve()).encode()
        except UnicodeEncodeError:
            return f"{str(folder)!a}: a path that is not UTF-8; rename its folders"
    bids_dir, output_dir = settings.bids_dir.resolve(), settings.output_dir.resolve()
    work_dir = settings.work_dir.resolve()
    if settings.levels == ("group",):
        if not output_dir.is_dir():
            return f"{settings.output_dir}: no such folder; give the output of an earlier run"
    elif not bids_dir.is_dir():
        return f"{settings.bids_dir}: no such folder; give the root of a BIDS dataset"
    if output_dir == bids_dir:
        return f"{output_dir}: the output cannot be the dataset itself; give another folder"
    if bids_dir in output_dir.parents and bids_dir / "derivatives" not in output_dir.parents:
        return (
            f"{output_dir}: the output lies inside the dataset; give a folder outside of it, or "
            f"one in {bids_dir / 'derivatives'}"
        )
    if output_dir.exists() and not output_dir.is_dir():
        return f"{output_dir}: a file; the output is a folder"
    if work_dir.exists() and not work_dir.is_dir():
        return f"--work-dir {work_dir}: a file; give a folder"
    if work_dir == bids_dir or bids_dir in work_dir.parents:
        return f"--work-dir {work_dir}: lies inside the dataset; give a folder outside of it"
    if work_dir == output_dir:
        return f"--work-dir {work_dir}: is the output too; give a folder of its own"
    if output_dir in work_dir.parents:
        top = work_dir.relative_to(output_dir).parts[0]
        if top.startswith("sub-") or top in OUTPUT_FOLDERS:
            return f"--work-dir {work_dir}: lies among the results; give a folder of its own"
    index = settings.bids_database_dir
    if index is not None and bids_dir in (index.resolve(), *index.resolve().parents):
        return f"--bids-database-dir {index}: lies inside the dataset; give a folder outside of it"
    return None


def _absent_file(settings: Settings) -> str | None:
    folder = settings.fs_subjects_dir
    if folder is not None and not folder.is_dir():
        return f"--fs-subjects-dir {folder}: no such folder"
    for path in settings.derivatives:
        if not path.is_dir():
            return f"--derivatives {path}: no such folder"
    if settings.model is not None and not settings.model.is_file():
        return f"--model {settings.model}: no such file, nor a network in OUTPUT_DIR/models"
    other = settings.compare
    if other is not None and not other.is_dir():
        return f"--compare {other}: no such folder"
    if other is not None and other.resolve() == settings.output_dir.resolve():
        return f"--compare {other}: is OUTPUT_DIR itself; give the folder of another run"
    if settings.labels not in LABEL_SETS and not Path(settings.labels).is_file():
        return f"--labels {settings.labels}: neither {', '.join(LABEL_SETS)} nor a file"
    for name in ("exclude", "split", "use_plugin"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            return f"--{name.replace('_', '-')} {path}: no such file"
    return None


def _absent_program(settings: Settings) -> str | None:
    for (option, choice), program in PROGRAMS.items():
        if getattr(settings, option) == choice and shutil.which(program) is None:
            name = "--" + option.replace("_", "-")
            return (
                f"{name} {choice}: the program {program} is not on the PATH; install it or choose "
                f"another {name}"
            )
    if settings.write_graph and shutil.which("dot") is None:
        return "--write-graph: the program dot (Graphviz) is not on the PATH; install it"
    return None
