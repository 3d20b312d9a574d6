# Runs a role and hands SIGTERM on to it. A role that fails ends the container with its own exit code, and Kubernetes
# starts it again. A role that is done, because the run is finished, keeps its container: Kubernetes would start it again
# for ever, and each start loads the model.
finished=/tmp/run-finished
asked=
role=
pause=
rm -f "$finished"
trap 'asked=yes; [ -z "$role" ] || kill -TERM "$role" 2>/dev/null' TERM INT
"$@" &
role=$!
[ -z "$asked" ] || kill -TERM "$role" 2>/dev/null # we were asked before we knew it
wait "$role"
code=$?
while kill -0 "$role" 2>/dev/null; do # a signal ends the wait, not the role
    wait "$role"
    code=$?
done
trap '[ -z "$pause" ] || kill "$pause"; exit "$code"' TERM INT
[ "$code" -eq 0 ] && [ -z "$asked" ] || exit "$code"
touch "$finished"
echo "The run is finished. This pod does nothing any more; helm uninstall takes it away and leaves runs/ on its volume."
sleep 2147483647 &
pause=$!
wait "$pause"
