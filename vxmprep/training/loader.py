"""Reading ahead while the device computes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

from vxmprep.training.data import Batch

AHEAD = 2


class Prefetcher:
    """Batches of consecutive iterations, read by a thread of its own.

    What an iteration is given does not depend on the thread's timing. Use it as a context, which
    ends the thread.

    Parameters
    ----------
    read
        Gives the batch of an iteration.
    first, stop
        The iterations, `stop` left out.
    """

    def __init__(self, read: Callable[[int], Batch], first: int, stop: int) -> None:
        self.read, self.iterations = read, range(first, stop)
        self.waited = 0.0
        """Seconds that the last batch was waited for."""
        self._queue: queue.Queue = queue.Queue(maxsize=AHEAD)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._fill, daemon=True, name="reader")

    def __enter__(self) -> Prefetcher:
        """Start reading."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        """Give iterations and their batches; an error of the thread is raised here."""
        for iteration in self.iterations:
            begin = time.perf_counter()
            found = self._queue.get()
            self.waited = time.perf_counter() - begin
            if isinstance(found, BaseException):
                raise found
            yield iteration, found

    def _fill(self) -> None:
        for iteration in self.iterations:
            try:
                found = self.read(iteration)
            except Exception as error:
                found = error
            while not self._over.is_set():
                try:
                    self._queue.put(found, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._over.is_set() or isinstance(found, Exception):
                return
