# Runs a role and hands SIGTERM on to it. A role that fails ends the container with its own exit code, and Kubernetes
# starts it again. A role that is done, because the run is finished, keeps its container: Kubernetes would start it again
# for ever, and each start loads the model.
finished=/tmp/run-finished
asked=
rm -f "$finished"
"$@" &
role=$!
trap 'asked=yes; kill -TERM "$role" 2>/dev/null' TERM INT
wait "$role"
code=$?
while kill -0 "$role" 2>/dev/null; do # a signal ends the wait, not the role
    wait "$role"
    code=$?
done
[ "$code" -eq 0 ] && [ -z "$asked" ] || exit "$code"
touch "$finished"
echo "The run is finished. This pod does nothing any more; helm uninstall takes it away and leaves runs/ on its volume."
trap 'kill "$pause"; exit 0' TERM INT
sleep 2147483647 &
pause=$!
wait "$pause"
