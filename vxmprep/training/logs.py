"""Everything measured while training: two tables, and events for TensorBoard.

The tables go on where a killed run left them.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from vxmprep.spatial.files import replacing
from vxmprep.training.folder import ModelFolder
from vxmprep.training.report import PARTS

ITERATION = (
    "iteration",
    "loss",
    *PARTS,
    "gradient",
    "learning_rate",
    "seconds",
    "waited",
)
VALIDATION = ("iteration", "dice", "ncc", "loss", "folding")


class Logs:
    """Writes what was measured.

    Parameters
    ----------
    folder
        Where to.
    iteration
        Where the training goes on; later rows of a killed run are dropped.
    """

    def __init__(self, folder: ModelFolder, iteration: int) -> None:
        self._iterations = Table(folder.iterations, ITERATION, iteration)
        # The validation of iteration 0 is made again if nothing was trained yet.
        self._validations = Table(folder.validations, VALIDATION, iteration or -1)
        # Not TensorBoard itself, which only those need who look at the events.
        from tensorboardX import SummaryWriter

        self._board = SummaryWriter(str(folder.events), purge_step=iteration)

    def iteration(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add an iteration."""
        self._iterations.add({"iteration": iteration, **values})
        self._show("training", iteration, values)

    def validation(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add a validation."""
        self._validations.add({"iteration": iteration, **values})
        self._show("validation", iteration, values)

    def flush(self) -> None:
        """Write what was added."""
        for writer in (self._iterations, self._validations, self._board):
            writer.flush()

    def close(self) -> None:
        """Write what was added, and end."""
        for writer in (self._iterations, self._validations, self._board):
            writer.close()

    def _show(self, kind: str, iteration: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if not math.isnan(value):  # what could not be measured, as overlap without labels
                self._board.add_scalar(f"{kind}/{name}", value, iteration)


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
    """Read the columns of a table by their names."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    return {name: [float(value) for value in values] for name, *values in zip(*rows, strict=True)}


def _complete_rows(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        lines = [line for line in file if line.endswith("\n")]
    rows = csv.reader(itertools.islice(lines, 1, None))
    return [row for row in rows if len(row) == len(columns) and row[0].isdecimal()]


def _text(value: float | int | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
