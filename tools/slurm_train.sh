#!/usr/bin/env bash
# Train under Slurm: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [flags of tools/train.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS and SBATCH_ARGS come from the environment.
# By itself it waits for the job. BATCH=1 submits it: the job is then put back into the queue each time its time is up
# or it is preempted, and goes on where it was. Call it in the folder of the project.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [flags of tools/train.py]" >&2
  exit 2
fi
partition=$1 job_name=$2 config=$3 work_dir=$4
gpus=${GPUS:-8} gpus_per_node=${GPUS_PER_NODE:-8}
nodes=$(((gpus + gpus_per_node - 1) / gpus_per_node))
tasks_per_node=$((gpus < gpus_per_node ? gpus : gpus_per_node))
resources=(--nodes="$nodes" --gres="gpu:$tasks_per_node" --ntasks="$gpus" --ntasks-per-node="$tasks_per_node"
  --cpus-per-task="${CPUS_PER_TASK:-5}")
if [ "${BATCH:-0}" != 0 ] && [ -z "${SLURM_JOB_ID:-}" ]; then
  # shellcheck disable=SC2086  # SBATCH_ARGS holds several words
  exec sbatch --partition="$partition" --job-name="$job_name" "${resources[@]}" ${SBATCH_ARGS:-} "$0" "$@"
fi
shift 4
root=$(cd "$(dirname "$0")/.." && pwd)
# Slurm runs a copy of this file, from a folder of its own.
[ -f "$root/tools/train.py" ] || root=${SLURM_SUBMIT_DIR:-$PWD}
place=()
[ -n "${SLURM_JOB_ID:-}" ] || place=(--partition="$partition" --job-name="$job_name")
# Two minutes before the time is up, each process gets SIGUSR1, saves, and ends with 75. The first that ends must not take
# along the one that writes: the others have a minute.
code=0
# shellcheck disable=SC2086  # SRUN_ARGS holds several words
srun ${place[@]+"${place[@]}"} "${resources[@]}" --signal=USR1@120 --kill-on-bad-exit=0 --wait=60 ${SRUN_ARGS:-} \
  python -u "$root/tools/train.py" "$config" --work-dir "$work_dir" --launcher slurm "$@" || code=$?
if [ "$code" = 75 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
  echo "stopped and saved: job $SLURM_JOB_ID is put back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
elif [ "$code" = 75 ]; then
  echo "stopped and saved: to go on, run the same command with --resume" >&2
fi
exit "$code"
