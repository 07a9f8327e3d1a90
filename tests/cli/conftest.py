"""Small datasets on which the whole command runs in seconds."""

import json
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from scipy.ndimage import shift

from vxmprep.atlas import default_files
from vxmprep.cli.run import main
from vxmprep.cli.workers import Worker
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import load
from vxmprep.spatial.resample import resample


@dataclass(frozen=True)
class Tiny:
    """The default atlas shrunk to a third: a brain of 65 mm, on which all steps are quick."""

    brain: np.ndarray
    labels: np.ndarray
    affine: np.ndarray

    def atlas(self, folder: Path) -> list[str]:
        """Write the atlas and its labels, and give the options that choose them."""
        folder.mkdir(parents=True, exist_ok=True)
        image, labels = folder / "atlas.nii.gz", folder / "atlas_labels.nii.gz"
        nb.save(nb.Nifti1Image(self.brain, self.affine), image)
        nb.save(nb.Nifti1Image(self.labels, self.affine), labels)
        return ["--atlas", str(image), "--atlas-name", "tiny", "--atlas-labels", str(labels)]

    def scan(self, path: Path, number: int = 1) -> Path:
        """Write a scan: the atlas moved and in another contrast, different for every number."""
        path.parent.mkdir(parents=True, exist_ok=True)
        brain = np.where(self.brain > 0, 20 + self.brain ** (1 + 0.02 * number), 0)
        moved = shift(brain, (0.7, -0.4 * number, 0.5), order=1)
        scaled = np.rint(1000 * moved / moved.max()).astype(np.int16)
        nb.save(nb.Nifti1Image(scaled, self.affine), path)
        return path

    def segmentation(self, path: Path, number: int = 1) -> Path:
        """Write the labels of a scan."""
        path.parent.mkdir(parents=True, exist_ok=True)
        moved = shift(self.labels, (0.7, -0.4 * number, 0.5), order=0)
        nb.save(nb.Nifti1Image(moved, self.affine), path)
        return path


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    image, labels = (load(path, kind) for path, kind in zip(
        default_files(), (np.float32, np.int32), strict=True
    ))  # fmt: skip
    grid = Grid.of(image)
    coarse = Grid(tuple(n // 3 for n in grid.shape), grid.affine @ np.diag([3.0, 3.0, 3.0, 1.0]))
    brain = np.asarray(resample(image, coarse, np.eye(4)).dataobj)
    parts = np.asarray(resample(labels, coarse, np.eye(4), nearest=True).dataobj)
    affine = nb.affines.from_matvec(np.eye(3), -np.array(coarse.shape) / 2)
    return Tiny(brain.astype(np.float32), parts.astype(np.int16), affine)


@dataclass(frozen=True)
class Study:
    """A small dataset with the options that process it quickly."""

    tiny: Tiny
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
