#!/usr/bin/env bash
@DIRECTIVES@

# @PURPOSE@
# Written by vxmprep-slurm @VERSION@; submit.sh submits it from its own folder.
set -euo pipefail
@TASKS@
# Scans in progress; removed when they are done.
work=@WORK@
mkdir -p "$work"
@SETUP@@BEFORE@
# With exec, the signal that Slurm sends before the time is over reaches the command itself.
exec @COMMAND@
