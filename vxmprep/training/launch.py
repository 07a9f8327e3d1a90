"""Starting a training as a process, or as several, of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vxmprep.training.settings import TrainingSettings

GRACE = 60
"""Seconds that a training gets to write its state when it is asked to stop."""

REASON = "vxmprep.training: "
"""How the line begins that says why a training ended."""


class TrainingFailedError(RuntimeError):
    """A training's process has failed; the message is its own last line."""


def launch(config: Path, settings: TrainingSettings) -> None:
    """Train what a configuration says, in a process of its own, and wait for its end.

    Parameters
    ----------
    config
        The TOML file.
    settings
        Those of the file, which tell how many processes it takes.

    Raises
    ------
    TrainingFailedError
        If it did not end well.
    """
    child = subprocess.Popen(
        command(config, settings, os.environ), stderr=subprocess.PIPE, text=True, errors="replace"
    )
    said: list[str] = []
    try:
        for line in child.stderr:
            said = [*said[-20:], line.strip()]
            if not line.startswith(REASON):
                print(line, end="", file=sys.stderr, flush=True)
        code = child.wait()
    except BaseException:
        _end(child)
        raise
    if code:
        raise TrainingFailedError(_reason(said, code))


def command(config: Path, settings: TrainingSettings, environment: Mapping[str, str]) -> list[str]:
    """Give the words that start a training.

    Several processes are started by Slurm within one of its jobs, elsewhere by the first of them.
    """
    words = [sys.executable, "-m", "vxmprep.training", str(config)]
    count = settings.devices * settings.nodes
    if count == 1 or "SLURM_JOB_ID" not in environment:
        return words
    cores = [f"--cpus-per-task={settings.threads}"] if settings.threads else []
    shape = [f"--nodes={settings.nodes}", f"--ntasks-per-node={settings.devices}"]
    return ["srun", *shape, f"--ntasks={count}", *cores, *words]


def _end(child: subprocess.Popen) -> None:
    """Ask a process to stop, and end it if it does not."""
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _reason(said: Sequence[str], code: int) -> str:
    own = [line.removeprefix(REASON) for line in said if line.startswith(REASON)]
    if own:
        return own[-1]
    if code < 0:
        return (
            f"the training was killed by signal {-code}; if memory ran out, lower --batch-size or "
            "--memory-budget, or choose --voxel-size 2. The same command goes on"
        )
    last = [line for line in said if line]
    return f"the training ended with code {code}" + (f": {last[-1]}" if last else "")
