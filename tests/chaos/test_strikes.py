"""A fault strikes at its own run alone, and once: not at each try of a fault that could not be made yet."""

import json
import os
import random
import subprocess
import sys

import psutil
import pytest
from leeway_rl.leeway.chaos.faults import FAULTS
from leeway_rl.leeway.chaos.target import Target

RUN = f"hurt-{os.getpid()}"  # runs are found by their name on this machine, where other tests have theirs
PORT, OTHER = 21999, 21998


@pytest.fixture
def role():
    """Start what looks like a role of the run, whose Redis is on a port."""
    started = []

    def start(name, port, *words):
        command = [sys.executable, "-c", "import time; time.sleep(600)", f"leeway_rl.{name}", "--run", RUN, *words]
        environment = os.environ | {"LEEWAY_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
        started.append(subprocess.Popen(command, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_run_of_the_same_name_with_another_redis_is_left_alone(role, tmp_path, wait_until):
    target = Target(RUN, tmp_path, PORT)
    ours, theirs = role("learner", PORT), role("learner", OTHER)
    said = role("verifier", OTHER, "--redis-url", f"redis://:secret@localhost:{PORT}/0")
    role("rollout", PORT, "--redis-url", f"redis://localhost:{OTHER}/0")
    wait_until(lambda: len(target.processes()) == 2, "they have started", 300)
    assert sorted(target.processes()) == [("learner", ours.pid), ("verifier", said.pid)]
    assert theirs.poll() is None


def a_checkpoint(folder, step):
    path = folder / f"checkpoints/step-{step:06d}"
    path.mkdir(parents=True)
    (path / "state.json").write_text("{...}")
    (path / "complete.json").write_text(json.dumps({"files": {"state.json": 5}}))


@pytest.mark.parametrize("kind", ["torn-checkpoint", "torn-unfinished"])
def test_the_learner_is_not_killed_by_a_fault_that_could_not_be_made(role, tmp_path, wait_until, kind):
    target, learner = Target(RUN, tmp_path, PORT), role("learner", PORT)
    wait_until(lambda: len(target.processes("learner")) == 1, "it has started", 300)
    a_checkpoint(tmp_path, 1)
    a_checkpoint(tmp_path, 2)
    hindered = tmp_path / "checkpoints/step-000003.unfinished"
    hindered.write_text("a file where the folder would be")
    broken = random.Random(5)
    if kind == "torn-checkpoint":
        broken.choice = lambda _: tmp_path / "gone"
    for _ in range(3):
        with pytest.raises((FileExistsError, FileNotFoundError)):
            FAULTS[kind].strike(target, broken)
    assert learner.poll() is None
    assert psutil.Process(learner.pid).status() != psutil.STATUS_STOPPED

    hindered.unlink()
    hit = FAULTS[kind].strike(target, random.Random(5))
    assert f"learner {learner.pid}" in hit.what
    assert learner.wait(200) == -9
