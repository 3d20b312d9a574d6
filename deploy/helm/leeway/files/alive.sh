# Does the role answer with its numbers? A role of a finished run has left, which is well, and of a learner on several
# nodes the first alone serves them: the others live as long as their process does.
[ -e /tmp/run-finished ] && exit 0
[ "${LEARNER_NODE:-1}" = 1 ] || exit 0
exec python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$LEEWAY_METRICS_PORT/metrics', timeout=5)"
