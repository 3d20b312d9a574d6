# shellcheck shell=bash
# What head.sh and worker.sh have in common: how a job runs its role as a step, and how it leaves.
#
# Who signals what (looked at on Slurm 22.05):
#   a person or we, scancel --signal=TERM JOB      TERM to the step
#   pre-emption with a grace time                  TERM to the step alone; the job is not told, and one that ends within
#                                                  that time is not queued again by Slurm
#   the job's end: scancel, its time limit, pre-emption without a grace time
#                                                  TERM to every process of the job, KILL after Slurm's KillWait; Slurm
#                                                  itself queues the job again where that is due
#   --signal=B:USR1@…, before the time limit       USR1 to the script
#   scancel --batch --signal=USR2 JOB              USR2 to the script: leave in order, and stay away
set -u

leaving= # requeue, end, or slurm where Slurm decides; empty while the job stays
trap 'leave requeue' USR1
trap 'leave end' USR2
trap 'leaving=${leaving:-slurm}; interrupted=1' TERM

leave() { # requeue or end
    leaving=$1 interrupted=1
    scancel --signal=TERM "$SLURM_JOB_ID" & # the script itself gets none; TERM to srun would kill the step
}

say() {
    echo "$(date +%FT%T) ${SLURMD_NODENAME-}: $*"
}

# Run a command as a step. `code` is its exit code afterwards.
step() {
    srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 --wait=600 "$@" &
    local srun=$!
    # shellcheck disable=SC2034 # who calls us reads the code
    while
        interrupted=
        wait "$srun"
        code=$?
        [ -n "$interrupted" ] # a signal has ended the wait, not the step
    do :; done
}

# Queue this job again, which ends it.
requeue() { # requeue or requeuehold
    say "queued again"
    scontrol "$1" "$SLURM_JOB_ID" && { sleep 60 & wait $!; } # until TERM, which ends a wait and not a sleep
    exit 1
}

# Scripts that activate an environment name variables that are not set.
set +u
# shellcheck source=/dev/null
[ -z "${LEEWAY_SETUP-}" ] || source "$LEEWAY_SETUP"
set -u
# shellcheck disable=SC2154 # of who has sourced us
export LEEWAY_REDIS_URL=@$folder/redis-url
