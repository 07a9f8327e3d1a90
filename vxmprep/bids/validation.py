"""What the BIDS validator says of a dataset, where one is installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = ("bids-validator-deno", "bids-validator")


def validate(bids_dir: Path, timeout: float = 120.0) -> str | None:
    """Ask the BIDS validator for the errors of a dataset; its warnings are left out.

    Parameters
    ----------
    bids_dir : path
        Root of the dataset.
    timeout : float
        Seconds after which the validator is stopped.

    Returns
    -------
    str or None
        One line to show as a warning: the number of errors and the first of them. None if the
        dataset is valid, there is no validator, or it gives no answer. Never raises.
    """
    try:
        program = _program()
        if program is None:
            return None
        folder = str(Path(bids_dir).absolute())
        command = [program, folder, "--ignoreWarnings", "--format", "json"]
        issues = json.loads(_output(command, timeout))["issues"]["issues"]
        errors = [issue for issue in issues if issue["severity"] == "error"]
        return _warning(bids_dir, errors) if errors else None
    except Exception:
        return None  # a validator that breaks says nothing about the dataset


def _program() -> str | None:
    """Find a validator on the PATH or beside the running Python."""
    places = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)]
    found = (shutil.which(name, path=os.pathsep.join(places)) for name in PROGRAMS)
    return next((path for path in found if path), None)


def _output(command: list[str], timeout: float) -> bytes:
    """Run a program in a group of its own, so that what it started ends with it."""
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process,
    ):
        try:
            process.wait(timeout)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        return output.read()


def _warning(bids_dir: Path, errors: list[dict]) -> str:
    first = errors[0]
    number = "1 error" if len(errors) == 1 else f"{len(errors)} errors; the first"
    message = str(first.get("issueMessage") or "").strip().partition("\n")[0]
    return (
        f"{bids_dir}: the BIDS validator finds {number}: {first.get('code', 'unknown')} in "
        f"{first.get('location', 'the dataset')}"
        + (f" ({message})" if message else "")
        + "; processing goes on"
    )
