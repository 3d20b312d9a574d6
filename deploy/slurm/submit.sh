#!/bin/bash
# Submits a run to Slurm as three jobs:
#
#   deploy/slurm/submit.sh my-run --preset tiny
#   deploy/slurm/submit.sh my-run                   goes on with a run that has ended before its last step
#
# What follows the run's name is for `leeway create`: --preset, --set. Run it where runs/ is to be, in a folder that all
# nodes have, with `leeway` on your PATH. docs/how-to/slurm.md tells the rest.
#
#   leeway-RUN            Redis, and the learner's ranks on as many nodes as the configuration asks for
#   leeway-RUN-rollout    an array with a task for each rollout worker, which may be pre-empted
#   leeway-RUN-verifier   an array with a task for each verifier
set -euo pipefail

# --- your cluster: write it here, or set it in the environment -------------------------------------------------------
# Options of sbatch for each job: partition, account, time limit, memory. They stand behind those that come from the
# run's configuration, and win.
LEARNER_OPTIONS=${LEARNER_OPTIONS-}   # for instance: --partition=gpu --account=me --time=24:00:00 --exclusive --mem=0
ROLLOUT_OPTIONS=${ROLLOUT_OPTIONS-}   # for instance: --partition=preemptible --account=me --time=12:00:00 --mem=200G
VERIFIER_OPTIONS=${VERIFIER_OPTIONS-} # for instance: --partition=cpu --account=me --time=24:00:00 --mem=32G
# What Slurm calls a GPU: gpu, or gpu:h100.
GPU=${GPU-gpu}
# How many rollout workers; as many as rollout.workers says by default.
ROLLOUT_WORKERS=${ROLLOUT_WORKERS-}
# A file that every job reads before it starts anything: module load …, source …/bin/activate. Your environment goes
# with the jobs anyway, where the cluster does not forbid it.
export LEEWAY_SETUP=${LEEWAY_SETUP-}
# ---------------------------------------------------------------------------------------------------------------------

run=${1:?usage: submit.sh RUN --preset NAME [--set KEY=VALUE …]}
shift
run=${run%/} run=${run#runs/} # as leeway's commands take it, by its id or its folder
case $run in
*/*)
    echo "$run: a run of this folder's runs/ by its id, or another folder to submit from" >&2
    exit 2
    ;;
esac
case $ROLLOUT_WORKERS in
*[!0-9]*)
    echo "ROLLOUT_WORKERS=$ROLLOUT_WORKERS: a whole number of workers, 0 for none" >&2
    exit 2
    ;;
esac
if [ -n "$LEEWAY_SETUP" ] && [ ! -r "$LEEWAY_SETUP" ]; then
    echo "LEEWAY_SETUP=$LEEWAY_SETUP: there is no such file that could be read" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
folder=runs/$run
set +eu # as such scripts expect: conda's name variables that are not set
# shellcheck source=/dev/null
[ -z "$LEEWAY_SETUP" ] || source "$LEEWAY_SETUP"
set -eu

configuration=("$@")
if [ -e "$folder/config.toml" ]; then
    [ $# = 0 ] || { echo "run $run is under way with its own configuration: submit.sh $run goes on with it" >&2; exit 5; }
    configuration=(--preset "$folder/config.toml")
fi
if [ -e "$folder/slurm-jobs" ]; then
    read -r before _ <"$folder/slurm-jobs"
    queued=$(squeue --noheader --me --format=%A) # whole: grep would break a pipe at the line that it looks for
    if grep -qx "$before" <<<"$queued"; then
        echo "run $run is in the queue already, as job $before" >&2
        exit 5
    fi
fi

# Nodes, GPUs and processors come from the configuration.
plan=$(leeway up --run "$run" --dry-run --json "${configuration[@]}")
numbers=$(python3 -c '
import json, sys
plan = json.load(sys.stdin)
config, processes = plan["config"], plan["processes"]
if any(each["shared"] for each in processes):
    sys.exit("placement.rollout = learner has workers on the GPUs of the learner, which is another job here: give "
             "them their own, --set placement.rollout=gpu")
learner = [each for each in processes if each["ranks"]]
rollout = [each for each in processes if each["name"].startswith("rollout")]
gpus = len(rollout[0]["gpus"]) if rollout else 0
print(len(learner), len(learner[0]["gpus"]), learner[0]["ranks"] * config["train"]["threads"],
      len(rollout), gpus, config["rollout"]["threads"] + gpus,
      config["verifier"]["workers"], config["verifier"]["jobs"], int(config["broker"]["drain_s"]) + 120)
' <<<"$plan")
read -r learner_nodes learner_gpus learner_cpus rollout_workers rollout_gpus rollout_cpus \
    verifiers verifier_cpus leave_s <<<"$numbers"
rollout_workers=${ROLLOUT_WORKERS:-$rollout_workers}

mkdir -p "$folder/logs"
gpus() { # HOW-MANY of each node
    [ "$1" = 0 ] || echo "--gres=$GPU:$1"
}
# At USR1, so long before the time limit, a job has its role leave in order, and queues itself again.
common=(--parsable --requeue --export=ALL --open-mode=append --signal="B:USR1@$leave_s" --ntasks-per-node=1)
# All three jobs or none: one that was held for the others would stay in the queue.
made=()
trap '[ ${#made[@]} = 0 ] || scancel "${made[@]}"' EXIT
# The head is held until its workers' numbers are written, which it reads.
# shellcheck disable=SC2046,SC2086 # the options are words
head=$(sbatch "${common[@]}" --hold --job-name="leeway-$run" --output="$folder/logs/slurm-head-%j.log" \
    --nodes="$learner_nodes" --cpus-per-task="$learner_cpus" $(gpus "$learner_gpus") $LEARNER_OPTIONS \
    "$here/head.sh" "$here" "$run" "$@")
head=${head%%;*}
made+=("$head")

workers() { # ROLE HOW-MANY CPUS GPUS OPTIONS…
    local role=$1 number=$2 cpus=$3 each=$4
    shift 4
    [ "$number" -gt 0 ] || return 0
    # shellcheck disable=SC2046
    sbatch "${common[@]}" --dependency="after:$head" --job-name="leeway-$run-$role" --array="0-$((number - 1))" \
        --output="$folder/logs/slurm-$role-%A_%a.log" --nodes=1 --cpus-per-task="$cpus" $(gpus "$each") "$@" \
        "$here/worker.sh" "$here" "$role" "$run" "$head"
}
# shellcheck disable=SC2086
rollout=$(workers rollout "$rollout_workers" "$rollout_cpus" "$rollout_gpus" $ROLLOUT_OPTIONS)
rollout=${rollout%%;*}
made+=(${rollout:+"$rollout"})
# shellcheck disable=SC2086
verifier=$(workers verifier "$verifiers" "$verifier_cpus" 0 $VERIFIER_OPTIONS)
verifier=${verifier%%;*}
made+=(${verifier:+"$verifier"})
echo "$head $rollout $verifier" >"$folder/slurm-jobs"
scontrol release "$head"
made=()
echo "run $run: head job $head ($learner_nodes nodes), rollout array $rollout ($rollout_workers workers)," \
    "verifier array $verifier ($verifiers); logs in $folder/logs"
