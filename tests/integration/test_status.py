"""``leeway status`` on real runs: what it says while they start, train on several ranks, stop, go on, and are over."""

import json
import os
import signal
import time
from collections import defaultdict

import pytest
from leeway_rl.common.activity import Activity, Doing
from leeway_rl.common.diagnosis import diagnose, look
from leeway_rl.common.errors import BrokerError
from leeway_rl.common.queue.connection import Connection, RedisError

from tests.integration.running import SMALL, leeway, metrics, role_pids, start
from tests.roles import Roles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STARTS = (Activity.READING_PROMPTS, Activity.LOADING_MODEL)
OFTEN = ["--set", "broker.heartbeat_s=0.05"]


def looks(folder, going_on):
    """Looks at a run, from the moment its server answers, as long as ``going_on()``."""
    while going_on() and not (folder / "redis-url").exists():
        time.sleep(0.01)
    bus = None
    while going_on():
        try:
            bus = bus or Roles(Connection((folder / "redis-url").read_text().strip(), folder.name, retry_s=0.0))
            if bus.state():
                yield look(bus.desk)
        except (BrokerError, RedisError):  # not yet, or not any more
            time.sleep(0.05)
    if bus is not None:
        bus.close()


def shown(*words, cwd):
    """(exit code, the object that is printed)."""
    done = leeway("status", "--json", *words, cwd=cwd)
    return done.returncode, json.loads(done.stdout)


def test_every_rank_says_what_it_does_and_a_run_that_starts_is_no_stall(tmp_path):
    ranks = ["--set", "train.ranks=2", "--set", "train.zero_stage=1", "--set", "train.steps=100000"]
    running, folder = start("up", "--run", "ranks", *SMALL, *ranks, *OFTEN, cwd=tmp_path), tmp_path / "runs/ranks"
    opening, activities, leader = [], defaultdict(list), None

    def by_followers():
        return [doing for worker, done in activities.items() if worker != leader for doing in done]

    # The run goes on until each moment has been seen, however short the moments are on this machine.
    wanted = {Activity.TRAINING, Activity.WAITING_FOR_RANK_0}
    for now in looks(folder, lambda: running.poll() is None):
        lost = any(name.startswith("learner/") for name in now.lost)  # one that was there between two looks
        if not activities and not now.of("learner") and not lost:
            opening.append(diagnose(now))
        leader = now.state.get("leader", leader)
        for learner in now.of("learner"):
            activities[learner.worker].append(learner.doing)
        if leader is not None and wanted <= {doing.kind for doing in by_followers()}:
            break
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=600)
    assert running.returncode == 130, said
    assert opening
    assert [found for found in opening if found.stalled or "has been starting" not in found.sentence] == []
    assert len(activities) == 2
    first = next(at for at, doing in enumerate(by_followers()) if doing.kind is Activity.TRAINING)
    assert Doing(Activity.LOADING_MODEL) not in by_followers()[first:]


def test_a_run_that_stops_goes_on_and_is_stopped_is_told_right_at_every_moment(tmp_path, wait_until):
    settings = [*SMALL, "--set", "train.steps=100000", "--set", "train.checkpoint_every=1", *OFTEN]
    running, folder = start("up", "--run", "long", *settings, cwd=tmp_path), tmp_path / "runs/long"
    wait_until(lambda: len(metrics(folder)) >= 2, "the second step", 300)
    told = []
    # Heartbeats that come so often are soon missed: a busy machine may hold one up for that long.
    wait_until(lambda: told.append(shown(cwd=tmp_path)) or told[-1][0] == 0, "it is running", 300)
    _, found = told[-1]
    assert (found["situation"], found["run"]) == ("running", "long")
    assert type(found["state"]["step"]) is int

    (learner,) = role_pids("long", "learner", tmp_path)
    os.kill(learner, signal.SIGTERM)  # the supervisor starts another
    goes_on(running, folder, tmp_path)

    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=600)
    made = metrics(folder)[-1]["version"]
    code, found = shown("--run", "long", cwd=tmp_path)
    assert (code, found["situation"], found["stalled"], found["state"]["step"]) == (8, "stopped", True, made)
    assert found["sentence"] == (
        f"nobody works on run long and its server has left: it stands at step {made} of 100000; "
        "leeway up --run long --resume goes on"
    )
    again = start("up", "--run", "long", "--resume", cwd=tmp_path)
    goes_on(again, folder, tmp_path)
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=600)


def goes_on(running, folder, cwd):
    """Look until there are two more steps: while a learner loads, nobody says that the run is stopped. Where it has
    loaded between two looks, another one is to come."""
    loading = 0
    while not loading:
        until = len(metrics(folder)) + 2
        for now in looks(folder, lambda until=until: running.poll() is None and len(metrics(folder)) < until):
            if any(each.doing.kind in STARTS for each in now.of("learner")):
                loading += 1
                found = diagnose(now)
                assert "is stopped" not in found.sentence
                assert not found.stalled
        assert running.poll() is None
        for learner in () if loading else role_pids("long", "learner", cwd):
            os.kill(learner, signal.SIGTERM)


def test_where_there_is_no_run_or_no_server_the_object_says_so(tmp_path):
    code, found = shown(cwd=tmp_path)
    assert (code, found["situation"], found["run"], found["workers"]) == (3, "no_run", None, None)
    code, found = shown("--run", "a b", "--redis-url", "redis://127.0.0.1:1/0", cwd=tmp_path)
    assert (found["situation"], found["run"]) == ("no_run", "a b")
    code, found = shown("--run", "x", "--redis-url", "redis://127.0.0.1:1/0", cwd=tmp_path)
    assert (code, found["situation"], found["stalled"]) == (4, "no_server", True)
    assert "no Redis at redis://127.0.0.1:1/0" in found["sentence"]
