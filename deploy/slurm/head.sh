#!/bin/bash
# The head job of a run: Redis and the learner's first ranks on its first node, further ranks on the others. submit.sh
# submits it. It may be queued again at any time: Redis goes on from its append-only file, and the learner from its
# newest checkpoint.
here=$1 run=$2
shift 2 # what is left is for leeway create
folder=runs/$run
# shellcheck source=job.sh
source "$here/job.sh" || exit 1

# The nodes of the run reach this one by its name; LEEWAY_HOST names another, for a faster network.
host=${LEEWAY_HOST:-$(hostname)}
# Two ports that other jobs of this node are unlikely to have: for Redis, and for the ranks to meet.
port=$((20000 + 2 * (SLURM_JOB_ID % 5000)))

# Keep a server until USR1. At the end of a job TERM comes to every process of it, so the server is started again then:
# the learner needs it for its last step, and has as long as Slurm's KillWait says.
serve() {
    local pid stop=''
    trap : TERM USR2 # and not '', which the server would inherit
    trap 'stop=1; kill -TERM "$pid"' USR1
    while [ -z "$stop" ]; do
        leeway server --host 0.0.0.0 --port $port --name "$host" --folder "$folder/redis" \
            --password-file "$folder/redis/password" &
        pid=$!
        while wait "$pid"; code=$?; kill -0 "$pid" 2>/dev/null; do :; done
        # After the death of a node its locks on a shared file system may stay for a minute or two.
        [ -n "$stop" ] || [ $code = 0 ] || sleep 10
    done
}

# Start the server and write its address, whole or not there, since the workers' jobs wait for it; leeway status, set
# and watch look there too.
start_redis() {
    rm -f "$folder/redis-url" "$folder/redis/url"
    (umask 077 && mkdir -p "$folder/redis")
    serve &
    server=$!
    local waited=0
    until [ -s "$folder/redis/url" ]; do
        leave_if_asked
        [ $((waited += 1)) -le 600 ] || { say "no Redis after ten minutes"; end 4; }
        sleep 1
    done
    (umask 077 && cp "$folder/redis/url" "$folder/redis-url.new") && mv "$folder/redis-url.new" "$folder/redis-url"
}

stop_redis() {
    rm -f "$folder/redis-url"
    kill -USR1 "$server"
    wait "$server"
}

# The jobs of the workers; submit.sh has written them before this job was released.
workers=
read -r _ workers <"$folder/slurm-jobs"

wait_for_workers() { # at most so many SECONDS
    local waited
    for ((waited = 0; waited < $1; waited += 2)); do
        [ -n "$(squeue --noheader --jobs="${workers// /,}" 2>/dev/null)" ] || return
        sleep 2
    done
}

# Cancel the workers' jobs. Without a number, scancel would take every job of this user that fits its options.
cancel_workers() { # OPTIONS…
    # shellcheck disable=SC2086 # two numbers
    [ -z "$workers" ] || scancel --quiet "$@" $workers
}

# End for good, with a code, and the workers' jobs with it. After a whole run they leave by themselves, while Redis is
# there to tell them.
end() {
    cancel_workers --state=PENDING
    [ "$1" != 0 ] || wait_for_workers 60
    cancel_workers
    wait_for_workers 30
    stop_redis
    exit "$1"
}

leave_if_asked() {
    case $leaving in
    requeue)
        stop_redis
        requeue requeue
        ;;
    end) end 130 ;;
    slurm)
        stop_redis
        exit 130
        ;;
    esac
}

start_redis
if [ ! -e "$folder/config.toml" ]; then
    leeway create "$run" "$@"
    code=$?
    [ $code = 0 ] || [ $code = 5 ] || end "$code" # 5: it was created before this job was queued again
fi

# Workers that have waited too long for this job hold themselves in the queue (worker.sh).
# shellcheck disable=SC2086
scontrol release $workers >/dev/null 2>&1
# shellcheck disable=SC2086 # again, for one that was about to
(sleep 90 && exec scontrol release $workers) >/dev/null 2>&1 &
again=$!
trap 'pkill -P "$again" 2>/dev/null' EXIT # ends its sleep, and so itself

tries=0
while :; do
    leave_if_asked
    began=$SECONDS
    # shellcheck disable=SC2016 # each node says which one it is
    step bash -c 'exec leeway learner "$1" --nodes "$2" --node $((SLURM_NODEID + 1)) --first-node "$3"' \
        learner "$run" "$SLURM_JOB_NUM_NODES" "$host:$((port + 1))"
    say "the learner has ended with $code"
    [ "$code" != 0 ] || break
    leave_if_asked
    case $code in
    130) leaving=requeue ;; # Slurm has told it alone: a pre-emption with a grace time
    2 | 3 | 5 | 6) end "$code" ;; # it would meet the same mistake again
    *)
        [ $((SECONDS - began)) -lt 300 ] || tries=0
        [ $((tries += 1)) -lt 5 ] || end "$code"
        say "it is started again"
        ;;
    esac
done

leeway audit "$run" && code=0 || code=$?
leeway report "$run" || say "no report; leeway report $run makes one"
end "$code"
