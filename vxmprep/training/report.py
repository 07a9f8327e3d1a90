"""What a user sees while a network is trained."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

PARTS = ("similarity", "smoothness", "segmentation")
MEASURES = {"dice": "Dice", "ncc": "local NCC", "folding": "folding, % of brain"}
"""What validations measure, in words."""

LEAST_SHARE = 0.03
"""Share of the smoothness in the loss below which lambda is on another scale."""

SETTLED = 500
"""Iterations after which the share is looked at; fields begin at zero."""

MEMORY = 0.98
"""What a running mean keeps of itself at each iteration."""


class Reporter:
    """Prints a line of progress now and then, and what is to be warned about, once.

    Parameters
    ----------
    iterations
        Most iterations of the training.
    tell
        Takes whole lines.
    """

    def __init__(self, iterations: int, tell: Callable[[str], None]) -> None:
        self.iterations, self.tell = iterations, tell
        self.live = sys.stdout.isatty()
        self.every = 0.5 if self.live else 15.0
        self.means: dict[str, float] = {}
        self.warned = False
        self._last = 0.0
        self._seen = 0

    def step(self, iteration: int, values: Mapping[str, float], seconds: float) -> None:
        """Take the parts of an iteration's loss, and the seconds that it took."""
        self._seen += 1
        keep = min(MEMORY, 1 - 1 / self._seen)
        for name, value in {**values, "seconds": seconds}.items():
            before = self.means.get(name, value)
            self.means[name] = keep * before + (1 - keep) * value
        if not self.warned and iteration >= SETTLED and self._seen >= 1 / (1 - MEMORY):
            self._warn()
        now = time.monotonic()
        if now - self._last >= self.every or iteration == self.iterations:
            self._last = now
            print(self._line(iteration), end="\r" if self.live else "\n", flush=True)

    def share(self, name: str) -> float:
        """Share of a part in the sum of all parts."""
        total = sum(abs(self.means.get(part, 0.0)) for part in PARTS)
        return abs(self.means.get(name, 0.0)) / total if total else 0.0

    def _line(self, iteration: int) -> str:
        parts = (
            f"{part} {self.means[part]:.4f} ({self.share(part):.0%})"
            for part in PARTS
            if self.means.get(part)
        )
        loss = sum(self.means.get(part, 0.0) for part in PARTS)
        left = (self.iterations - iteration) * self.means["seconds"]
        return (
            f"iteration {iteration}/{self.iterations}: loss {loss:.4f} = {' + '.join(parts)}; "
            f"{self.means['seconds']:.2f} s each, at most {as_time(left)} left"
        )

    def _warn(self) -> None:
        share = self.share("smoothness")
        if share < LEAST_SHARE:
            self.warned = True
            self.tell(
                f"warning: smoothness is {share:.1%} of the loss: smoothness_weight is on another "
                "scale than the similarity, and fields may fold; raise it"
            )


def as_time(seconds: float) -> str:
    """Give a time for reading.

    Examples
    --------
    >>> as_time(42), as_time(600), as_time(7200)
    ('42 s', '10 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
