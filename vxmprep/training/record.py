"""Tables of what was measured while training, which go on where a killed run left them."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from vxmprep.spatial.files import replacing


class Table:
    """A CSV file whose first column is the iteration; rows are added.

    Parameters
    ----------
    path
        The file.
    columns
        Names of the columns.
    last
        Rows of later iterations, and one cut short, are removed: they will come again.
    """

    def __init__(self, path: Path, columns: Sequence[str], last: int) -> None:
        self.path, self.columns = path, tuple(columns)
        kept = [row for row in _complete_rows(path, self.columns) if int(row[0]) <= last]
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([self.columns, *kept])
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file)

    def add(self, row: Mapping[str, float | int | str]) -> None:
        """Add a row; it is in the file once `flush` is called."""
        self._writer.writerow([_text(row[name]) for name in self.columns])

    def flush(self) -> None:
        """Write what was added."""
        self._file.flush()

    def close(self) -> None:
        """Write what was added, and end."""
        self._file.close()


def read_table(path: Path) -> dict[str, list[float]]:
    """Read the columns of numbers of a table by their names."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    return {
        name: [float(value) for value in values]
        for name, *values in zip(*rows, strict=True)
        if all(_is_number(value) for value in values)
    }


def _complete_rows(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        lines = [line for line in file if line.endswith("\n")]
    rows = csv.reader(itertools.islice(lines, 1, None))
    return [row for row in rows if len(row) == len(columns) and row[0].isdecimal()]


def _text(value: float | int | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
