#!/usr/bin/env bash
# Submits the jobs of a cohort, each after the end of those before it, well or not: what has failed
# holds up nothing else. Written by vxmprep-slurm @VERSION@.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p logs

after=()
submitted=()

# submit NAME [SBATCH OPTIONS]... SCRIPT [ARGUMENT]
submit() {
    local name=$1 job
    shift
    job=$(sbatch --parsable "${after[@]}" "$@")
    job=${job%%;*}
    echo "$name $job" | tee -a jobs.txt
    submitted+=("$job")
}

# The jobs that follow wait for those submitted by now.
then_after() {
    local jobs
    jobs=$(IFS=: && echo "${submitted[*]}")
    after=("--dependency=afterany:$jobs")
    submitted=()
}

@STEPS@
