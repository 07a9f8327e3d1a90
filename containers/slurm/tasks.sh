
# The participants of each task of the array. MaxArraySize limits the numbers of tasks, so an array
# may begin further on, at the number that the script is given.
tasks=(
@ROWS@
)
read -ra participants <<<"${tasks[SLURM_ARRAY_TASK_ID + ${1:-0}]}"
echo "participants: ${participants[*]}"
