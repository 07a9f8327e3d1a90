"""Writing a cohort: scan after scan into one file, then all files renamed at once."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from vxmprep.evaluation.overlap import count_labels
from vxmprep.spatial.files import replacing
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import ImageError
from vxmprep.training.errors import TrainingError
from vxmprep.training.report import as_time
from vxmprep.training.volumes import coarse_shape, read_image, read_labels

if TYPE_CHECKING:
    from vxmprep.training.carrying import Carrier

FORMAT = "vxmprep cohort 1"
IMAGES, LABELS, INDEX = "images.npy", "labels.npy", "cohort.json"

EVERY = 30.0
"""Seconds between messages while a large cohort is packed."""


@dataclass(frozen=True)
class Scan:
    """One prepared scan.

    Attributes
    ----------
    name
        What messages and logs call it; no two scans have the same.
    participant
        Whose scan it is.
    image
        Conformed image, uint8 on the network's grid of 1 mm.
    labels
        Labels on the same grid, or None.
    site
        Where it was acquired, or None.
    """

    name: str
    participant: str
    image: Path
    labels: Path | None = None
    site: str | None = None


@dataclass(frozen=True)
class Entry:
    """One scan of a packed cohort: checksums (CRC-32), place and structures of its labels."""

    name: str
    participant: str
    site: str | None
    image_checksum: int
    labels_row: int | None = None
    labels_checksum: int | None = None
    structures: tuple[int, ...] = ()


def pack(
    scans: Sequence[Scan],
    grid: Grid,
    folder: Path,
    voxel_size: int,
    wanted: dict,
    tell: Callable[[str], None],
    carrier: Carrier | None = None,
) -> None:
    """Write the files of a cohort; none is there unless all are.

    Parameters
    ----------
    scans, grid, folder, voxel_size, tell, carrier
        As `vxmprep.training.cohort.open_cohort` takes them.
    wanted
        Kept in the JSON as it is.

    Raises
    ------
    TrainingError
        If no scan can be used, or the disk is full.
    """
    shape = coarse_shape(grid, voxel_size)
    with _on_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (IMAGES, LABELS, INDEX):
            for old in folder.glob(f".*.{name}"):
                old.unlink(missing_ok=True)  # what killed runs have left
        with ExitStack() as stack:
            index, labels, images = (
                stack.enter_context(replacing(folder / name)) for name in (INDEX, LABELS, IMAGES)
            )
            with images.open("wb") as one, labels.open("wb") as other:
                writer = _Writer(one, other, shape, carrier)
                for scan in _told(scans, tell, EVERY if carrier is None else 0):
                    writer.add(scan, grid, voxel_size)
                writer.finish()
            files = {IMAGES: images, LABELS: labels} if writer.labelled else {IMAGES: images}
            content = writer.content(wanted)
            content["sizes"] = {name: path.stat().st_size for name, path in files.items()}
            index.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            # The others are renamed before it, and the old one does not tell of them.
            (folder / INDEX).unlink(missing_ok=True)
        if not writer.labelled:
            (folder / LABELS).unlink(missing_ok=True)  # a header and nothing else


def _told(scans: Sequence[Scan], tell: Callable[[str], None], every: float) -> Iterator[Scan]:
    """Give scan after scan, and say after so many seconds how many are done."""
    begin = last = time.monotonic()
    for number, scan in enumerate(scans, start=1):
        yield scan
        now = time.monotonic()
        if now - last > every:
            last, left = now, (now - begin) / number * (len(scans) - number)
            tell(f"packed {number} of {len(scans)} scans, {as_time(left)} left")


@contextmanager
def _on_full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(folder).free / 1e9
        raise TrainingError(
            f"{folder}: the disk is full ({free:.1f} GB free) and the cohort does not fit; "
            "nothing of it was kept; free space or choose another folder"
        ) from error


class _Writer:
    """Adds scan after scan to the two files, whose number of volumes is written last."""

    def __init__(
        self,
        images: BinaryIO,
        labels: BinaryIO,
        shape: tuple[int, ...],
        carrier: Carrier | None = None,
    ) -> None:
        self.images, self.labels = images, labels
        self.shape, self.carrier = shape, carrier
        self.entries: list[Entry] = []
        self.labelled = 0
        self.left_out: dict[str, str] = {}
        self.without_labels: dict[str, str] = {}
        for file, dtype in ((images, np.uint8), (labels, np.int16)):
            _write_header(file, dtype, 0, shape)

    def add(self, scan: Scan, grid: Grid, voxel_size: int) -> None:
        """Append a scan, or note why it is left out."""
        try:
            image = read_image(scan.image, grid, voxel_size)
        except ImageError as error:
            self.left_out[scan.name] = str(error)
            return
        labels = self._labels(scan, grid, voxel_size)
        entry = Entry(scan.name, scan.participant, scan.site, zlib.crc32(image))
        self.images.write(image)
        if labels is not None:
            self.labels.write(labels)
            row, found = self.labelled, tuple(count_labels(labels))
            checksum = zlib.crc32(labels)
            entry = replace(entry, labels_row=row, labels_checksum=checksum, structures=found)
            self.labelled += 1
        self.entries.append(entry)

    def _labels(self, scan: Scan, grid: Grid, voxel_size: int) -> np.ndarray | None:
        if self.carrier is not None:
            step = slice(None, None, voxel_size)
            whole = self.carrier.labels_of(read_image(scan.image, grid))
            return np.ascontiguousarray(whole[step, step, step])
        try:
            return None if scan.labels is None else read_labels(scan.labels, grid, voxel_size)
        except ImageError as error:
            self.without_labels[scan.name] = str(error)
            return None

    def finish(self) -> None:
        """Write how many volumes there are."""
        if not self.entries:
            reasons = [f"{name}: {reason}" for name, reason in self.left_out.items()]
            first = f", the first because of {reasons[0]}" if reasons else ""
            raise TrainingError(f"no scan to train on: {len(reasons)} left out{first}")
        for file, dtype, count in (
            (self.images, np.uint8, len(self.entries)),
            (self.labels, np.int16, self.labelled),
        ):
            file.seek(0)
            _write_header(file, dtype, count, self.shape)

    def content(self, wanted: dict) -> dict:
        """Describe what was written."""
        entries = [asdict(entry) for entry in self.entries]
        known = json.dumps([list(self.shape), wanted["voxel_size"], entries])
        return {
            "format": FORMAT,
            "fingerprint": hashlib.sha256(known.encode()).hexdigest(),
            "shape": list(self.shape),
            "wanted": wanted,
            "entries": entries,
            "left_out": self.left_out,
            "without_labels": self.without_labels,
        }


def _write_header(file: BinaryIO, dtype: type, count: int, shape: tuple[int, ...]) -> None:
    """Write the header of a .npy file, which is as long for any number of volumes."""
    described = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, described)
