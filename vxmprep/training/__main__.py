"""``python -m vxmprep.training CONFIG``: train what a TOML file says, or go on with it."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vxmprep.signals import Terminated, terminable

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Number of a process among those of a training, as whoever started it has it."""

USAGE = "usage: python -m vxmprep.training CONFIG"

HELP = """\
Trains a VoxelMorph network on scans that `vxmprep BIDS_DIR OUTPUT_DIR prepare` left on the
network's grid, and writes the model with its card and curves. The same command goes on with a
training that was stopped or killed, with the same result. CONFIG is a TOML file; relative paths
count from its folder:

    folder = "models/cohort"     # of the model, whose name is its last part
    licence = "CC0"              # of the scans, for the card; optional

    [atlas]                      # on the network's grid, 1 mm
    name = "MNI152NLin2009cAsym"
    image = "atlas.nii.gz"       # uint8
    mask = "mask.nii.gz"
    labels = "labels.nii.gz"     # optional

    [settings]                   # all optional, see below
    voxel_size = 2

    [[scans]]                    # one of these for each scan
    name = "sub-01"
    participant = "01"
    image = "sub-01_space-ATLAS_res-network_desc-conformed_T1w.nii.gz"
    labels = "sub-01_space-ATLAS_res-network_desc-conformed_dseg.nii.gz"  # optional
    site = "A"                   # optional

Other keys: cohort (folder of the packed scans), split (JSON with the participants of train,
validation and test), initial_model (checkpoint of vxmprep whose weights to start from, instead of
random ones), resume (false: refuse a folder where a training was begun), left_out (reasons by
scan, for the card).

"""


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
        if arguments in (["-h"], ["--help"]):
            print(f"{USAGE}\n\n{HELP}{_settings()}")
            return 0
        print(USAGE, file=sys.stderr)
        return 2
    from vxmprep.spatial.images import ImageError
    from vxmprep.training.config import read_config
    from vxmprep.training.errors import Diverged, Interrupted, ToldElsewhereError, TrainingError
    from vxmprep.training.run import run

    try:
        with terminable():
            run(read_config(Path(arguments[0])), _tell)
    except ToldElsewhereError:
        return 2
    except (TrainingError, ImageError) as error:
        return _say(str(error), 2, own=True)
    except KeyboardInterrupt as interrupt:
        code = 143 if isinstance(interrupt, Terminated) else 130
        return _say("interrupted; the same command goes on from there", code)
    except Interrupted as stop:
        return _say(f"{stop}; the same command goes on from there", 128 + stop.signal)
    except Diverged as error:
        return _say(str(error), 1)
    except OSError as error:
        reason = f"{error.filename or 'writing'}: {str(error.strerror or error).lower()}"
        return _say(f"{reason}; once that is mended, the same command goes on", 1, own=True)
    return 0


def _settings() -> str:
    """Describe the settings and their defaults."""
    from vxmprep.training.settings import TrainingSettings

    described = inspect.cleandoc(TrainingSettings.__doc__).partition("----------\n")[2]
    defaults = "\n".join(
        f"    {name} = {json.dumps(value)}"
        for name, value in TrainingSettings().as_mapping().items()
    )
    text = described.replace("``", "").replace("`", "")
    return f"Settings\n\n{text}\n\nDefaults\n\n{defaults}"


def _tell(message: str) -> None:
    clear = "\r\x1b[K" if sys.stdout.isatty() else ""  # the line of progress
    print(f"{clear}{message}", flush=True)


def _say(message: str, code: int, *, own: bool = False) -> int:
    """Say why it ended; of several processes the first does, the others their own trouble."""
    rank = next((os.environ[name] for name in RANKS if name in os.environ), "0")
    if rank == "0" or own:
        where = "" if rank == "0" else f"process {rank}: "
        print(f"vxmprep.training: {where}{message}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
