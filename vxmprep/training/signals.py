"""Being asked to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, what batch systems send before they kill, and what they can be told to send before."""


class StopRequest:
    """Remembers the last signal that asked to stop; 0 while there is none."""

    signal = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal. Ctrl-C asked for twice ends at once."""
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note signals for as long as the block lasts; only the main thread can."""
    request = StopRequest()
    before = {number: signal.signal(number, request) for number in ASKING}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
