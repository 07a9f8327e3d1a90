"""The devices of a training: one or several, on one machine or more."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch

from vxmprep.training.errors import ToldElsewhereError, TrainingError
from vxmprep.training.settings import TrainingSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Result = TypeVar("Result")

PATIENCE = timedelta(hours=12)
"""How long processes wait for the first one, which packs the cohort and validates."""


def make_fabric(settings: TrainingSettings, device: str) -> Fabric:
    """Connect the processes of a training; where they are not there yet, `launch` starts them.

    Parameters
    ----------
    settings
        How many devices and nodes.
    device
        ``cpu``, ``cuda`` or ``cuda:N``; N is for a single device.

    Returns
    -------
    lightning_fabric.Fabric
        Before its `launch`. Several processes average their gradients, over NCCL on GPUs and gloo
        on processors.

    Raises
    ------
    TrainingError
        If the device is not there.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    found = re.fullmatch(r"(cpu|cuda)(?::(\d+))?", device)
    if not found:
        raise TrainingError(f"device is {device!r}; give auto, cpu, cuda or cuda:N")
    kind, number = found.groups()
    if kind == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device is 'cuda', but torch sees no GPU; give 'cpu' or 'auto'")
    common = {"accelerator": kind, "num_nodes": settings.nodes, "precision": "32-true"}
    if settings.devices * settings.nodes == 1:
        # Not to be taken for one of several processes within somebody's Slurm allocation.
        alone = [LightningEnvironment()]
        return Fabric(devices=[int(number)] if number else 1, plugins=alone, **common)
    backend = "gloo" if kind == "cpu" else "nccl"
    strategy = DDPStrategy(process_group_backend=backend, timeout=PATIENCE)
    return Fabric(devices=settings.devices, strategy=strategy, **common)


def set_threads(count: int) -> None:
    """Set the processor's threads of this process; 0 leaves them to torch."""
    if count:
        os.environ["OMP_NUM_THREADS"] = str(count)  # for the processes that are started
        torch.set_num_threads(count)


def zero_first(fabric: Fabric, work: Callable[[], Result]) -> Result:
    """Do some work in the first process, then in the others, who find its files.

    Raises
    ------
    ToldElsewhereError
        In the others, if it failed in the first one; there, what was raised.
    """
    if fabric.world_size == 1:
        return work()
    result, problem = None, None
    if fabric.is_global_zero:
        try:
            result = work()
        except Exception as error:
            problem = error
    # The others would wait for it in vain.
    told = fabric.broadcast(None if problem is None else str(problem))
    if problem is not None:
        raise problem
    if told is not None:
        raise ToldElsewhereError(told)
    return result if fabric.is_global_zero else work()
