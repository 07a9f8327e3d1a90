"""``vxmprep``: from a command line to a graph, and from its end to an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vxmprep.cli.parser import parse

if TYPE_CHECKING:
    from vxmprep.config import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; the process's own by default.

    Returns
    -------
    int
        0 if all scans are done, 1 if some failed, 2 for bad usage or input.
    """
    try:
        settings = parse(argv)
    except SystemExit as leave:
        return int(leave.code or 0)
    from vxmprep.atlas import AtlasError
    from vxmprep.bids.dataset import DatasetError
    from vxmprep.config import UsageError

    bad_input = (AtlasError, DatasetError, UsageError, PermissionError)
    try:
        return _run(settings)
    except (*bad_input, NotADirectoryError) as error:
        print(f"vxmprep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vxmprep: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _run(settings: Settings) -> int:
    from vxmprep.cli.plan import make_plan

    plan = make_plan(settings)
    from vxmprep.bids.derivatives import describe_dataset

    describe_dataset(settings.output_dir, settings.bids_dir)
    set_environment(settings.work_dir, plan.threads)
    from vxmprep.cli.execute import execute

    return execute(plan)


def set_environment(work_dir: Path, threads: int) -> None:
    """Set what libraries read when they are imported, in this process and in its workers.

    Parameters
    ----------
    work_dir : Path
        Holds nipype's configuration, so that workers say nothing (failures are told at the end)
        and nothing is written to the home folder.
    threads : int
        Processor threads of one worker.
    """
    folder = work_dir / "nipype"
    folder.mkdir(parents=True, exist_ok=True)
    levels = ("workflow_level", "interface_level", "utils_level")
    lines = ["[logging]", *(f"{level} = CRITICAL" for level in levels), ""]
    (folder / "nipype.cfg").write_text("\n".join(lines), encoding="utf-8")
    os.environ["NIPYPE_CONFIG_DIR"] = str(folder)
    os.environ["NIPYPE_NO_ET"] = "1"
    # Threads that spin while they wait starve the other workers.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    for variable in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[variable] = str(threads)


if __name__ == "__main__":
    sys.exit(main())
