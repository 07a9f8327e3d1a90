"""What is done already: a record per scan, of the stages that its results came from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import vxmprep
from vxmprep.bids.derivatives import sidecar_of, write_json
from vxmprep.spatial.files import checksum

FOLDER = "logs"

FIRST = "brain"
"""The stage that knows no atlas."""

KEPT = {"settings", "inputs", "files", "flags", "after", "version"}
"""What is kept of a finished stage."""


MOST_FAILURES = 5
"""Of the failures of a scan so many are remembered, also when it is done later."""


class InputChangedError(ValueError):
    """An input that is no longer what it was when the run was planned."""


@dataclass(frozen=True)
class Stage:
    """A part of the work on a scan, and all that its result depends on.

    Attributes
    ----------
    name : str
        The stage.
    space : str
        The atlas's label; empty for a stage that knows no atlas.
    settings : dict
        The settings, atlas and model that matter, as its sidecars say them.
    inputs : tuple of Path
        The files that it reads and that no other stage made.
    after : str
        The stage whose result it starts from; empty for the first.
    seen : tuple of (int, int)
        Size and time of modification (ns) of each input when the run was planned; what has
        changed since then is not taken for done.
    """

    name: str
    space: str
    settings: dict
    inputs: tuple[Path, ...] = ()
    after: str = ""
    seen: tuple[tuple[int, int], ...] = ()

    @property
    def key(self) -> str:
        """Its name in a record."""
        return f"{self.name} {self.space}" if self.space else self.name

    @property
    def after_key(self) -> str:
        """The name in a record of the stage that it starts from: the first knows no atlas."""
        return self.after if self.after in ("", FIRST) else f"{self.after} {self.space}"


@dataclass
class Record:
    """The record of one scan.

    Jobs may work on the same scan at the same time, for two atlases say: every change is made to
    what the file holds by then, one job after the other.

    Attributes
    ----------
    path : Path
        Its file, ``logs/<scan>_T1w.json`` in the output folder.
    output_dir : Path
        Root of the derivatives.
    content : dict
        What it says: ``scan``, ``status``, ``stages``, ``steps``, ``failure``, the last
        ``failures`` though they be over, and under ``stale``
        the files of stages that no longer hold.
    """

    path: Path
    output_dir: Path
    content: dict = field(default_factory=dict)
    _steps: dict[str, dict] = field(default_factory=dict)
    _touched: bool = False

    @classmethod
    def of(cls, output_dir: Path, stem: str) -> Record:
        """Read the record of a scan; one that is not there, or damaged, says nothing."""
        path = output_dir / FOLDER / f"{stem}_T1w.json"
        return cls(path, output_dir, _read(path))

    @classmethod
    def all(cls, output_dir: Path) -> list[Record]:
        """Read the records of all scans, in order of their names."""
        paths = sorted((output_dir / FOLDER).glob("sub-*_T1w.json"))
        return [cls(path, output_dir, _read(path)) for path in paths]

    @classmethod
    def of_participant(cls, output_dir: Path, participant: str) -> list[Record]:
        """Read the records of a participant's scans, in order of their names."""
        paths = sorted((output_dir / FOLDER).glob(f"sub-{participant}_*T1w.json"))
        return [cls(path, output_dir, _read(path)) for path in paths]

    @property
    def stages(self) -> dict[str, dict]:
        """The finished stages by their key."""
        return self.content["stages"]

    @property
    def failure(self) -> dict:
        """Why the scan failed: ``step``, ``cause``, ``crash`` and ``space``; empty if it did not.

        Only what was done with the atlas named by ``space`` is touched by it; with all if empty.
        """
        return self.content.get("failure") or {}

    @property
    def status(self) -> str:
        """``failed``, ``done`` (evaluated too), ``registered``, ``prepared`` or ``unfinished``."""
        if self.failure:
            return "failed"
        names = {key.split()[0] for key in self.stages}
        if "evaluate" in names:
            return "done"
        if "register" in names:
            return "registered"
        return "prepared" if "labels" in names else "unfinished"

    @property
    def flags(self) -> list[str]:
        """What is doubtful about the scan: an evaluation gathers what was found before it."""
        by_stage = {key.split()[0]: stage["flags"] for key, stage in self.stages.items()}
        if "evaluate" in by_stage:
            return by_stage["evaluate"]
        return [flag for flags in by_stage.values() for flag in flags]

    def missing(self, stages: Sequence[Stage]) -> list[str]:
        """Name the stages whose result is not there or no longer holds, without opening an image.

        Parameters
        ----------
        stages : sequence of Stage
            The stages wanted, those that others build on first.

        Returns
        -------
        list of str
            A stage is missing too if the one that it builds on is.
        """
        names: list[str] = []
        for stage in stages:
            if stage.after in names or not self._holds(stage):
                names.append(stage.name)
        return names

    def files(self, stage: Stage) -> dict[str, Path]:
        """Give the files of a finished stage by what they hold."""
        made = self.stages[stage.key]["files"]
        return {name: self.output_dir / path for name, path in made.items()}

    def begin(self, stage: Stage) -> None:
        """Note that a stage's files are about to be written over by others."""
        with self._change():
            self._replace(stage)

    def finish(
        self,
        stage: Stage,
        *,
        files: dict[str, Path],
        checksums: dict[str, str],
        flags: Sequence[str] = (),
        **more: object,
    ) -> None:
        """Note that a stage is done, and write the record.

        What an earlier run made from the former result of the stage no longer holds: it is
        removed, as is what the stage itself no longer makes. A file of another atlas that has been
        written over, as the atlas's labels on the scan are, is no longer among that one's files.

        Parameters
        ----------
        stage : Stage
            What was done.
        files : dict
            The files made, by what they hold.
        checksums : dict
            SHA-256 of the inputs by their path.
        flags : sequence of str
            What is doubtful about the result.
        **more
            Values that later stages want.

        Raises
        ------
        InputChangedError
            If an input has changed since the run was planned.
        """
        # Nothing was seen of inputs that a caller has not looked at.
        for path, seen in zip(stage.inputs, stage.seen, strict=bool(stage.seen)):
            if seen_of(path) != seen:
                raise InputChangedError(
                    f"{path}: changed while it was processed; run the same command again"
                )
        made = {name: str(path.relative_to(self.output_dir)) for name, path in files.items()}
        with self._change():
            self._replace(stage)
            self._drop(stage.key)
            for other in self.stages.values():
                files = other["files"].items()
                other["files"] = {name: path for name, path in files if path not in made.values()}
            self.stages[stage.key] = {
                "settings": stage.settings,
                "inputs": [_fingerprint(path, checksums[str(path)]) for path in stage.inputs],
                "files": made,
                "flags": list(flags),
                "after": stage.after_key,
                "version": vxmprep.__version__,
                **more,
            }
            self.content.pop("failure", None)
            self._sweep(stage.key)

    def fail(
        self,
        *,
        step: str,
        cause: str,
        crash: str = "",
        space: str = "",
        wanted: Sequence[Stage] = (),
    ) -> None:
        """Note that the scan has failed, unless another job has finished what was wanted."""
        with self._change():
            if not wanted or self.missing(wanted):
                failure = {"step": step, "cause": cause, "crash": crash, "space": space}
                self.content["failure"] = failure
                when = {"when": time.strftime("%Y-%m-%d %H:%M"), "version": vxmprep.__version__}
                earlier = self.content.get("failures", [])[1 - MOST_FAILURES :]
                self.content["failures"] = [*earlier, {**failure, **when}]

    def settle(self) -> None:
        """Note that all that is wanted is done: an earlier failure is over."""
        if self.failure or self._touched:
            known = {key: stage["inputs"] for key, stage in self.stages.items()}
            with self._change():
                self.content.pop("failure", None)
                for key, inputs in known.items():
                    if key in self.stages:
                        self.stages[key]["inputs"] = inputs

    def took(self, step: str, *, seconds: float, cpu_seconds: float, peak_gb: float) -> None:
        """Note what a step took; written with what is noted next."""
        numbers = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gb": peak_gb}
        self._steps[step] = {name: round(number, 2) for name, number in numbers.items()}

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Read the file anew, let it be changed, and write it, while no other job does."""
        with turn(self.path.parent / ".records.lock"):
            self.content = _read(self.path)
            yield
            self.content.setdefault("steps", {}).update(self._steps)
            self.content["status"] = self.status
            write_json(self.path, self.content)

    def _replace(self, stage: Stage) -> None:
        """Drop what was made with other settings or inputs.

        What another job has made alike meanwhile is the same to the bit, and stays.
        """
        if not self._holds(stage):
            self._forget(stage.key)

    def _forget(self, key: str) -> None:
        """Drop a stage and all that build on it; their files are stale."""
        self._drop(key)
        for other in [k for k, stage in self.stages.items() if stage["after"] == key]:
            self._forget(other)

    def _drop(self, key: str) -> None:
        done = self.stages.pop(key, None)
        if done is not None:
            stale = self.content.setdefault("stale", {}).setdefault(key, {})
            stale["after"] = done["after"]
            stale["files"] = sorted({*stale.get("files", []), *done["files"].values()})

    def _sweep(self, key: str) -> None:
        """Remove the stale files of a stage and of those that built on it."""
        stale = self.content.get("stale", {})
        gone = set(stale.pop(key, {"files": []})["files"])
        held = {path for stage in self.stages.values() for path in stage["files"].values()}
        for path in gone - held:
            (self.output_dir / path).unlink(missing_ok=True)
            sidecar_of(self.output_dir / path).unlink(missing_ok=True)
        for other in [k for k, one in stale.items() if one["after"] == key]:
            if other not in self.stages:
                self._sweep(other)
        if not stale:
            self.content.pop("stale", None)

    def _holds(self, stage: Stage) -> bool:
        done = self.stages.get(stage.key)
        if done is None:
            return False
        return (
            done["settings"] == json.loads(json.dumps(stage.settings))
            and len(done["inputs"]) == len(stage.inputs)
            and all(map(self._unchanged, stage.inputs, done["inputs"]))
            and all((self.output_dir / path).is_file() for path in done["files"].values())
        )

    def _unchanged(self, path: Path, known: dict) -> bool:
        """Compare a file with what is known of it; its folder may have been moved.

        A link to content that is no longer here, as git-annex leaves it after a drop, is compared
        by its target: the target's name is that of the content.
        """
        if not path.exists() and (target := target_of(path)):
            return (path.name, target) == (known["file"], known.get("target"))
        try:
            size, modified = seen_of(path)
            if (path.name, size) != (known["file"], known["size"]):
                return False
            if modified == known["mtime_ns"]:
                return True
            if checksum(path) != known["sha256"]:
                return False
        except OSError:
            return False
        known["mtime_ns"], self._touched = modified, True
        return True


@contextmanager
def turn(lock: Path) -> Iterator[None]:
    """Let jobs that share an output folder take turns; without locks they go on all the same."""
    from filelock import FileLock

    held = FileLock(lock)
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        held.acquire(timeout=60)
    except (OSError, NotImplementedError):  # a timeout, or a file system without locks
        yield
        return
    try:
        yield
    finally:
        held.release()


def seen_of(path: Path) -> tuple[int, int]:
    """Give a file's size and time of modification in ns."""
    there = path.stat()
    return there.st_size, there.st_mtime_ns


def target_of(path: Path) -> str:
    """Give the name of what a link leads to, there or not; empty for what is no link."""
    return path.readlink().name if path.is_symlink() else ""


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not all(set(stage) >= KEPT for stage in content["stages"].values()):
            raise ValueError(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"scan": path.name.removesuffix("_T1w.json"), "status": "", "stages": {}}
    return content


def _fingerprint(path: Path, sha256: str) -> dict:
    size, modified = seen_of(path)
    known = {"file": path.name, "size": size, "mtime_ns": modified, "sha256": sha256}
    return known | ({"target": target_of(path)} if path.is_symlink() else {})
