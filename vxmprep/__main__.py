"""Run the command with ``python -m vxmprep``."""

import sys

from vxmprep.cli.entry import vxmprep

if __name__ == "__main__":
    sys.exit(vxmprep())
