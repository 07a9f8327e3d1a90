"""Everything measured while training: two tables, and events for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vxmprep.training.folder import ModelFolder
from vxmprep.training.record import Table
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
