"""The collector on a real server, with workers made of a few lines: nothing is asked twice, nothing is lost."""

import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from leeway_rl.common.codec import encode
from leeway_rl.common.config import compose
from leeway_rl.common.queue.entries import Unwanted
from leeway_rl.common.service import Service
from leeway_rl.common.types import Responses, Scores, Verdict, VerdictKind
from leeway_rl.evaluation.collector import Collector, rows_of
from leeway_rl.evaluation.responses import ResponseStore

from tests.samples import a_ticket, two_turns

TIMES = {"lease_s": 30.0, "heartbeat_s": 2.0}
CONFIG = compose(["tiny"], ["broker.lease_s=0.5", "broker.generation_s=0.5", "broker.max_attempts=2"])


def text(tokens):
    """A letter a token."""
    return "".join(chr(96 + token) for token in tokens)


def tickets(count):
    return [a_ticket(number, prompt_id=f"p{number}", group_size=2) for number in range(count)]


def responses(ticket, *, version=0):
    """Two responses, ab and c; the second did not end by itself."""
    return Responses(
        group_id=ticket.group_id,
        tokens_T=np.array([1, 2, 3], np.uint32),
        logprobs_T=np.zeros(3, np.float32),
        lengths_S=np.array([2, 1], np.uint32),
        finished_S=np.array([1, 0], np.uint8),
        spans=np.array([[0, version, 0, 1], [0, version + 1, 1, 2], [1, version, 0, 1]], np.uint32),
        worker="w",
        seconds=1.0,
    )


def scores(ticket, graded):
    right, nothing = (
        Verdict(kind=kind, reason=kind.value, seconds=0.0) for kind in (VerdictKind.CORRECT, VerdictKind.NO_ANSWER)
    )
    return Scores(group_id=ticket.group_id, verdicts=(right, nothing), graded=graded.fingerprint, worker="v")


def generate(bus):
    """Do one prompt; whose."""
    (job,) = bus.rollout.take(count=1, block_s=20.0, lease_s=30.0)
    ticket = bus.rollout.ticket(job)
    bus.rollout.hand_over(job, responses(ticket))
    return ticket


def grade(bus):
    """Grade one group."""
    (job,) = bus.verifier.take(count=1, block_s=20.0, lease_s=30.0)
    ticket, found = bus.verifier.responses(job)
    bus.verifier.hand_over(job, scores(ticket, found))


class Collecting:
    """A collector in a thread, as a process would be: it can be left in the middle."""

    def __init__(self, bus, folder, asked):
        self.service = Service(bus.learner, "collector", **TIMES)
        self.collector = Collector(bus.learner, self.service, ResponseStore(folder), text, CONFIG)
        self.outcome = None
        self.thread = threading.Thread(target=self._collect, args=(asked,))
        self.thread.start()

    def _collect(self, asked):
        self.outcome = self.collector.collect(asked)

    def end(self):
        self.thread.join(100)
        assert not self.thread.is_alive()
        return self.outcome


def test_rows_say_what_was_sampled_and_what_it_is_worth():
    ticket = a_ticket(prompt_id="p", group_size=2)
    sampled = responses(ticket, version=4)
    first, second = rows_of(ticket, sampled, scores(ticket, sampled), text)
    assert first == {
        "id": "p",
        "index": 0,
        "response": "ab",
        "tokens": 2,
        "finished": True,
        "verdict": "correct",
        "reason": "correct",
        "version": 4,  # the older of the two
        "reasoning_open": False,
        "reward": 1.0,
        "conversation": None,
    }
    assert (second["response"], second["finished"], second["verdict"]) == ("c", False, "no_answer")


def test_what_the_verifier_failed_on_keeps_its_responses():
    ticket = a_ticket(prompt_id="p", group_size=2)
    rows = rows_of(ticket, responses(ticket), None, text, ungraded="it broke")
    assert [(row["response"], row["verdict"], row["reason"]) for row in rows] == [
        ("ab", "error", "it broke"),
        ("c", "error", "it broke"),
    ]


def test_of_a_conversation_the_last_turn_is_the_response_and_all_of_it_is_kept():
    ticket = a_ticket(prompt_id="p", group_size=2)
    sampled = two_turns(ticket)
    first, second = rows_of(ticket, sampled, scores(ticket, sampled), text)
    assert (first["response"], first["tokens"]) == ("cd", 4)
    assert json.loads(first["conversation"]) == [
        {"by": "policy", "text": "ab"},
        {"by": "environment", "text": "hi"},
        {"by": "policy", "text": "cd"},
    ]
    assert (second["response"], second["tokens"]) == ("ef", 2)
    assert json.loads(second["conversation"]) == [{"by": "policy", "text": "ef"}]
    assert rows_of(ticket, responses(ticket), None, text)[0]["conversation"] is None


def test_every_problem_is_asked_once_and_written(make_bus, tmp_path):
    collecting = Collecting(make_bus("c"), tmp_path, tickets(3))
    worker = make_bus("w")
    asked = [generate(worker).prompt_id for _ in range(3)]
    for _ in range(3):
        grade(worker)
    assert collecting.end() is True
    assert asked == ["p0", "p1", "p2"]
    store = ResponseStore(tmp_path)
    assert store.counts() == {"p0": 2, "p1": 2, "p2": 2}
    assert worker.overview.depths() == {"prompts": 0, "responses": 0, "scored": 0, "dead_letters": 0}
    assert worker.learner.astray(["0-1", "1-1", "2-1"]) == (["0-1", "1-1", "2-1"], [])  # the payloads are forgotten


def test_a_collector_that_follows_a_killed_one_takes_over_what_was_done_and_asks_no_more(make_bus, tmp_path):
    """At the kill p0 is on disk and unacknowledged, p1 was given to the dead collector, p2 is scored, p3 generated."""
    asked, first, worker = tickets(5), make_bus("killed"), make_bus("w")
    first.learner.issue(*asked[:4])
    for _ in range(4):
        generate(worker)
    for _ in range(3):
        grade(worker)
    ResponseStore(tmp_path).append(rows_of(asked[0], responses(asked[0]), scores(asked[0], responses(asked[0])), text))
    assert len(first.learner.scored(count=2, block_s=1.0)) == 2  # leased to it, and it is gone

    collecting = Collecting(make_bus("next"), tmp_path, asked)
    grade(worker)
    assert generate(worker).prompt_id == "p4"
    grade(worker)
    assert collecting.end() is True
    assert ResponseStore(tmp_path).counts() == {f"p{number}": 2 for number in range(5)}
    assert worker.rollout.take(count=9, block_s=0.01, lease_s=0.0) == []  # none was asked again


def test_what_generation_gave_up_on_is_named_and_asked_again_the_next_time(make_bus, tmp_path):
    asked, worker = tickets(1), make_bus("w")
    collecting = Collecting(make_bus("c"), tmp_path, asked)
    (job,) = worker.rollout.take(count=1, block_s=20.0, lease_s=30.0)
    worker.on(job.stream).give_up(job, "generation failed 3 times")
    assert collecting.end() is True
    assert collecting.collector.failed == {"p0": "generation failed 3 times"}
    again = Collecting(make_bus("c2"), tmp_path, asked)
    generate(worker)
    grade(worker)
    assert again.end() is True
    assert again.collector.failed == {}
    assert ResponseStore(tmp_path).counts() == {"p0": 2}


def test_a_group_that_does_not_come_back_is_asked_again_and_then_named(make_bus, tmp_path):
    worker = make_bus("w")
    collecting = Collecting(make_bus("c"), tmp_path, tickets(1))
    for _ in (1, 2):
        (job,) = worker.rollout.take(count=1, block_s=20.0, lease_s=30.0)
        times = {"lease_s": 0.5, "heartbeat_s": 0.1, "drain_s": 3600}  # it would end this process after its drain
        with Service(worker.rollout, "rollout", **times) as service, service.holding(job):
            until = time.monotonic() + 200
            while service.revoked(job) is None and time.monotonic() < until:
                time.sleep(0.05)
            assert service.revoked(job) is Unwanted.ISSUED_AGAIN or collecting.collector.failed
    assert collecting.end() is True
    assert collecting.collector.failed == {"p0": "did not come back within its time: 2 times overdue, lost or damaged"}


def test_asked_to_stop_it_writes_what_it_has(make_bus, tmp_path, wait_until):
    worker = make_bus("w")
    collecting = Collecting(make_bus("c"), tmp_path, tickets(2))
    generate(worker)
    grade(worker)
    wait_until(lambda: collecting.collector.verdicts.total() == 2, "the first group is in")
    collecting.service.stopping.set()
    assert collecting.end() is False
    assert ResponseStore(tmp_path).counts() == {"p0": 2}


def test_a_redis_that_came_back_empty_gets_the_tickets_again(make_bus, tmp_path, wait_until):
    bus, worker, mended = make_bus("c"), make_bus("w"), []
    bus.record.store_config("x")
    service = Service(bus.learner, "collector", **TIMES)

    def mend():
        mended.append(True)
        bus.learner.restore_run("x", 0, {})

    collector = Collector(bus.learner, service, ResponseStore(tmp_path), text, CONFIG, mend=mend)
    thread = threading.Thread(target=collector.collect, args=(tickets(1),))
    thread.start()
    wait_until(lambda: worker.overview.depths()["prompts"] == 1, "the ticket is issued")
    worker.desk.clean()
    wait_until(lambda: mended and worker.learner.astray(["0-1"]) == ([], []), "the ticket is there again")
    generate(worker)
    grade(worker)
    thread.join(100)
    assert ResponseStore(tmp_path).counts() == {"p0": 2}


def test_what_an_earlier_collector_left_and_nobody_can_read_is_asked_again(make_bus, tmp_path):
    (ticket,), worker = tickets(1), make_bus("w")
    worker.learner.issue(ticket)
    (job,) = worker.rollout.take(count=1, block_s=20.0, lease_s=30.0)
    one = replace(responses(ticket), lengths_S=np.array([3], np.uint32), finished_S=np.array([1], np.uint8))
    worker.rollout.hand_over(job, one)  # one response where two were asked for
    grade(worker)
    collecting = Collecting(make_bus("c"), tmp_path, [ticket])
    generate(worker)
    grade(worker)
    assert collecting.end() is True
    assert ResponseStore(tmp_path).counts() == {"p0": 2}


def spoil(worker, body):
    """Generate and grade one group, whose responses are ``body`` by the time that it is scored."""
    ticket = generate(worker)
    (job,) = worker.verifier.take(count=1, block_s=20.0, lease_s=30.0)
    _, found = worker.verifier.responses(job)
    worker.redis.set(worker.keys.group(job.group_id, "responses"), body)
    worker.verifier.hand_over(job, scores(ticket, found))


def test_the_payload_of_another_group_is_refused_and_the_group_made_again(make_bus, tmp_path):
    collecting, worker = Collecting(make_bus("c"), tmp_path, tickets(1)), make_bus("w")
    spoil(worker, encode(responses(a_ticket(1, group_size=2))))
    assert generate(worker).prompt_id == "p0"
    grade(worker)
    assert collecting.end() is True
    assert collecting.collector.failed == {}
    assert ResponseStore(tmp_path).counts() == {"p0": 2}
    (letter,) = worker.desk.dead_letters()
    assert (letter["kind"], letter["where"], letter["g"]) == ("damaged", "scored", "0-1")
    assert letter["reason"] == "Responses: of group 1-1, found under group 0-1"


@pytest.mark.parametrize("body", [b"garbage", b""])
def test_a_damaged_payload_is_made_again_and_what_is_damaged_too_often_is_given_up(make_bus, tmp_path, body):
    collecting, worker = Collecting(make_bus("c"), tmp_path, tickets(2)), make_bus("w")
    spoil(worker, body)
    generate(worker)
    grade(worker)  # p1 is well
    spoil(worker, body)  # p0 again
    assert collecting.end() is True
    assert collecting.collector.failed == {"p0": "lost or damaged on its way 2 times"}
    assert ResponseStore(tmp_path).counts() == {"p1": 2}
    assert worker.learner.astray(["0-1"]) == (["0-1"], []), "nothing of it is left"


def test_a_group_that_no_stream_names_any_more_comes_back_and_counts(make_bus, tmp_path, wait_until):
    collecting, worker = Collecting(make_bus("c"), tmp_path, tickets(2)), make_bus("w")
    for _ in (1, 2):
        wait_until(lambda: lose(worker, "1-1"), "it is on its stream, and is lost")
    generate(worker)
    grade(worker)
    assert collecting.end() is True
    assert collecting.collector.failed == {"p1": "lost or damaged on its way 2 times"}
    assert ResponseStore(tmp_path).counts() == {"p0": 2}


def lose(worker, group_id):
    """Delete the entry of a group from the prompts; whether it was there."""
    found = [
        entry_id for entry_id, fields in worker.redis.xrange(worker.keys.prompts) if fields[b"g"].decode() == group_id
    ]
    return bool(found) and worker.redis.xdel(worker.keys.prompts, *found) == 1
