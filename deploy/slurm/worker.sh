#!/bin/bash
# A rollout worker or a verifier of a run: a task of an array, which submit.sh submits. It may be pre-empted and queued
# again at any time, since what it held goes to another worker.
here=$1 role=$2 run=$3 head=$4
folder=runs/$run
# shellcheck source=job.sh
source "$here/job.sh" || exit 1

# So many seconds a task waits for a head job that is not running, before it gives its node back. The head releases it.
PATIENCE_S=${PATIENCE_S:-600}

# Return when there is an address of Redis to try. The head may wait in the queue, or be gone for good.
away=
wait_for_head() {
    local said='' state
    while :; do
        leave_if_asked
        if state=$(squeue --noheader --me --format='%A %T' 2>/dev/null); then # else Slurm does not answer just now
            state=$(sed -n "s/^$head //p" <<<"$state")
            case $state in
            RUNNING) [ -s "$folder/redis-url" ] && return ;;
            "")
                say "the head job $head is no more in the queue: $role leaves"
                exit 0
                ;;
            *)
                away=${away:-$SECONDS}
                [ $((SECONDS - away)) -lt "$PATIENCE_S" ] || requeue requeuehold
                ;;
            esac
            [ "$state" = "$said" ] || say "waiting for Redis: the head job $head is $state"
            said=$state
        fi
        sleep 5
    done
}

leave_if_asked() {
    case $leaving in
    requeue) requeue requeue ;;
    end | slurm) exit 130 ;;
    esac
}

tries=0
while :; do
    wait_for_head
    began=$SECONDS
    step leeway "$role" "$run"
    say "$role has ended with $code"
    leave_if_asked
    [ $((SECONDS - began)) -lt 300 ] || { away='' && tries=0; }
    case $code in
    0) exit 0 ;; # the run is over
    130) leaving=requeue ;; # Slurm has told it alone: a pre-emption with a grace time
    2 | 3) exit "$code" ;; # it would meet the same mistake again
    4) sleep 5 ;; # Redis is away: the head is queued again, or starts on another node
    *)
        [ $((tries += 1)) -lt 5 ] || exit "$code"
        say "it is started again"
        ;;
    esac
done
