"""Small datasets on which the whole command runs in seconds."""

import json
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vxmprep.cli.run import main
from vxmprep.cli.workers import Worker


@dataclass(frozen=True)
class Study:
    """A small dataset with the options that process it quickly."""

    tiny: Any
    root: Path
    options: tuple[str, ...]

    @property
    def bids(self) -> Path:
        return self.root / "bids"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def freesurfer(self) -> Path:
        return self.root / "fs"

    def t1w(self, label: str) -> Path:
        return self.bids / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"

    def aseg(self, label: str) -> Path:
        return self.freesurfer / f"sub-{label}" / "mri" / "aseg.mgz"

    def mask(self, label: str) -> Path:
        folder = self.root / "masks" / f"sub-{label}" / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"sub-{label}_desc-brain_mask.nii.gz"

    def arguments(self, *more: str, level: str = "participant") -> list[str]:
        """Give the words of a command line."""
        return [str(self.bids), str(self.out), level, *self.options, *more]

    def run(self, *more: str, level: str = "participant") -> int:
        """Run the command in this process, and give its exit code."""
        return main(self.arguments(*more, level=level))

    def record(self, stem: str) -> dict:
        return json.loads((self.out / "logs" / f"{stem}_T1w.json").read_text())

    def results(self) -> dict[str, bytes]:
        """Give the files of all scans by name."""
        files = (p for p in self.out.glob("sub-*/**/*") if p.is_file())
        return {str(path.relative_to(self.out)): path.read_bytes() for path in files}

    def status(self) -> dict[str, dict[str, str]]:
        """Give the rows of the status table by scan."""
        header, *rows = (self.out / "participants_status.tsv").read_text().splitlines()
        names = header.split("\t")
        return {row.split("\t")[0]: dict(zip(names, row.split("\t"), strict=True)) for row in rows}


class KeptWorker(Worker):
    """A worker that waits for the next run instead of ending: its imports take seconds."""

    def __init__(self, keep: Callable[["KeptWorker"], None]) -> None:
        super().__init__()
        self._keep = keep
        self.surroundings = surroundings()

    def stop(self) -> None:
        self._keep(self)

    def end(self) -> None:
        super().stop()

    @property
    def usable(self) -> bool:
        """Whether it lives, in what a new one would be in."""
        return self._process.is_alive() and self.surroundings == surroundings()


def surroundings() -> tuple:
    """Give what a process has from the one that starts it."""
    # The first names a folder of the run, whose content is always the same.
    own = {"NIPYPE_CONFIG_DIR", "PYTEST_CURRENT_TEST"}
    variables = {name: value for name, value in os.environ.items() if name not in own}
    return variables, Path.cwd(), resource.getrlimit(resource.RLIMIT_FSIZE)


@pytest.fixture(scope="session")
def kept_workers() -> Iterator[Callable[[str | None], Worker]]:
    """What gives a worker that has been kept, or else a new one."""
    kept: list[KeptWorker] = []

    def give(gpu: str | None = None) -> Worker:
        if gpu is not None:
            return Worker(gpu)
        for worker in list(kept):
            kept.remove(worker)
            if worker.usable:
                return worker
            worker.end()
        return KeptWorker(kept.append)

    yield give
    for worker in kept:
        worker.end()


@pytest.fixture
def study(tiny, tmp_path, kept_workers, monkeypatch) -> Study:
    """A dataset of two participants, the first with a segmentation."""
    monkeypatch.setattr("vxmprep.cli.plugin.Worker", kept_workers)
    root = tmp_path / "a stüdy"
    options = (
        *tiny.atlas(root / "atlas"),
        "--fs-subjects-dir", str(root / "fs"), "-w", str(root / "work"),
        "--refine-iterations", "5", "--nprocs", "2", "--omp-nthreads", "1",
        "--device", "cpu", "--skip-bids-validation",
    )  # fmt: skip
    made = Study(tiny, root, options)
    for number, label in enumerate(("01", "02"), start=1):
        tiny.scan(made.t1w(label), number)
    tiny.segmentation(made.aseg("01"), 1)
    description = {"Name": "tiny", "BIDSVersion": "1.10.0"}
    (made.bids / "dataset_description.json").write_text(json.dumps(description))
    return made
