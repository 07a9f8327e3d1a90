"""What is done already: a record per scan, of the stages that its results came from."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    """

    name: str
    space: str
    settings: dict
    inputs: tuple[Path, ...] = ()
    after: str = ""

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

    Attributes
    ----------
    path : Path
        Its file, ``logs/<scan>_T1w.json`` in the output folder.
    output_dir : Path
        Root of the derivatives.
    content : dict
        What it says: ``scan``, ``status``, ``stages``, ``steps``, ``failure``.
    """

    path: Path
    output_dir: Path
    content: dict = field(default_factory=dict)

    @classmethod
    def of(cls, output_dir: Path, stem: str) -> Record:
        """Read the record of a scan; one that is not there, or damaged, says nothing."""
        return cls._read(output_dir, output_dir / FOLDER / f"{stem}_T1w.json")

    @classmethod
    def all(cls, output_dir: Path) -> list[Record]:
        """Read the records of all scans, in order of their names."""
        paths = sorted((output_dir / FOLDER).glob("sub-*_T1w.json"))
        return [cls._read(output_dir, path) for path in paths]

    @classmethod
    def _read(cls, output_dir: Path, path: Path) -> Record:
        stem = path.name.removesuffix("_T1w.json")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not all(set(stage) >= KEPT for stage in content["stages"].values()):
                raise ValueError(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            content = {"scan": stem, "status": "", "stages": {}}
        return cls(path, output_dir, content)

    @property
    def stages(self) -> dict[str, dict]:
        """The finished stages by their key."""
        return self.content["stages"]

    @property
    def status(self) -> str:
        """``failed``, ``done`` (registered and evaluated), ``prepared`` or ``unfinished``."""
        if self.content.get("failure"):
            return "failed"
        names = {key.split()[0] for key in self.stages}
        return next(
            (
                word
                for name, word in (("evaluate", "done"), ("labels", "prepared"))
                if name in names
            ),
            "unfinished",
        )

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

    def finish(
        self,
        stage: Stage,
        *,
        files: dict[str, Path],
        checksums: dict[str, str],
        flags: Sequence[str] = (),
        **more: str,
    ) -> None:
        """Note that a stage is done, and write the record.

        What an earlier run made from the former result of the stage no longer holds: it is
        removed, as is what the stage itself no longer makes. A stage, for another atlas say, one
        of whose files has been written over is no longer done.

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
        **more : str
            Values that later stages want.
        """
        made = {name: str(path.relative_to(self.output_dir)) for name, path in files.items()}
        for path in self._forget(stage.key) - set(made.values()):
            (self.output_dir / path).unlink(missing_ok=True)
            sidecar_of(self.output_dir / path).unlink(missing_ok=True)
        for key, other in list(self.stages.items()):
            if set(other["files"].values()) & set(made.values()):
                del self.stages[key]
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
        self._write()

    def fail(self, *, step: str, cause: str, crash: str = "") -> None:
        """Note that the scan has failed, and write the record."""
        self.content["failure"] = {"step": step, "cause": cause, "crash": crash}
        self._write()

    def took(self, step: str, *, seconds: float, cpu_seconds: float, peak_gb: float) -> None:
        """Note what a step took; written with what is noted next."""
        numbers = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gb": peak_gb}
        steps = self.content.setdefault("steps", {})
        steps[step] = {name: round(number, 2) for name, number in numbers.items()}

    def _forget(self, key: str) -> set[str]:
        """Drop a stage and all that build on it, and name their files."""
        files = set(self.stages.pop(key, {"files": {}})["files"].values())
        for other in [k for k, stage in self.stages.items() if stage["after"] == key]:
            files |= self._forget(other)
        return files

    def _write(self) -> None:
        self.content["status"] = self.status
        write_json(self.path, self.content)

    def _holds(self, stage: Stage) -> bool:
        done = self.stages.get(stage.key)
        if done is None:
            return False
        return (
            done["settings"] == json.loads(json.dumps(stage.settings))
            and len(done["inputs"]) == len(stage.inputs)
            and all(map(_unchanged, stage.inputs, done["inputs"]))
            and all((self.output_dir / path).is_file() for path in done["files"].values())
        )


def _fingerprint(path: Path, sha256: str) -> dict:
    there = path.stat()
    return {
        "file": path.name,
        "size": there.st_size,
        "mtime_ns": there.st_mtime_ns,
        "sha256": sha256,
    }


def _unchanged(path: Path, known: dict) -> bool:
    """Compare a file with what is known of it; its folder may have been moved."""
    try:
        there = path.stat()
        if (path.name, there.st_size) != (known["file"], known["size"]):
            return False
        return there.st_mtime_ns == known["mtime_ns"] or checksum(path) == known["sha256"]
    except OSError:
        return False
