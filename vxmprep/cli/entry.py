"""The commands as they are installed: Ctrl-C is told in a line from the first moment on."""

import sys
from functools import partial
from importlib import import_module


def _command(name: str, module: str) -> int:
    """Import a command and run it, which takes care of interruptions itself where it can."""
    try:
        return import_module(module).main()
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130


vxmprep = partial(_command, "vxmprep", "vxmprep.cli.run")
apply = partial(_command, "vxmprep-apply", "vxmprep.cli.apply")
convert = partial(_command, "vxmprep-convert", "vxmprep.cli.convert")
demo = partial(_command, "vxmprep-demo", "vxmprep.cli.demo")
doctor = partial(_command, "vxmprep-doctor", "vxmprep.cli.doctor")
slurm = partial(_command, "vxmprep-slurm", "vxmprep.cli.slurm")
