"""What is compared across hosts goes by the server's clock: a host whose own clock is wrong changes nothing."""

import ast
import json
import os
import subprocess
import sys

import pytest
from leeway_rl.common.diagnosis import look
from leeway_rl.leeway.chaos.clock import Clock

from tests.test_layout import ROOT, WINGS, files

WORKER = """
import json, sys, time
from leeway_rl.common.activity import Activity, Doing
from leeway_rl.common.service import Service
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.verifier import VerifierQueue
from leeway_rl.common.queue.weights import WeightStream
from leeway_rl.common.types import Verdict, VerdictKind

queue = VerifierQueue(Connection(sys.argv[1], sys.argv[2], worker="w"))
with Service(queue, "verifier", lease_s=60, heartbeat_s=60) as service:
    service.doing(Doing(Activity.GRADING))
    service.beat()
    WeightStream(queue.connection).lease_version("w", 3, 60.0)
    queue.tally([Verdict(kind=VerdictKind.CORRECT, reason="", seconds=0.0)])
    print(json.dumps(time.time()), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("ahead_s", [7200, -7200])
def test_a_worker_on_a_host_with_a_wrong_clock_is_seen_as_on_any_other(bus, tmp_path, ahead_s):
    try:
        clock = Clock(tmp_path)
    except OSError as error:
        pytest.skip(str(error))
    clock.set(ahead_s)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, bus.url, bus.run],
        env=os.environ | clock.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        theirs = json.loads(worker.stdout.readline())
        now = look(bus.desk)
        assert abs(theirs - now.at) > 7000, "its clock is wrong"
        (heartbeat,) = now.workers
        assert -1 < now.at - heartbeat.since < 60
        assert -1 < now.at - heartbeat.started < 60
        assert bus.weights.leased_versions() == {3}, "its lease has not ended, nor does it last for hours"
        assert 0 < bus.redis.zscore(bus.keys.weight_leases, "3|w") - now.at <= 60
        assert bus.redis.zscore(bus.keys.workers, "verifier/w") - now.at <= 300, "it would be missed in time"
        assert sum(int(minute.get("correct", 0)) for minute in now.verdicts[:2]) == 1
    finally:
        worker.communicate("leave\n")


OF_ONE_HOST = {
    *("leeway/chaos/run.py", "learner/samples.py", "leeway/looking/status_json.py"),
    "common/queue/probe.py",
}
"""The log of a rehearsal, whose run may have had its clock set; when a line of one file was written; a look where no
Redis can be asked; how far a machine's clock is from the server's."""


def test_no_hosts_clock_is_read_where_hosts_meet():
    readers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("common", "leeway", *WINGS)
        for path in files(folder)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "datetime.now", "datetime.utcnow")
    }
    assert readers == OF_ONE_HOST
