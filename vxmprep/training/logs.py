"""Everything measured while training: two tables, and TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
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
        self._board = None
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

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
            if writer:
                writer.flush()

    def close(self) -> None:
        """Write what was added, and end."""
        for writer in (self._iterations, self._validations, self._board):
            if writer:
                writer.close()

    def _show(self, kind: str, iteration: int, values: Mapping[str, float]) -> None:
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, iteration)
