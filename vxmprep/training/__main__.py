"""``python -m vxmprep.training CONFIG``: train what a TOML file says, or go on with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Number of a process among those of a training, as whoever started it has it."""

USAGE = "usage: python -m vxmprep.training CONFIG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0 if the model is there, 1 if the training failed, 2 for bad usage or input, 128 and the
        number of the signal if one asked to stop.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) != 1 or arguments[0].startswith("-"):
        asked = arguments in (["-h"], ["--help"])
        print(
            f"{USAGE}\n\n{__doc__}" if asked else USAGE, file=sys.stdout if asked else sys.stderr
        )
        return 0 if asked else 2
    from vxmprep.spatial.images import ImageError
    from vxmprep.training.config import read_config
    from vxmprep.training.errors import Diverged, Interrupted, TrainingError
    from vxmprep.training.run import run

    try:
        run(read_config(Path(arguments[0])), _tell)
    except (TrainingError, ImageError) as error:
        return _say(str(error), 2)
    except Interrupted as stop:
        return _say(f"{stop}; the same command goes on from there", 128 + stop.signal)
    except Diverged as error:
        return _say(str(error), 1)
    except OSError as error:
        reason = f"{error.filename or 'writing'}: {str(error.strerror or error).lower()}"
        return _say(f"{reason}; once that is mended, the same command goes on", 1)
    return 0


def _tell(message: str) -> None:
    clear = "\r\x1b[K" if sys.stdout.isatty() else ""  # the line of progress
    print(f"{clear}{message}", flush=True)


def _say(message: str, code: int) -> int:
    """Say why it ended, once, though several processes end."""
    if all(os.environ.get(name, "0") == "0" for name in RANKS):
        print(f"vxmprep.training: {message}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
