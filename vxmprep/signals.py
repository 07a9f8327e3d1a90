"""Signals that end a run: Ctrl-C, and SIGTERM, which batch systems send before they kill."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end a block as Ctrl-C does, and let neither interrupt the cleaning up."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def end(number: int, _: object) -> None:
        # A second one would only disturb the cleaning up.
        for one in signals:
            signal.signal(one, signal.SIG_IGN)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    try:
        before = {one: signal.signal(one, end) for one in signals}
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
