"""A cohort on disk: all images in one array file, all labels in another, a JSON that tells them.

Reading a sample opens no file and takes only its own pages into memory, so thousands of scans need
neither thousands of open files nor the cohort in memory.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock, Timeout

from vxmprep.spatial.grid import Grid
from vxmprep.training.errors import TrainingError
from vxmprep.training.packing import FORMAT, IMAGES, INDEX, LABELS, Entry, Scan, pack
from vxmprep.training.report import as_time

if TYPE_CHECKING:
    from vxmprep.training.carrying import Carrier

LOCK = "lock"

SECONDS = 20
"""About what carrying labels to a scan takes a processor, on the default atlas's grid of 1 mm."""

__all__ = ["Cohort", "Entry", "Scan", "open_cohort"]


@dataclass(frozen=True)
class Cohort:
    """A packed cohort, open for reading.

    Attributes
    ----------
    entries
        The scans, in the order of the images' rows.
    shape
        Spatial shape of the volumes.
    left_out
        Why scans are not in it, by name.
    without_labels
        Why labels that were given are not in it, by name of the scan.
    fingerprint
        SHA-256 of all that can be read from it.
    images, labels
        Memory-mapped ``(N, X, Y, Z)``, uint8 and int16; labels of the labelled scans only.
    """

    entries: tuple[Entry, ...]
    shape: tuple[int, ...]
    left_out: dict[str, str]
    without_labels: dict[str, str]
    fingerprint: str
    images: np.ndarray = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    _checked: set[tuple[str, int]] = field(default_factory=set, repr=False, compare=False)

    def image(self, index: int) -> np.ndarray:
        """Read an image, uint8; its checksum is compared the first time."""
        return self._read(self.images, index, self.entries[index].image_checksum, IMAGES)

    def labels_of(self, index: int) -> np.ndarray | None:
        """Read labels, int16, or None where the scan has none."""
        row = self.entries[index].labels_row
        if row is None:
            return None
        return self._read(self.labels, row, self.entries[index].labels_checksum, LABELS)

    def _read(self, volumes: np.ndarray, row: int, checksum: int, name: str) -> np.ndarray:
        volume = np.array(volumes[row])
        if (name, row) not in self._checked:
            if zlib.crc32(volume) != checksum:
                raise TrainingError(
                    f"{name}: volume {row} is damaged; remove the cohort's folder and start again"
                )
            self._checked.add((name, row))
        return volume


def open_cohort(
    scans: Sequence[Scan],
    grid: Grid,
    folder: Path,
    *,
    voxel_size: int = 1,
    carrier: Carrier | None = None,
    tell: Callable[[str], None] = print,
) -> Cohort:
    """Open the packed cohort of some scans; pack it first where it is not there or out of date.

    Parameters
    ----------
    scans
        The scans.
    grid
        The network's grid of 1 mm.
    folder
        Where the cohort is kept; several trainings may share it.
    voxel_size
        1 or 2 mm.
    carrier
        Gives every scan its labels, instead of those that scans have.
    tell
        Takes messages for the user.

    Returns
    -------
    Cohort
        Scans that could not be read, or lie on another grid, are left out, named and counted.

    Raises
    ------
    TrainingError
        If no scan is left, two have the same name, or the disk is full.
    """
    _refuse_twins(scans)
    if carrier is not None:
        scans = [replace(scan, labels=None) for scan in scans]
    wanted = _wanted(scans, grid, voxel_size)
    if carrier is not None:
        wanted["segmentations"] = carrier.source
    folder.mkdir(parents=True, exist_ok=True)
    with _turn(folder, tell):
        found = _read_index(folder)
        if found is None or not _serves(found["wanted"], wanted, folder, tell):
            tell(f"packing {len(scans)} scans at {voxel_size} mm in {folder}")
            if carrier is not None:
                tell(
                    "every scan is registered to the atlas for its segmentation, about "
                    f"{SECONDS} s of a processor each: {as_time(SECONDS * len(scans))}, less what "
                    "was done before"
                )
            pack(scans, grid, folder, voxel_size, wanted, tell, carrier)
            found = _read_index(folder)
        cohort = _open(folder, found)
    _report(cohort, tell)
    return cohort


def _refuse_twins(scans: Sequence[Scan]) -> None:
    names = Counter(scan.name for scan in scans)
    twins = sorted(name for name, count in names.items() if count > 1)
    if twins:
        raise TrainingError(f"{twins[0]}: two scans have this name; name each once")


def _wanted(scans: Sequence[Scan], grid: Grid, voxel_size: int) -> dict:
    """Describe what the files should hold: the sources as they are now."""
    return {
        "voxel_size": voxel_size,
        "grid": {"shape": list(grid.shape), "affine": grid.affine.tolist()},
        "scans": [
            [scan.name, scan.participant, scan.site, _state(scan.image), _state(scan.labels)]
            for scan in scans
        ],
    }


def _serves(packed: dict, wanted: dict, folder: Path, tell: Callable[[str], None]) -> bool:
    """Tell whether what is packed is what is wanted, as far as that is still there."""
    if packed == wanted:
        return True
    if {**packed, "scans": None} != {**wanted, "scans": None}:
        return False
    had, scans = packed["scans"], wanted["scans"]
    alike = [scan[:3] for scan in had] == [scan[:3] for scan in scans] and all(
        _same_or_gone(*states)
        for one, other in zip(had, scans, strict=True)
        for states in zip(one[3:], other[3:], strict=True)
    )
    if alike:
        gone = sum(len(state or [0, 0]) == 1 for scan in scans for state in scan[3:])
        tell(f"{gone} files of the scans are no longer there; going on with what is in {folder}")
    return alike


def _same_or_gone(packed: list | None, now: list | None) -> bool:
    return packed == now or bool(packed and now and now == packed[:1])


@contextmanager
def _turn(folder: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Let trainings that share a folder take turns."""
    lock = FileLock(folder / LOCK)
    try:
        held = lock.acquire(timeout=0)
    except PermissionError:  # somebody else's cohort, which can be read but not packed here
        held = nullcontext()
    except Timeout:
        tell(f"waiting for another training that packs scans in {folder}")
        held = lock.acquire()
    with held:
        yield


def _state(path: Path | None) -> list | None:
    """Path, size and time of a file; where there is none, its path alone."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return [str(path)]
    return [str(path), status.st_size, status.st_mtime_ns]


def _read_index(folder: Path) -> dict | None:
    """Read what a folder holds, or None where it holds no whole cohort."""
    try:
        found = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return None
    sizes = found["sizes"].items()
    whole = all((folder / n).is_file() and (folder / n).stat().st_size == s for n, s in sizes)
    return found if whole else None


def _open(folder: Path, found: dict) -> Cohort:
    labelled = LABELS in found["sizes"]
    return Cohort(
        tuple(Entry(**{**e, "structures": tuple(e["structures"])}) for e in found["entries"]),
        tuple(found["shape"]),
        found["left_out"],
        found["without_labels"],
        found["fingerprint"],
        np.load(folder / IMAGES, mmap_mode="r"),
        np.load(folder / LABELS, mmap_mode="r") if labelled else None,
    )


def _report(cohort: Cohort, tell: Callable[[str], None]) -> None:
    labelled = sum(entry.labels_row is not None for entry in cohort.entries)
    people = len({entry.participant for entry in cohort.entries})
    tell(
        f"cohort: {len(cohort.entries)} scans of {people} participants, {labelled} with labels, "
        f"{len(cohort.left_out)} left out"
    )
    for name, reason in cohort.left_out.items():
        tell(f"left out: {name}: {reason}")
    for name, reason in cohort.without_labels.items():
        tell(f"used without its labels: {name}: {reason}")
