"""A server as a managed service has it: without CONFIG, INFO, CLIENT, ACL, DEBUG and what else is an administrator's.
A run does all its work there, and the desk says what it could not look at. And a server that is demoted."""

import copy
from types import SimpleNamespace

import pytest
import redis
from leeway_rl.common.queue import client
from leeway_rl.common.queue.client import Patience
from leeway_rl.common.queue.connection import Connection, refused_or_lost
from leeway_rl.common.queue.entries import HandOver
from leeway_rl.leeway.examining import broker
from leeway_rl.leeway.looking import status
from leeway_rl.leeway.running.clean import clean
from leeway_rl.leeway.running.server import EmbeddedServer
from redis.backoff import ExponentialWithJitterBackoff

from tests.roles import Roles
from tests.samples import a_heartbeat, a_ticket, some_responses, some_scores

FORBIDDEN = (
    "config", "info", "client", "acl", "debug", "monitor", "keys", "flushall", "flushdb", "save", "bgsave",
    "bgrewriteaof", "shutdown", "replicaof", "slaveof", "migrate", "module", "latency", "slowlog", "memory", "wait",
    "hello", "command", "object", "swapdb", "randomkey", "cluster", "publish", "subscribe", "eval", "function",
)  # fmt: skip


@pytest.fixture
def managed(tmp_path):
    """A run on a server without all these commands."""
    lines = "".join(f'rename-command {name} ""\n' for name in FORBIDDEN)
    (tmp_path / "redis.conf").write_text(lines)
    program = tmp_path / "server.sh"
    program.write_text(f'#!/bin/sh\nexec "{broker.server_binary()}" "{tmp_path}/redis.conf" "$@"\n')
    program.chmod(0o755)
    with EmbeddedServer(tmp_path / "data", binary=str(program)) as server:
        roles = Roles(Connection(server.url, "r"))
        yield roles
        roles.close()


def test_a_run_needs_nothing_that_is_an_administrators(managed, capsys):
    managed.record.store_config("")
    managed.learner.raise_incarnation(1)
    managed.learner.clear_work()
    managed.record.set_state(phase="training", step=0, steps=2, at=managed.now())
    managed.learner.issue(a_ticket(0))
    (job,) = managed.rollout.take(count=1, block_s=1, lease_s=60)
    assert managed.rollout.hand_over(job, some_responses(a_ticket(0))) is HandOver.HANDED
    (job,) = managed.verifier.take(count=1, block_s=1, lease_s=60)
    assert managed.verifier.hand_over(job, some_scores(a_ticket(0))) is HandOver.HANDED
    assert not managed.learner.asked(1).lost
    managed.learner.settle(managed.learner.scored(count=9, block_s=1))
    for role in ("learner", "rollout", "verifier"):
        managed.rollout.beat(a_heartbeat(role), 60.0)
    assert managed.overview.trouble() == ""
    status.show(managed.url, "r", as_json=False)
    assert "step 0 of 2" in capsys.readouterr().out
    clean(managed.url, "r", force=True)
    assert "keys removed" in capsys.readouterr().out


def test_the_doctor_says_what_it_could_not_look_at(managed, monkeypatch):
    monkeypatch.setattr(broker, "SLOW_S", 60.0)  # a busy machine takes more than a rack for a round trip
    lines = list(broker.broker(managed.url, "r", ("learner", "rollout", "verifier", "desk"), None, None))
    assert {line.state.value for line in lines} == {"ok", "unknown"}
    (unknown,) = [line for line in lines if line.state == "unknown"]
    assert "what the server is, and its memory" in unknown.found
    assert "noeviction in its own settings" in unknown.mend


def test_a_service_that_leaves_fields_out_is_not_taken_at_its_word(managed, monkeypatch):
    monkeypatch.setattr(redis.Redis, "info", lambda *_: {"redis_version": "7.1.0", "used_memory": 1})
    lines = list(broker.broker(managed.url, "r", ("learner",), None, None))
    assert "mend" not in {line.state.value for line in lines}
    assert any("does not tell its maxmemory-policy" in line.found for line in lines)
    monkeypatch.setattr(redis.Redis, "info", lambda *_: {})
    lines = list(broker.broker(managed.url, "r", ("learner",), None, None))
    assert any("does not tell its release" in line.found for line in lines)


def demoted(client, on):
    client.replicaof(*("127.0.0.1", "1") if on else ("NO", "ONE"))


def without_replicas(client, on):
    client.config_set("min-replicas-to-write", int(on))


@pytest.mark.parametrize(("hinder", "words"), [(demoted, "is a replica"), (without_replicas, "too few replicas")])
def test_a_role_waits_where_a_failover_leaves_a_server_that_takes_no_writes(tmp_path, monkeypatch, hinder, words):
    """A managed service's failover by name: the server of before refuses, and soon the name leads to another."""
    with EmbeddedServer(tmp_path) as server:
        role, desk = Connection(server.url, "r", retry_s=20.0), Connection(server.url, "r", retry_s=0.0)
        role.redis.set(role.keys.config, "x")
        hinder(desk.redis, True)
        with pytest.raises(redis.exceptions.RedisError) as caught:
            desk.redis.set(role.keys.config, "y")
        assert words in refused_or_lost(caught.value)
        tries, compute = [], ExponentialWithJitterBackoff.compute

        def computed(backoff, failures):
            tries.append(failures)
            if len(tries) == 3:
                hinder(desk.redis, False)
            return compute(backoff, failures)

        monkeypatch.setattr(ExponentialWithJitterBackoff, "compute", computed)
        assert role.redis.set(role.keys.config, "y")
        assert len(tries) >= 3
        for each in (role, desk):
            each.close()


@pytest.fixture
def slow_tries(monkeypatch):
    """A function that makes a call fail with an error, each try after a tenth of a second by the client's clock, which
    stands still otherwise. It gives how often it was tried."""
    now = [0.0]
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def tried(retry, error):
        made = []

        def fail():
            made.append(1)
            now[0] += 0.1
            raise error

        with pytest.raises(type(error), match=str(error)):
            retry.call_with_retry(fail, lambda _: None)
        return len(made)

    return tried


def test_a_role_gives_up_after_its_time_however_long_each_try_takes(tmp_path, slow_tries):
    with EmbeddedServer(tmp_path) as server:
        connection = Connection(server.url, "r", retry_s=0.3)
        connection.redis.get("x")
        patience = connection.redis.connection_pool.connection_kwargs["retry"]
        assert slow_tries(patience, redis.exceptions.ConnectionError("away")) in (3, 4)  # of three tenths
        connection.close()


def test_when_the_time_of_one_call_is_over_nothing_is_tried_until_the_server_answers(monkeypatch, slow_tries):
    """Otherwise a role would end later by as long as each of its threads, and each of its last words, takes."""
    patience = Patience(0.25)
    of_a_connection = copy.deepcopy(patience)

    def tries(retry):
        return slow_tries(retry, redis.exceptions.TimeoutError("nothing"))

    assert tries(patience) == 3
    assert tries(of_a_connection) == 0
    of_a_connection.answered()
    assert tries(patience) == 3
    monkeypatch.setattr(client, "ANSWER_S", 0.0)  # some time later
    assert tries(of_a_connection) == 1, "one that waits for its turn finds out whether the server is back"


def test_what_is_not_tried_any_more_ends_with_the_meaning_of_what_was_tried():
    patience = Patience(0.05)

    def refuse():
        raise redis.exceptions.OutOfMemoryError("command not allowed", status_code="OOM")

    for _ in range(2):
        with pytest.raises(redis.exceptions.OutOfMemoryError) as refused:
            patience.call_with_retry(refuse, lambda _: None)
        assert "is out of memory" in refused_or_lost(refused.value)


def test_an_answer_of_any_kind_ends_that(tmp_path):
    with EmbeddedServer(tmp_path) as server:
        connection = Connection(server.url, "r", retry_s=0.1)
        link = connection.redis.connection_pool.get_connection()
        patience = connection.redis.connection_pool.connection_kwargs["retry"]
        with pytest.raises(redis.exceptions.ConnectionError):
            patience.call_with_retry(lambda: (_ for _ in ()).throw(redis.exceptions.ConnectionError()), lambda _: None)
        with pytest.raises(redis.exceptions.ConnectionError):
            connection.redis.get("x")
        link.send_command("PING")
        assert link.read_response() == b"PONG"
        connection.redis.connection_pool.release(link)
        assert connection.redis.get("x") is None
        connection.close()
