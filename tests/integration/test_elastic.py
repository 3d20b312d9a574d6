"""Workers join a run that is going on, and those that were there leave: the run needs no restart."""

import os
import re
import signal

import pytest
from leeway_rl.common.queue.connection import Connection

from tests.integration.running import SMALL, leeway, metrics, role_pids, start
from tests.roles import Roles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_worker_is_replaced_while_the_run_goes_on(tmp_path, redis_url, wait_until):
    chain = ["--set", "train.steps=40", "--set", "weights.keyframe_every=100"]  # who joins needs every delta
    running = start("up", "--run", "elastic", *SMALL, *chain, "--redis-url", redis_url, cwd=tmp_path)
    folder, bus, joined = tmp_path / "runs/elastic", Roles(Connection(redis_url, "elastic")), []

    def workers(role):
        return [beat for beat in bus.overview.workers()[0] if beat.role == role]

    try:
        wait_until(lambda: len(metrics(folder)) >= 2, "the second step", 300)
        bus.desk.set_control("paused", "1")
        first = {role: role_pids("elastic", role, tmp_path) for role in ("rollout", "verifier")}
        old = {beat.worker for role in first for beat in workers(role)}
        joined = [start(role, "--run", "elastic", "--redis-url", redis_url, cwd=tmp_path) for role in first]
        wait_until(lambda: all(len(workers(role)) == 2 for role in first), "both are there", 300)
        wait_until(
            lambda: min((beat.version for beat in workers("rollout")), default=-1) >= 2, "the newcomer has weights", 300
        )
        for pid in [*first["rollout"], *first["verifier"]]:
            os.kill(pid, signal.SIGTERM)
        # Soon others are there in their places, which the supervisor starts.
        wait_until(lambda: not old & {beat.worker for role in first for beat in workers(role)}, "they have left", 300)
        behind = int(bus.state()["version"])
        bus.desk.set_control("paused", "0")
        said, _ = running.communicate(timeout=600)
        assert running.returncode == 0, said
        told = [each.communicate(timeout=600)[0] for each in joined]
        assert [each.returncode for each in joined] == [0, 0], told
    finally:
        for each in [running, *joined]:
            each.kill()
            each.communicate()
        bus.desk.clean()
        bus.close()
    assert behind < 40
    loaded = [int(version) for version in re.findall(r"version (\d+) taken in", told[0])]
    assert loaded[0] >= 2
    assert loaded == sorted(loaded)
    assert leeway("audit", "elastic", cwd=tmp_path).returncode == 0
