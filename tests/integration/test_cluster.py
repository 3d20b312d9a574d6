"""The master of a run is killed with SIGKILL while the run goes on: in a Redis Cluster of six nodes, where its replica
lacks the last training steps, and behind three Sentinels. At a bound of 0 each run ends with the weights of one
process, so nothing was lost and nothing counted twice."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from leeway_rl.common.address import public
from leeway_rl.common.errors import BrokerError
from leeway_rl.common.ledger import read
from leeway_rl.common.queue.connection import Connection
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.examining import broker
from leeway_rl.leeway.finding import newest_at
from leeway_rl.leeway.looking import status
from leeway_rl.leeway.proving.audit import audit
from leeway_rl.leeway.running.acl import acl
from leeway_rl.leeway.running.clean import clean
from typer.testing import CliRunner

from tests.installations import cluster, watched
from tests.integration.running import SMALL, environment, last_checksum, metrics, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 32
STRICT = [*SMALL, *("--set", "flow.max_staleness=0", "--set", f"train.steps={STEPS}")]
ASKING = (["status", "frozen"], ["set", "max-staleness", "1"], ["doctor", "--quick", "--json", "--role", "rollout"])
ROLES = ("learner", "rollout", "verifier", "desk")


@pytest.fixture(scope="module")
def alone():
    """The checksum of the weights that one process ends with."""
    example = Path(__file__).parents[2] / "examples/one_process.py"
    words = [sys.executable, str(example), "--steps", str(STEPS), *STRICT]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=600, check=True)
    return done.stdout.split()[-1]


def least_rights():
    """All that the four roles need together, under one user, without INFO: a managed service may not have it."""
    lines = [line for line in acl(None, None).splitlines() if line.startswith("user leeway-")]
    return " ".join(line.split(" on resetpass ")[1].replace(" +info", "") for line in lines)


def refused(url, words):
    with pytest.raises(BrokerError, match=words):
        Connection(url, "hurt", connect_s=2.0)


def play(url, home, wait_until, strike):
    """A run at ``url``; ``strike`` is called with its folder after its first training step."""
    running = start("up", "--run", "hurt", *STRICT, "--redis-url", url, cwd=home)
    folder = home / "runs/hurt"
    try:
        wait_until(lambda: len(metrics(folder)) >= 1, "the first step", 300)
        strike(folder)
        said, _ = running.communicate(timeout=600)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 0, said
    lines = list(read(folder / "ledger.jsonl"))
    assert [line["step"] for line in lines if line["event"] == "step"] == list(range(STEPS))
    assert sum(line["event"] == "started" for line in lines) == 1, "the learner lived on"
    assert audit(folder / "ledger.jsonl").version == STEPS
    return folder


def published(folder):
    """How many versions the ledger of the run in ``folder`` knows of."""
    return sum(line["event"] == "published" for line in read(folder / "ledger.jsonl"))


def test_a_replica_that_lacks_whole_steps_takes_over_and_the_run_ends_with_the_weights_of_one_process(
    alone, tmp_path, wait_until, capsys
):
    (tmp_path / "users.acl").write_text(f"user default on nopass ~* &* +@all\nuser run on >s3cret {least_rights()}\n")
    with cluster(tmp_path / "redis", "--aclfile", str(tmp_path / "users.acl")) as six:
        url = f"redis+cluster://run:s3cret@{six.hosts}"
        lines = list(broker.broker(url, None, ROLES, None, None))
        assert not [line for line in lines if line.state == "mend"]
        assert "6 servers: 3 masters, each with a replica; all in order" in {line.found for line in lines}
        master, replica = six.owner("hurt"), six.replica("hurt")
        another = next(port for port in six.servers if port not in (master, replica))
        refused(f"redis://run:s3cret@127.0.0.1:{another}", r"lie on another: write redis\+cluster:// in the address")
        refused(
            f"redis+sentinel://run:s3cret@{six.hosts}/mymaster", "what answers there is no Sentinel: write redis://"
        )

        def strike(folder):
            six.cut_off(master, replica)
            before = published(folder)
            # The first of them may have been written before, and noted after.
            wait_until(lambda: published(folder) >= before + 2, "weights that the replica never hears of", 300)
            six.kill(master)
            six.servers[replica].process.send_signal(signal.SIGCONT)

        folder = play(url, tmp_path, wait_until, strike)
        assert six.owner("hurt") == replica
        assert newest_at(url) == "hurt", "a run is found whichever node has it"
        assert status.show(url, "hurt", as_json=False) == 0
        assert "finished" in capsys.readouterr().out
        (fault,) = [line for line in broker.broker(url, None, ROLES, None, None) if line.what == "Redis servers"]
        assert fault.found.startswith(f"no replica of redis://127.0.0.1:{replica}")
        clean(url, "hurt", force=True)
        assert six.client(replica).dbsize() == 0
    assert last_checksum(folder) == alone
    assert "Redis has lost the newest weights" in (folder / "logs/learner.log").read_text()
    measured = [line["step"] for line in metrics(folder)]
    assert len(measured) == len(set(measured)), "what is read again is not written again"
    assert not any(b"s3cret" in path.read_bytes() for path in (folder / "logs").iterdir())


@contextmanager
def frozen(*clients):
    """The servers of these clients, all stopped (SIGSTOP)."""
    pids = [client.info("server")["process_id"] for client in clients]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_what_is_frozen_whole_is_told_in_about_the_time_of_one_answer_and_as_of_one_server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def ask(url, count, asking=ASKING):
        for words in asking:
            CliRunner().invoke(app, [*words, "--redis-url", "redis://127.0.0.1:1/0"])  # its imports take their time
            began = time.monotonic()
            done = CliRunner().invoke(app, [*words, "--redis-url", url])
            assert time.monotonic() - began < 20, words  # six times that of one answer, and more, one after the other
            silent = f"the Redis at {re.escape(public(url))} does not answer within [35] s"
            assert re.search(f"{silent}: its processes ([0-9]+, ){{{count - 1}}}", f"{done.output} {done.exception}"), (
                words
            )

    with cluster(tmp_path / "six") as six, frozen(*map(six.client, six.servers)):
        ask(six.url, 6)
    with (
        watched(tmp_path / "pair") as pair,
        frozen(*map(pair.client, pair.servers), *map(pair.client_of_sentinel, pair.sentinels)),
    ):
        ask(pair.url, 3, ASKING[:1])


def test_a_master_behind_sentinels_is_killed_and_the_run_ends_with_the_weights_of_one_process(
    alone, tmp_path, wait_until
):
    with watched(tmp_path / "redis") as pair:
        killed, sentinels = pair.master(), pair.url.split("/")[2]
        refused(f"redis+cluster://{sentinels}", r"no node of a cluster .* redis\+sentinel:// for a Sentinel")
        refused(f"redis+cluster://127.0.0.1:{killed}", "no node of a cluster .* write redis:// for a server")
        refused(f"redis+sentinel://{sentinels}/other", "this Sentinel knows no master 'other', or holds it down")
        refused(f"redis://{sentinels.split(',')[0]}", r"for Sentinels write redis\+sentinel:// in the address")
        folder = play(pair.url, tmp_path, wait_until, lambda _: pair.kill(killed))
        assert pair.master() != killed
        assert newest_at(pair.url) == "hurt"
    assert last_checksum(folder) == alone
    assert [line["step"] for line in metrics(folder)] == list(range(STEPS)), "each step once"
