"""``leeway status`` names the culprit of every stall that faults can make, with the exit code a monitor acts on."""

import os
import signal
import time
from pathlib import Path

import pytest
import redis
from leeway_rl.common.errors import BrokerError
from leeway_rl.leeway.chaos.run import begun
from leeway_rl.leeway.chaos.target import Target, command_lines, fill, send
from leeway_rl.leeway.looking import status
from leeway_rl.leeway.running import controls

from tests.integration.running import SMALL, metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SETTINGS = [word for word in SMALL if "=" in word] + [
    "train.steps=100000",
    "train.checkpoint_every=1",
    "flow.max_staleness=1",
    "broker.heartbeat_s=0.4",
    "broker.lease_s=2",
]


def stopped(*roles):
    def strike(target: Target):
        pids = [pid for _, pid in target.processes(*roles)]
        for pid in pids:
            send(pid, signal.SIGSTOP)
        return lambda: [send(pid, signal.SIGCONT) for pid in pids]

    return strike


def stopped_graders(target):
    """Which a verifier finds out by itself, and replaces them."""
    for pid in target.graders():
        send(pid, signal.SIGSTOP)
    return lambda: None


def dead_learner(target):
    """And a supervisor that cannot start it again."""
    ours = {"leeway_rl.leeway.cli", str(target.folder.parent)}  # other tests have runs of the same name
    supervisors = [pid for pid, words in command_lines() if ours <= set(words)]
    for pid in supervisors:
        send(pid, signal.SIGSTOP)
    for _, pid in target.processes("learner"):
        send(pid, signal.SIGKILL)
    return lambda: [send(pid, signal.SIGCONT) for pid in supervisors]


def frozen(target):
    pid = target.server()
    send(pid, signal.SIGSTOP)
    return lambda: send(pid, signal.SIGCONT)


def out_of_memory(target):
    """As the fault does it, which waits for two seconds and is tried again."""

    def limited(most):
        with redis.Redis(port=target.port, socket_timeout=100) as client:
            client.config_set("maxmemory", most)

    limited(1 << 20)
    return lambda: limited(0)


def full_disk(target):
    if target.disk is None:
        pytest.skip(target.missing["disk"])
    ballast = fill(target.disk)
    return ballast.unlink


def cut_off(target):
    target.proxy.refusing = True
    target.proxy.cut()

    def end():
        target.proxy.refusing = False

    return end


def paused(target):
    url = f"redis://127.0.0.1:{target.port}/0"
    controls.turn(url, target.run, "paused", "1")
    return lambda: controls.turn(url, target.run, "paused", "0")


STALLS = [
    ("every rollout worker is stopped", stopped("rollout"), 8, "tickets wait for a rollout worker and none is alive"),
    ("its process is named", stopped("rollout"), 8, "is on this machine and stopped: kill -CONT"),
    ("every verifier is stopped", stopped("verifier"), 8, "groups wait for a verifier and none is alive"),
    ("grading processes are stopped", stopped_graders, 0, "the verifier works on"),
    ("the learner is stopped", stopped("learner"), 8, "no learner is alive (the last was lost"),
    ("the learner is dead", dead_learner, 8, "no learner is alive (the last was lost"),
    ("Redis is frozen", frozen, 4, "does not answer within 3 s: it is frozen or overloaded"),
    ("Redis is out of memory", out_of_memory, 8, "Redis is out of memory"),
    ("Redis is away", cut_off, 4, "no Redis at redis://127.0.0.1"),
    ("the disk under the checkpoints is full", full_disk, 8, "checkpoints is full"),
    ("an operator has paused the run", paused, 0, "the run is paused; leeway resume goes on"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run under ``leeway up`` for every fault."""
    runs = tmp_path_factory.mktemp("runs")
    before = os.environ.copy()
    for name in [name for name in os.environ if name.startswith("LEEWAY_")]:
        del os.environ[name]
    # Each is judged by Math-Verify in a process: what the quick rules judge needs none that could stop.
    rows = (ROOT / "presets/tiny/addition.jsonl").read_text().replace('"ability": "exact"', '"ability": "math"')
    (runs / "addition.jsonl").write_text(rows)
    settings = [*SETTINGS, f"data.path={runs / 'addition.jsonl'}", "verifier.math=report"]
    with begun("stalls", runs, ["tiny"], settings) as (target, process):
        deadline = time.monotonic() + 300
        while not metrics(target.folder):
            assert time.monotonic() < deadline, "the first step"
            assert process.poll() is None
            time.sleep(0.1)
        yield target
    os.environ.update(before)


def asked(target, capsys):
    """(exit code, what it says, seconds it took) of ``leeway status``, by way of the proxy as the roles go."""
    started = time.monotonic()
    try:
        code = status.show(f"redis://127.0.0.1:{target.proxy.own_port}/0", target.run, as_json=False)
        said = capsys.readouterr().out
    except (BrokerError, redis.RedisError) as error:  # the second: it was silent for too long in the middle
        code, said = getattr(error, "exit_code", None), str(error)
    return code, " ".join(said.split()), time.monotonic() - started


@pytest.mark.parametrize(("what", "strike", "code", "words"), STALLS, ids=[row[0] for row in STALLS])
def test_the_culprit_is_named_in_seconds_and_afterwards_the_run_goes_on(
    run, capsys, wait_until, what, strike, code, words
):
    seen = []
    end = strike(run)
    try:

        def named():
            if strike is full_disk:  # what the learner was just removing is room for every checkpoint after it
                fill(run.disk)
            seen.append(asked(run, capsys))
            assert seen[-1][2] < 60, "it answers, whatever does not answer it"
            return seen[-1][0] == code and words in seen[-1][1]

        try:
            wait_until(named, what, 300)
        except pytest.fail.Exception:
            pytest.fail(f"{what}: {seen[-1]}")
    finally:
        end()
    before = metrics(run.folder)[-1]["at"]
    wait_until(lambda: metrics(run.folder)[-1]["at"] > before, "the run goes on", 300)
