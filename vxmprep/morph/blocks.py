"""Blocks of a batch of volumes, so small that what is computed from one stays in the cache."""

import math
from collections.abc import Iterator

import torch

CACHED_VALUES = {"cpu": 2**19, "cuda": 2**21}
"""About how many values of one quantity a block holds; enough to keep all threads busy."""


def block_size(device: torch.device) -> int:
    """Values of one quantity that a block should hold."""
    return CACHED_VALUES.get(device.type, CACHED_VALUES["cuda"])


def samples_together(volumes: torch.Tensor) -> int:
    """How many volumes of a batch ``(N, X, ...)`` make one block; at least one."""
    return max(1, block_size(volumes.device) // max(1, math.prod(volumes.shape[1:])))


def blocks(volumes: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Cut a batch ``(N, X, ...)`` into blocks of volumes and, where one is large, of its planes.

    Examples
    --------
    >>> list(blocks(torch.empty(2, 160, 192, 224)))[0]
    (slice(0, 1, None), slice(0, 12, None))
    """
    samples, length = volumes.shape[:2]
    together = samples_together(volumes)
    plane = max(1, math.prod(volumes.shape[2:]))
    planes = max(1, block_size(volumes.device) // (together * plane))
    for sample in range(0, samples, together):
        for first in range(0, length, planes):
            yield slice(sample, sample + together), slice(first, first + planes)
