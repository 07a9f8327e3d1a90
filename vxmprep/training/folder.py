"""The model's folder: what belongs to one training, and to no other."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vxmprep.spatial.files import replacing
from vxmprep.training.errors import TrainingError

IDENTITY = "training.json"


class ModelFolder:
    """Names of a training's files.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity = path / IDENTITY
        self.config = path / "config.toml"
        self.split = path / "split.json"
        self.last, self.best = path / "last.ckpt", path / "best.ckpt"
        self.model = path / "model.pt"
        self.card, self.card_data = path / "README.md", path / "card.json"
        self.curves = path / "curves.png"
        self.iterations, self.validations = path / "iterations.csv", path / "validations.csv"
        self.events = path / "tensorboard"

    @contextlib.contextmanager
    def locked(self, tell: Callable[[str], None] = print) -> Iterator[None]:
        """Keep other trainings out; where one is at work, wait for its end.

        Parameters
        ----------
        tell
            Takes a message for the user who has to wait.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            tell(f"waiting for the end of another training that is at work in {self.path}")
            held = lock.acquire()
        with held:
            yield

    def refuse_other(self, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Compare a part of what is to be trained with what was begun here; nothing is written.

        Parameters
        ----------
        identity
            What is known of it before the scans are looked at.
        resume
            Whether to go on with a training that was begun here.

        Raises
        ------
        TrainingError
            If another training was begun here, or this one and it should not go on.
        """
        if self.identity.exists():
            found = self._read()
            # What this version does not know of is told when all is known.
            known = {name: value for name, value in found.items() if name in identity}
            self._compare(known, json.loads(json.dumps(identity)))
        self._refuse_begun(resume)

    def claim(self, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Note what is trained here, or compare it with what was noted.

        Parameters
        ----------
        identity
            All that a training cannot go on without: settings, cohort, atlas, split.
        resume
            Whether to go on with a training that was begun here.

        Raises
        ------
        TrainingError
            If another training was begun here, or this one and it should not go on.
        """
        wanted = json.loads(json.dumps(identity))
        if not self.identity.exists():
            if self.last.exists():
                raise TrainingError(f"{self.path}: {IDENTITY} is missing; choose another name")
            with replacing(self.identity) as temporary:
                temporary.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
            return
        self._compare(self._read(), wanted)
        self._refuse_begun(resume)

    def noted(self, name: str) -> Any:
        """Give a part of what is trained here, or None where it is not noted."""
        return self._read().get(name) if self.identity.exists() else None

    def _refuse_begun(self, resume: bool) -> None:
        if self.last.exists() and not resume:
            raise TrainingError(
                f"{self.path}: a training was begun here; resume it, or choose another name"
            )

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self.identity.read_text(encoding="utf-8"))
        except ValueError as error:
            raise TrainingError(f"{self.identity}: damaged; choose another name") from error

    def _compare(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        differences = _differences(found, wanted)
        if differences:
            raise TrainingError(
                f"{self.path}: holds a model trained otherwise: {'; '.join(differences)}; "
                "choose another name, or remove the folder"
            )


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Say which values differ, by name."""
    names = sorted(set(found) | set(wanted))
    return [
        f"{name} was {_short(found.get(name))}, is {_short(wanted.get(name))}"
        for name in names
        if found.get(name) != wanted.get(name)
    ]


def _short(value: Any, most: int = 60) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= most else text[: most - 3] + "..."
