"""Run the command with ``python -m vxmprep``."""

import sys

from vxmprep.cli.run import main

if __name__ == "__main__":
    sys.exit(main())
