"""Where a training stands, in files that are either whole or not there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vxmprep.morph.checkpoint import write_archive
from vxmprep.training.errors import TrainingError

FORMAT = "vxmprep training 1"


@dataclass
class Progress:
    """What a training has done.

    Attributes
    ----------
    iteration
        Iterations done.
    best, best_iteration
        Highest score of a validation, and after how many iterations.
    stale
        Validations since then.
    seconds
        Time spent on iterations.
    waited
        Time of these spent waiting for data.
    """

    iteration: int = 0
    best: float = float("-inf")
    best_iteration: int = 0
    stale: int = 0
    seconds: float = 0.0
    waited: float = 0.0


def save_state(
    path: Path, progress: Progress, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write progress, weights, optimiser and random states, under a temporary name first."""
    content = {
        "format": FORMAT,
        "progress": asdict(progress),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    write_archive(content, path)


def load_state(
    path: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> Progress:
    """Read what `save_state` wrote into a network and, where one is given, an optimiser.

    Raises
    ------
    TrainingError
        If the file is something else, or of another network.
    """
    content = _read(path)
    try:
        network.load_state_dict(content["network"])
        if optimizer is not None:
            optimizer.load_state_dict(content["optimizer"])
            torch.set_rng_state(content["random"].cpu())
            if len(content["random_cuda"]) == torch.cuda.device_count() > 0:
                torch.cuda.set_rng_state_all([state.cpu() for state in content["random_cuda"]])
        return Progress(**content["progress"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path}: of another network, or damaged; remove the model's folder and start again"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(
            f"{path}: not a state of a training, or damaged; remove it and start again"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(f"{path}: not a state of a training; remove it and start again")
    return content
