"""Worker processes that live as long as a run, and whose death is noticed.

Imported by the workers themselves before they know their environment, so nothing heavy is
imported at the top.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from vxmprep.resources import give_memory_back, keep_freed_memory


@dataclass(frozen=True)
class Usage:
    """What a task took.

    Attributes
    ----------
    seconds : float
        Wall time.
    cpu_seconds : float
        Processor time of the worker and of the programs that it ran.
    peak_gb : float
        Largest resident memory of the worker meanwhile, GiB; 0 where the system does not tell.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_gb: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes
    ----------
    value : object
        What the task returned; None if it did not.
    error : str
        Its traceback; empty if it returned.
    killed : int or None
        The exit code of a worker that died over it, negative for a signal.
    usage : Usage
        What it took.
    """

    value: Any = None
    error: str = ""
    killed: int | None = None
    usage: Usage = Usage()


class Worker:
    """A process that runs one task at a time and is asked for the next when it has answered.

    Parameters
    ----------
    gpu : str, optional
        The GPU that it sees, as CUDA_VISIBLE_DEVICES names it; by default what this process sees.
    """

    def __init__(self, gpu: str | None = None) -> None:
        self.gpu = gpu
        # Not forked: a process in which torch or CUDA has started threads cannot be.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, gpu), name="vxmprep worker")
        self._process.start()
        theirs.close()
        self._since = time.monotonic()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, task: Callable, *arguments: Any) -> None:
        """Start a task; the worker must be idle."""
        self._since = time.monotonic()
        # A worker that is dead already is noticed when its answer is asked for.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send((task, arguments))

    def signs(self) -> tuple[Connection, int]:
        """Give what becomes ready when the worker answers and when it dies."""
        return self._connection, self._process.sentinel

    def receive(self) -> Outcome:
        """Take the answer of a worker that `answered` gave; the end of the worker is one too."""
        with contextlib.suppress(EOFError, ConnectionResetError):
            if self._connection.poll():
                return self._connection.recv()
        self.strike()  # the programs that it ran outlive it
        self._process.join()
        seconds = time.monotonic() - self._since
        return Outcome(killed=self._process.exitcode, usage=Usage(seconds))

    def stop(self) -> None:
        """Let an idle worker end."""
        self._connection.close()
        self._process.join(timeout=10)
        self.kill()

    def strike(self) -> None:
        """Send SIGKILL to the worker and to the programs that it runs."""
        # Before the worker is waited for: until then its number is its group's and no other's.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # it has no group of its own yet
            self._process.kill()

    def kill(self) -> None:
        """End the worker and the programs that it runs, at once."""
        if self._process.is_alive():
            self.strike()
            self._process.join()
        self._connection.close()


def answered(workers: Iterable[Worker], timeout: float) -> list[Worker]:
    """Give the workers that have answered or died, waiting for the first of them.

    Parameters
    ----------
    workers : iterable of Worker
        Those that have a task.
    timeout : float
        Seconds after which the answer is an empty list.
    """
    by_sign = {sign: worker for worker in workers for sign in worker.signs()}
    return list({by_sign[ready]: None for ready in wait(list(by_sign), timeout)})


def _serve(connection: Connection, gpu: str | None) -> None:
    """Answer tasks until the other end is closed."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before CUDA is there, which looks once
    os.setsid()  # a group of its own: Ctrl-C is the parent's, and its programs end with it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    while True:
        try:
            task, arguments = connection.recv()
        except EOFError:
            return
        outcome = _run(task, arguments)
        try:
            connection.send(outcome)
        except BrokenPipeError:
            return
        except Exception:
            connection.send(Outcome(error=traceback.format_exc(), usage=outcome.usage))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.killpg(0, signal.SIGKILL)


def _run(task: Callable, arguments: tuple) -> Outcome:
    _forget_peak()
    began, used = time.monotonic(), _cpu_seconds()
    value, error = None, ""
    try:
        value = task(*arguments)
    except BaseException:
        error = traceback.format_exc()
    usage = Usage(time.monotonic() - began, _cpu_seconds() - used, _peak_gb())
    give_memory_back()
    return Outcome(value=value, error=error, usage=usage)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _forget_peak() -> None:
    """Let the kernel count the peak of the resident memory from now on (proc(5), clear_refs)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_gb() -> float:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    sizes = [line.split()[1] for line in lines.splitlines() if line.startswith("VmHWM:")]
    return int(sizes[0]) / 2**20 if sizes else 0.0
