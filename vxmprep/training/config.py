"""The file that says what to train on, with what and where."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from vxmprep.spatial.files import replacing
from vxmprep.training.errors import TrainingError
from vxmprep.training.packing import Scan
from vxmprep.training.settings import TrainingSettings, settings_from

KEYS = {
    "folder", "cohort", "split", "resume", "initial_model", "licence", "atlas", "settings",
    "scans", "left_out",
}  # fmt: skip
ATLAS_KEYS = {"name", "image", "mask", "labels"}
SCAN_KEYS = {"name", "participant", "site", "image", "labels"}


@dataclass(frozen=True)
class AtlasFiles:
    """The atlas on the network's grid of 1 mm: uint8 image, mask and labels (or None)."""

    name: str
    image: Path
    mask: Path
    labels: Path | None = None


@dataclass(frozen=True)
class Config:
    """All that a training is told.

    Attributes
    ----------
    folder
        The model's folder; its name is the model's.
    cohort
        Where the packed cohort is kept.
    atlas
        The atlas, which scans are registered to.
    scans
        The scans.
    settings
        All settings.
    split
        A split to use, or None to draw one.
    resume
        Go on with a training that was begun in the folder.
    initial_model
        A network to start from, or None to start from random weights.
    licence
        Licence of the scans, for the model's card.
    left_out
        Scans that the caller did not give, and why, for the model's card.
    """

    folder: Path
    cohort: Path
    atlas: AtlasFiles
    scans: tuple[Scan, ...]
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    split: Path | None = None
    resume: bool = True
    initial_model: Path | None = None
    licence: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)


def read_config(path: Path) -> Config:
    """Read a configuration.

    Parameters
    ----------
    path
        TOML. ``folder`` and the tables ``[atlas]`` and ``[[scans]]`` are required; paths are
        relative to the file's own folder.

    Returns
    -------
    Config
        The configuration; the images are not looked at.

    Raises
    ------
    TrainingError
        If the file cannot be read, has unknown keys or lacks required ones.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: {str(error.strerror).lower()}; give a TOML file") from error
    except ValueError as error:
        raise TrainingError(f"{path}: not TOML ({error})") from error
    _check(content, KEYS, {"folder", "atlas", "scans"}, str(path))
    atlas, scans = content["atlas"], content["scans"]
    _check(atlas, ATLAS_KEYS, {"name", "image", "mask"}, f"{path}: atlas")
    if not isinstance(scans, list) or not scans:
        raise TrainingError(f"{path}: no scans; give tables [[scans]]")
    for number, scan in enumerate(scans, start=1):
        _check(scan, SCAN_KEYS, {"name", "participant", "image"}, f"{path}: scan {number}")
    where = path.absolute().parent
    folder = _placed(where, content["folder"])
    optional = {n: _placed(where, content[n]) for n in ("split", "initial_model") if n in content}
    return Config(
        folder=folder,
        cohort=_placed(where, content.get("cohort", folder / "cohort")),
        atlas=AtlasFiles(**_paths(atlas, where)),
        scans=tuple(Scan(**_paths(scan, where)) for scan in scans),
        settings=settings_from(content.get("settings", {}), f"{path}: settings"),
        resume=content.get("resume", True),
        licence=content.get("licence"),
        left_out=content.get("left_out", {}),
        **optional,
    )


def write_config(config: Config, path: Path) -> None:
    """Write a configuration, with paths relative to the file's folder so that both can be moved.

    Parameters
    ----------
    config
        What is written; `read_config` gives it back.
    path
        The file.
    """
    where = path.absolute().parent.resolve()

    def told(item: Any) -> dict[str, Any]:
        return {
            name: os.path.relpath(_plain(value), where) if isinstance(value, Path) else value
            for name, value in vars(item).items()
            if value is not None
        }

    content = told(config) | {
        "atlas": told(config.atlas),
        "settings": config.settings.as_mapping(),
        "scans": [told(scan) for scan in config.scans],
        "left_out": dict(config.left_out),
    }
    with replacing(path) as temporary:
        temporary.write_text(tomli_w.dumps(content), encoding="utf-8")


def _check(table: Any, known: set[str], needed: set[str], where: str) -> None:
    if not isinstance(table, dict):
        raise TrainingError(f"{where}: not a table; give {sorted(needed)}")
    unknown, missing = sorted(set(table) - known), sorted(needed - set(table))
    if unknown:
        raise TrainingError(f"{where}: unknown key {unknown[0]!r}; known are {sorted(known)}")
    if missing:
        raise TrainingError(f"{where}: {missing[0]} is missing; give {sorted(needed)}")
    kinds = {"resume": bool, "atlas": dict, "settings": dict, "scans": list, "left_out": dict}
    for name, value in table.items():
        if not isinstance(value, kinds.get(name, str)):
            raise TrainingError(f"{where}: {name} is {value!r}; that is of another type")


def _paths(table: dict[str, str], where: Path) -> dict[str, Any]:
    files = ("image", "mask", "labels")
    return {n: _placed(where, value) if n in files else value for n, value in table.items()}


def _placed(where: Path, path: str | Path) -> Path:
    """Give the place of a path that counts from a folder, without `..` in its messages."""
    return _plain(where / path)


def _plain(path: Path) -> Path:
    # The file itself may be a link to one without its suffix.
    return path.parent.resolve() / path.name
