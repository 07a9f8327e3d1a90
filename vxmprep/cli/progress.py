"""What a user sees of a run: a live display on a terminal, plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

SIGN_OF_LIFE = 600.0
"""Seconds of silence in a log after which the steps under way are named."""

MOST_ROWS = 12
"""Steps under way that the live display lists."""


@dataclass
class Progress:
    """Counts scans and tells what becomes of them.

    Attributes
    ----------
    total : int
        Scans to process.
    verbose : bool
        A line for every step.
    live : bool
        Draw on the terminal rather than print plain lines.
    """

    total: int
    verbose: bool = False
    live: bool = field(default_factory=lambda: sys.stdout.isatty())
    done: int = 0
    failed: int = 0
    running: dict[tuple[str, str], float] = field(default_factory=dict)
    began: float = field(default_factory=lambda: time.monotonic())
    spoke: float = field(default_factory=lambda: time.monotonic())
    _display: Live | None = None

    def __enter__(self) -> Progress:
        """Start the live display, where there is one."""
        if self.live:
            from rich.live import Live

            self._display = Live(get_renderable=self._draw, refresh_per_second=2, transient=True)
            self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the live display away."""
        if self._display is not None:
            self._display.stop()

    def start(self, scan: str, step: str) -> None:
        """Note that a step of a scan starts."""
        self.running[scan, step] = time.monotonic()

    def end(self, scan: str, step: str) -> float:
        """Note that a step has ended, and give its seconds."""
        took = time.monotonic() - self.running.pop((scan, step), time.monotonic())
        if self.verbose:
            self.say(f"{scan}: {step} ({took:.0f} s)")
        return took

    def finish(self, scan: str, seconds: float) -> None:
        """Note that a scan is complete."""
        self.done += 1
        left = "" if self.remaining is None else f", {clock(self.remaining)} left"
        self.say(f"{scan}: done, {self.done} of {self.total} ({seconds:.0f} s{left})")

    def fail(self, scan: str, step: str, cause: str) -> None:
        """Note that a scan has failed."""
        self.failed += 1
        self.say(f"{scan}: failed at {step}: {cause}")

    def look(self) -> None:
        """Show that the run is alive; called about once a second."""
        if self._display is None and time.monotonic() - self.spoke > SIGN_OF_LIFE:
            steps = [
                f"{scan} {step} ({clock(time.monotonic() - since)})"
                for (scan, step), since in self.running.items()
            ]
            self.say("running: " + ", ".join(steps))

    def say(self, message: str) -> None:
        """Print a line with the time of day, above the live display if there is one."""
        self.spoke = time.monotonic()
        line = f"{time.strftime('%H:%M:%S')} {message}"
        if self._display is not None:
            self._display.console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        try:
            print(line, flush=True)
        except BrokenPipeError:  # nobody reads any more; the scans are to be done all the same
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())

    @property
    def remaining(self) -> float | None:
        """Seconds left, by the scans that are through; None until one is, or when all are."""
        through = self.done + self.failed
        if not self.done or through >= self.total:
            return None
        return (time.monotonic() - self.began) / through * (self.total - through)

    def _draw(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        left = "" if self.remaining is None else f", {clock(self.remaining)} left"
        failed = f", [red]{self.failed} failed[/red]" if self.failed else ""
        bar = ProgressBar(total=max(self.total, 1), completed=self.done + self.failed, width=30)
        table = Table.grid(padding=(0, 2))
        table.add_row(bar, f"{self.done} of {self.total} scans done{failed}{left}")
        for (scan, step), since in list(self.running.items())[:MOST_ROWS]:
            table.add_row(f"  {scan}", f"{step} {clock(time.monotonic() - since)}")
        if len(self.running) > MOST_ROWS:
            table.add_row("", f"and {len(self.running) - MOST_ROWS} more")
        return table


def clock(seconds: float) -> str:
    """Give a duration as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
