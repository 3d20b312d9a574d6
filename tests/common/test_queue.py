"""Work passes from role to role exactly once, on a real server, whoever dies."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import msgpack
import pytest
import redis
from leeway_rl.common.activity import Activity, Doing
from leeway_rl.common.codec import SCHEMA, encode, sealed
from leeway_rl.common.errors import BrokerError, DecodeError
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.entries import GROUP, HandOver, WorkStream
from leeway_rl.common.types import Encoding, Manifest, Payload, TensorInfo

from tests.roles import Roles
from tests.samples import a_heartbeat, a_ticket, some_responses, some_scores

LEASE_S = 0.2


def take(bus, stream=WorkStream.PROMPTS, count=1):
    return bus.on(stream).take(count=count, block_s=0.05, lease_s=LEASE_S)


def taken_from_the_silent(bus, stream=WorkStream.PROMPTS):
    """What a worker gets that looks now for entries whose worker has been silent for a minute."""
    bus.on(stream).reclaimed_at = 0.0
    return bus.on(stream).take(count=1, block_s=0, lease_s=60)


def fall_silent(bus, jobs):
    """Let Redis think that ``jobs`` were last renewed 100 s ago."""
    ids = [job.entry_id for job in jobs]
    bus.redis.xclaim(bus.keys.prefix + jobs[0].stream, GROUP, bus.worker, 0, ids, idle=100_000, justid=True)


def test_a_group_flows_from_ticket_to_settled_and_leaves_nothing(bus):
    ticket = a_ticket()
    bus.learner.issue(ticket)
    (job,) = take(bus)
    assert bus.rollout.ticket(job).prompt_id == ticket.prompt_id
    assert bus.rollout.hand_over(job, some_responses(ticket)) is HandOver.HANDED
    (job,) = take(bus, WorkStream.RESPONSES)
    assert bus.verifier.hand_over(job, some_scores(ticket)) is HandOver.HANDED
    (entry,) = bus.learner.scored(count=10, block_s=0.05)
    found, responses, scores = bus.learner.scored_group(entry.group_id)
    assert (found.ticket, responses.worker, len(scores.verdicts)) == (7, "tester", 2)
    bus.learner.settle([entry])
    assert bus.overview.depths() == {"prompts": 0, "responses": 0, "scored": 0, "dead_letters": 0}
    assert bus.learner.scored_group(entry.group_id) is None


def test_issuing_the_same_ticket_again_changes_nothing(bus):
    bus.learner.issue(a_ticket())
    bus.learner.issue(a_ticket())
    assert bus.overview.depths()["prompts"] == 1


def test_several_tickets_go_out_in_order(bus):
    bus.learner.issue()
    bus.learner.issue(*[a_ticket(number) for number in (4, 2, 3)])
    bus.learner.issue(a_ticket(1), a_ticket(4))
    jobs = bus.rollout.take(count=9, block_s=1, lease_s=60)
    assert [int(job.group_id.split("-")[0]) for job in jobs] == [4, 2, 3, 1]


def test_a_dead_workers_entry_is_given_to_another(make_bus, wait_until):
    dead, alive = make_bus("dead"), make_bus("alive")
    dead.learner.issue(a_ticket())
    (held,) = take(dead)
    assert taken_from_the_silent(alive) == []
    taken = []
    wait_until(lambda: bool(taken.extend(take(alive)) or taken), "the lease ends")
    assert (taken[0].entry_id, taken[0].attempt) == (held.entry_id, 2)
    assert alive.rollout.hand_over(taken[0], some_responses(a_ticket())) is HandOver.HANDED


def test_a_live_workers_entry_is_never_taken(make_bus):
    slow, greedy = make_bus("slow"), make_bus("greedy")
    slow.learner.issue(a_ticket())
    (held,) = take(slow)
    for _ in range(3):
        fall_silent(slow, [held])
        assert slow.on(held.stream).renew([held]) == {held.entry_id}
        assert taken_from_the_silent(greedy) == []
    fall_silent(slow, [held])
    assert [job.attempt for job in taken_from_the_silent(greedy)] == [2]


def test_renewing_does_not_take_back_what_was_given_away(make_bus, wait_until):
    silent, other = make_bus("silent"), make_bus("other")
    silent.learner.issue(a_ticket())
    (held,) = take(silent)
    wait_until(lambda: bool(take(other)), "the lease ends")
    assert silent.on(held.stream).renew([held]) == set()


def test_more_threads_than_a_hundred_may_wait_for_work_at_once(bus):
    def wait(_):
        return bus.rollout.take(count=1, block_s=0.5, lease_s=60)

    with ThreadPoolExecutor(130) as threads:
        assert list(threads.map(wait, range(130))) == [[]] * 130


@pytest.mark.parametrize("meanwhile", ["handed over", "started over"])
def test_an_entry_that_goes_just_as_it_is_claimed_is_passed_over(make_bus, wait_until, monkeypatch, meanwhile):
    silent, other = make_bus("silent"), make_bus("other")
    silent.learner.issue(a_ticket())
    (held,) = take(silent)
    look, seen = other.redis.xpending_range, []

    def just_before(*words, **named):
        reply = look(*words, **named)
        if reply:
            seen.append(reply)
            if meanwhile == "handed over":
                silent.rollout.hand_over(held, some_responses(a_ticket()))
            else:
                silent.redis.delete(silent.keys.prompts)
        return reply

    monkeypatch.setattr(other.redis, "xpending_range", just_before)
    wait_until(lambda: take(other) == [] and seen != [], "the lease ends")


@pytest.mark.parametrize("stream", [WorkStream.PROMPTS, WorkStream.RESPONSES])
def test_a_dead_workers_groups_come_back_from_behind_any_number_of_live_leases(make_bus, stream):
    alive, dead, other = make_bus("alive"), make_bus("dead"), make_bus("other")
    tickets = [a_ticket(number) for number in range(550)]
    alive.learner.issue(*tickets)
    if stream is WorkStream.RESPONSES:
        for job, ticket in zip(alive.rollout.take(count=550, block_s=1, lease_s=60), tickets, strict=True):
            alive.rollout.hand_over(job, some_responses(ticket))
    held = alive.on(stream).take(count=500, block_s=1, lease_s=60)
    lost = dead.on(stream).take(count=50, block_s=1, lease_s=60)
    assert (len(held), len(lost)) == (500, 50)
    fall_silent(dead, lost)
    back = [job for _ in lost for job in taken_from_the_silent(other, stream)]
    assert taken_from_the_silent(other, stream) == []
    assert {job.group_id for job in back} == {job.group_id for job in lost}
    assert {job.attempt for job in back} == {2}


def test_the_second_of_two_workers_hands_over_nothing(make_bus, wait_until):
    first, second = make_bus("first"), make_bus("second")
    first.learner.issue(a_ticket())
    (held,) = take(first)
    taken = []
    wait_until(lambda: bool(taken.extend(take(second)) or taken), "the lease ends")
    assert first.rollout.hand_over(held, some_responses(a_ticket())) is HandOver.HANDED
    assert second.rollout.hand_over(taken[0], some_responses(a_ticket())) is HandOver.DUPLICATE
    assert first.overview.depths()["responses"] == 1


def test_work_of_an_older_incarnation_is_turned_away(bus):
    bus.learner.issue(a_ticket(incarnation=1))
    (job,) = take(bus)
    assert bus.learner.clear_work() == 1
    bus.learner.issue(a_ticket(incarnation=2))
    assert bus.rollout.hand_over(job, some_responses(a_ticket())) is HandOver.GONE
    assert bus.overview.depths()["responses"] == 0
    assert bus.overview.depths()["prompts"] == 1


def test_an_entry_id_never_comes_again(bus):
    """A worker that still holds an entry of the last incarnation would take away the one that came under its id."""
    bus.learner.issue(a_ticket(incarnation=1))
    (job,) = take(bus)
    bus.learner.clear_work()
    assert bus.overview.under_way(WorkStream.PROMPTS) == {}
    with pytest.raises(redis.exceptions.ResponseError, match="equal or smaller than the target stream top item"):
        bus.redis.xadd(bus.keys.prompts, {"g": "1-2"}, id=job.entry_id)


def test_what_a_learner_that_died_left_of_a_group_given_up_goes_with_the_next_start(bus):
    bus.learner.issue(a_ticket())
    (job,) = take(bus)
    bus.on(job.stream).give_up(job, "the engine burnt down")
    assert bus.desk.payload_sizes("7-1") != {}
    bus.learner.clear_work()
    assert bus.desk.payload_sizes("7-1") == {}


def test_scores_of_responses_that_went_with_the_data_are_turned_away_and_the_group_is_made_again(bus):
    bus.learner.issue(a_ticket())
    (job,) = take(bus)
    bus.rollout.hand_over(job, some_responses(a_ticket()))
    (job,) = take(bus, WorkStream.RESPONSES)
    bus.desk.clean()
    bus.learner.ensure_groups()
    bus.learner.issue(a_ticket())
    assert bus.verifier.hand_over(job, some_scores(a_ticket())) is HandOver.GONE
    assert (bus.overview.depths()["prompts"], bus.overview.depths()["scored"]) == (1, 0)


def test_a_group_given_up_reaches_the_learner_and_the_dead_letters(bus):
    bus.learner.issue(a_ticket())
    (job,) = take(bus)
    bus.on(job.stream).give_up(job, "the engine burnt down")
    (entry,) = bus.learner.scored(count=10, block_s=0.05)
    assert (entry.group_id, entry.failed) == ("7-1", "the engine burnt down")
    (letter,) = bus.desk.dead_letters()
    assert (letter["kind"], letter["where"], letter["reason"]) == ("given_up", "prompts", "the engine burnt down")


def test_a_broken_ticket_says_so(bus):
    bus.learner.issue(a_ticket())
    bus.redis.set(bus.keys.group("7-1", "ticket"), b"\x00garbage")
    with pytest.raises(DecodeError):
        bus.rollout.ticket(take(bus)[0])


@pytest.mark.parametrize("fields", [{"x": "1"}, {"g": "7"}, {"g": b"\xff\xfe"}, {"g": "1-1-1"}, {"g": "9" * 40 + "-1"}])
def test_an_entry_that_names_no_group_is_a_dead_letter_and_work_goes_on(make_bus, wait_until, fields):
    bus, other = make_bus("first"), make_bus("other")
    for stream in ("prompts", "scored"):
        bus.redis.xadd(bus.keys.prefix + stream, fields)
    bus.redis.xreadgroup("workers", "died before it looked", {bus.keys.prompts: ">"})
    bus.learner.issue(a_ticket())
    assert [job.group_id for job in take(bus)] == ["7-1"]
    wait_until(lambda: take(other, count=4) == [] and len(bus.desk.dead_letters()) == 1, "the lease ends")
    assert bus.learner.scored(count=10, block_s=0.05) == []
    assert ["names no group" in letter["reason"] for letter in bus.desk.dead_letters()] == [True, True]
    assert (bus.overview.depths()["prompts"], bus.overview.depths()["scored"]) == (1, 0)


def test_a_broken_manifest_is_told_of_once_and_goes_with_the_next_version(make_bus):
    learner, worker = make_bus("learner"), make_bus("worker")
    learner.redis.xadd(learner.keys.weights, {"m": b"garbage"})
    for _ in range(3):
        assert worker.weights.manifests() == []
    assert [letter["where"] for letter in worker.desk.dead_letters()] == ["weights"]
    info = TensorInfo(name="w", dtype="bfloat16", shape=(1,))
    manifest = Manifest(
        version=0, incarnation=1, transport="redis", tensors=(info,), full_bytes=2, shards=(), checksum="",
        payloads=(Payload(base=None, encoding=Encoding.PLANES, stored=()),),
    )  # fmt: skip
    learner.weights.publish_manifest(manifest)
    learner.weights.delete_version(manifest)
    assert learner.redis.xlen(learner.keys.weights) == 0


def test_a_broken_heartbeat_is_a_lost_worker(bus):
    bus.redis.set(bus.keys.heartbeat("rollout", "w"), b"garbage")
    bus.redis.zadd(bus.keys.workers, {"rollout/w": 5.0})
    assert bus.overview.workers() == ([], {"rollout/w": 5.0})


@pytest.mark.parametrize("schema", [3, SCHEMA + 1])
def test_a_worker_of_another_build_is_alive_and_what_it_does_is_unknown(bus, schema):
    theirs = [schema, "Heartbeat", ["rollout", "w", 3, "generating", 1.0, 4, 5, 6.0, 0.0]]
    due = bus.now() + 60
    bus.redis.set(bus.keys.heartbeat("rollout", "w"), sealed(msgpack.packb(theirs)))
    bus.redis.zadd(bus.keys.workers, {"rollout/w": due})
    (found,), lost = bus.overview.workers()
    assert (found.role, found.worker, found.doing, lost) == ("rollout", "w", Doing(Activity.UNKNOWN), {})
    assert found.since == found.started == due


def test_a_broken_record_of_measurements_is_passed_over(bus):
    bus.redis.xadd(bus.keys.metrics, {"m": b"\xc1"})
    bus.learner.emit({"role": "rollout"})
    assert [record for _, record in bus.learner.metrics.after("0")] == [{}, {"role": "rollout"}]
    assert [letter["where"] for letter in bus.desk.dead_letters()] == ["metrics"]


def test_a_server_that_lost_everything_gets_its_groups_back(bus):
    bus.redis.delete(bus.keys.prompts)
    assert take(bus) == []
    bus.learner.issue(a_ticket())
    assert len(take(bus)) == 1


def test_what_an_operator_turned_while_the_run_was_gone_stays(bus):
    bus.desk.set_control("paused", "0")
    bus.learner.restore_run("", 1, {"paused": "1", "max_staleness": "2"})
    assert bus.overview.controls() == {"paused": "0", "max_staleness": "2"}


def test_a_heartbeat_lives_as_long_as_it_says(bus, wait_until):
    beat = a_heartbeat(worker="w", version=3, done=1, tokens=2)
    bus.learner.beat(beat, ttl_s=60)
    assert bus.overview.workers() == ([beat], {})
    bus.learner.beat(beat, ttl_s=0.1)
    wait_until(
        lambda: bus.overview.workers()[0] == [] and "rollout/w" in bus.overview.workers()[1], "the heartbeat expires"
    )


def test_an_unreachable_server_is_named_without_its_password():
    with pytest.raises(BrokerError, match=r"no Redis at redis://127.0.0.1:1/0") as caught:
        Connection("redis://user:secret@127.0.0.1:1/0", "r", connect_s=0.5)
    assert "secret" not in str(caught.value)


def test_a_url_that_is_none_is_named():
    with pytest.raises(BrokerError, match="not an address; it begins with no scheme that we know"):
        Connection("http://127.0.0.1", "r")


def test_a_server_that_refuses_is_named(tmp_path):
    from leeway_rl.leeway.running.server import EmbeddedServer

    with EmbeddedServer(tmp_path) as server:
        bus = Roles(Connection(server.url, "r"))
        bus.redis.config_set("requirepass", "x")
        bus.close()
        with pytest.raises(BrokerError, match=r"refuses this user: it asks for a password.*Authentication required"):
            Connection(server.url, "r")


def test_a_server_that_does_not_answer_is_named_and_one_that_is_away_for_a_moment_is_waited_for(tmp_path):
    from leeway_rl.leeway.running.server import EmbeddedServer

    with EmbeddedServer(tmp_path) as server:
        os.kill(pid := server.process.pid, signal.SIGSTOP)
        stopped = f"its process {pid} is on this machine and stopped: kill -CONT {pid}"
        with pytest.raises(BrokerError, match=f"does not answer within 0.3 s: {stopped}"):
            Connection(server.url, "r", connect_s=0.3)
        threading.Timer(1.0, os.kill, (server.process.pid, signal.SIGCONT)).start()
        Connection(server.url, "r", connect_s=0.3, patience_s=60).close()


def test_a_server_out_of_memory_says_so_and_what_it_refused_is_tried_again(tmp_path, wait_until):
    from leeway_rl.leeway.running.server import EmbeddedServer

    with EmbeddedServer(tmp_path) as server:
        bus = Roles(Connection(server.url, "r"))
        bus.learner.ensure_groups()
        assert bus.overview.trouble() == ""
        bus.redis.config_set("maxmemory", 1)
        assert "Redis is out of memory" in bus.overview.trouble()
        more = Roles(Connection(server.url, "r"))
        threading.Timer(1.0, more.redis.config_set, ("maxmemory", 0)).start()
        bus.learner.issue(a_ticket())
        bus.record.set_state(phase="training")
        assert (bus.overview.depths()["prompts"], bus.state()) == (1, {"phase": "training"})
        for each in (bus, more):
            each.close()


def test_what_is_gone_and_what_no_stream_names_are_told_apart(make_bus):
    bus, worker = make_bus("learner"), make_bus("worker")
    bus.learner.issue(*[a_ticket(number) for number in (1, 2, 3, 4)])
    first, second, _ = worker.rollout.take(count=3, block_s=1, lease_s=60)
    worker.rollout.hand_over(first, some_responses(a_ticket(1)))
    worker.on(second.stream).damaged(second, "cut short")
    bus.redis.delete(bus.keys.group("3-1", "ticket"))
    assert bus.learner.astray(["1-1", "2-1", "3-1", "4-1"]) == (["3-1"], ["2-1"])
    assert [(letter["kind"], letter["where"]) for letter in bus.desk.dead_letters()] == [("damaged", "prompts")]
    assert [entry.failed for entry in bus.learner.scored(count=9, block_s=0.05)] == [], (
        "a record alone: nothing is given up"
    )


def test_an_unknown_run_is_named(bus):
    with pytest.raises(BrokerError, match="is not known"):
        bus.desk.load_config()


def test_payloads_are_counted(bus):
    ticket = a_ticket()
    before = bus.connection.bytes_out
    bus.learner.issue(ticket)
    assert bus.connection.bytes_out - before == len(encode(ticket))
