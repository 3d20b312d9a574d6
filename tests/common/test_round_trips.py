"""How often each role speaks to Redis for a group, and what comes along when it does; on a real server."""

import threading

import numpy as np
import pytest
from leeway_rl.common.errors import DecodeError
from leeway_rl.common.queue.consumer import LARGE
from leeway_rl.common.queue.entries import HandOver
from redis.connection import AbstractConnection

from tests.samples import a_ticket, some_responses, some_scores

LONG_S = 600.0  # a lease within which nobody looks for silent workers twice


@pytest.fixture
def trips(monkeypatch):
    """What this thread sends to Redis from now on, an item for each round trip, however many commands it has; no health
    checks, which a connection makes that was idle. Threads that other tests have left may still ask a server of theirs.
    """
    sent, send, ours = [], AbstractConnection.send_packed_command, threading.current_thread()

    def counted(self, command, check_health=True):
        packed = command if isinstance(command, bytes) else b"".join(command)
        if threading.current_thread() is ours and not packed.startswith(b"*1\r\n$4\r\nPING"):
            sent.append(packed)
        return send(self, command, check_health)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    return sent


def taken(queue, *, block_s=0.0):
    (job,) = queue.take(count=1, block_s=block_s, lease_s=LONG_S)
    return job


def test_a_group_takes_a_round_trip_at_every_hand_and_one_to_count_its_verdicts(bus, trips):
    def play(tickets):
        """From ticket to settled, each worker with its hands full; how many round trips each role has made."""
        trips.clear()
        for ticket in tickets:
            bus.learner.issue(ticket)
        issued, jobs = len(trips), bus.rollout.take(count=1, block_s=0, lease_s=LONG_S)
        while jobs:
            responses = some_responses(bus.rollout.ticket(jobs[0]))
            outcome, jobs = bus.rollout.hand_over_and_take(jobs[0], responses, lease_s=LONG_S)
            assert outcome is HandOver.HANDED
        generated, jobs = len(trips), bus.verifier.take(count=1, block_s=0, lease_s=LONG_S)
        while jobs:
            scores = some_scores(bus.verifier.responses(jobs[0])[0])
            bus.verifier.tally(scores.verdicts)
            outcome, jobs = bus.verifier.hand_over_and_take(jobs[0], scores, lease_s=LONG_S)
            assert outcome is HandOver.HANDED
        graded, entries = len(trips), bus.learner.scored(count=64, block_s=0.1)
        assert len(bus.learner.scored_payloads([entry.group_id for entry in entries])) == len(tickets)
        bus.learner.settle(entries)
        return issued, generated - issued, graded - generated, len(trips) - graded

    play([a_ticket(100)])  # the scripts travel once, and silent workers are looked for
    # Ten tickets. A take, and ten hand-overs that bring the next group along. The same, and ten tallies. Entries, dead
    # letters, payloads, settling.
    assert play([a_ticket(number) for number in range(10)]) == (10, 1 + 10, 1 + 10 + 10, 4)


def test_many_tickets_go_out_together(bus, trips):
    bus.learner.issue(a_ticket(100))
    trips.clear()
    bus.learner.issue(*[a_ticket(number) for number in range(50)])
    assert len(trips) == 1
    assert bus.overview.depths()["prompts"] == 51


def test_tickets_too_large_for_one_call_go_out_in_order_all_the_same(bus, trips):
    bus.learner.issue(a_ticket(100))
    trips.clear()
    bus.learner.issue(*[a_ticket(number, ground_truth=("x" * 600_000,)) for number in range(5)])
    assert len(trips) == 3, "two at a time"
    jobs = bus.rollout.take(count=9, block_s=0.1, lease_s=LONG_S)
    assert [job.group_id for job in jobs] == ["100-1", *(f"{number}-1" for number in range(5))]


def test_who_waited_reads_what_it_works_from_afterwards(bus, trips):
    bus.learner.issue(a_ticket(1), a_ticket(2))
    taken(bus.rollout)
    trips.clear()
    waited = taken(bus.rollout, block_s=1.0)
    assert (waited.group_id, len(trips)) == ("2-1", 1)
    assert bus.rollout.ticket(waited).ticket == 2
    assert len(trips) == 2


def test_a_large_group_comes_by_itself_once_its_like_has_been_seen(bus, trips):
    tokens = LARGE // 4
    for number in range(3):
        ticket = a_ticket(number)
        many = {"tokens_T": np.ones(tokens, np.uint32), "logprobs_T": np.zeros(tokens, np.float32)}
        bus.learner.issue(ticket)
        bus.rollout.hand_over(taken(bus.rollout), some_responses(ticket, **many))
    counts = []
    for number in range(3):
        trips.clear()
        _, responses = bus.verifier.responses(taken(bus.verifier))
        assert (responses.group_id, len(responses.tokens_T)) == (f"{number}-1", tokens)
        counts.append(len(trips))
    assert counts[1:] == [2, 2]
    bus.learner.issue(a_ticket(3))
    bus.rollout.hand_over(taken(bus.rollout), some_responses(a_ticket(3)))
    bus.verifier.responses(taken(bus.verifier))
    bus.learner.issue(a_ticket(4))
    bus.rollout.hand_over(taken(bus.rollout), some_responses(a_ticket(4)))
    trips.clear()
    bus.verifier.responses(taken(bus.verifier))
    assert len(trips) == 1, "and small ones come along again"


def test_a_take_brings_no_more_than_a_few_large_groups(bus):
    tickets = [a_ticket(number, ground_truth=("x" * 600_000,)) for number in range(5)]
    bus.learner.issue(*tickets)
    jobs = bus.rollout.take(count=5, block_s=0, lease_s=LONG_S)
    assert [job.group_id for job in jobs] == ["0-1", "1-1"]
    assert [bus.rollout.ticket(job).ticket for job in jobs] == [0, 1]


def test_a_job_whose_group_was_refunded_before_it_was_taken_has_nothing_to_work_from(bus):
    bus.learner.issue(a_ticket(1), a_ticket(2))
    bus.learner.withdraw(["1-1"])
    bus.redis.delete(bus.keys.group("2-1", "ticket"))
    bus.redis.hset(bus.keys.group("2-1", "ticket"), "of another", "type")
    jobs = bus.rollout.take(count=2, block_s=0, lease_s=LONG_S)
    assert [bus.rollout.ticket(job) for job in jobs] == [None, None]


def test_a_broken_ticket_that_came_along_says_so(bus):
    bus.learner.issue(a_ticket())
    bus.redis.set(bus.keys.group("7-1", "ticket"), b"\x00garbage")
    with pytest.raises(DecodeError):
        bus.rollout.ticket(taken(bus.rollout))


@pytest.mark.parametrize("fields", [{"x": "1"}, {"g": "7"}, {"g": b"\xff\xfe"}, {"g": "1-1-1"}, {"g": "9" * 40 + "-1"}])
def test_an_entry_that_names_no_group_is_a_dead_letter_where_it_comes_with_a_hand_over_too(bus, fields):
    bus.learner.issue(a_ticket(1))
    bus.redis.xadd(bus.keys.prompts, fields)
    job = taken(bus.rollout)
    assert bus.rollout.hand_over_and_take(job, some_responses(a_ticket(1)), lease_s=LONG_S) == (HandOver.HANDED, [])
    bus.redis.xadd(bus.keys.prompts, fields)
    assert bus.rollout.take(count=1, block_s=0, lease_s=LONG_S) == []
    assert ["names no group" in letter["reason"] for letter in bus.desk.dead_letters()] == [True, True]
    assert bus.overview.depths()["prompts"] == 0


def test_a_hand_over_stands_where_the_stream_to_take_from_is_gone(bus):
    bus.learner.issue(a_ticket(1), a_ticket(2))
    job = taken(bus.rollout)
    bus.redis.delete(bus.keys.prompts)
    assert bus.rollout.hand_over_and_take(job, some_responses(a_ticket(1)), lease_s=LONG_S) == (HandOver.HANDED, [])
    assert bus.rollout.take(count=1, block_s=0, lease_s=LONG_S) == []
    bus.learner.issue(a_ticket(3))
    assert taken(bus.rollout).group_id == "3-1", "the group of consumers was made anew"
    assert taken(bus.verifier).group_id == "1-1"


def test_a_hand_over_that_counts_for_nothing_brings_the_next_group_all_the_same(bus):
    bus.learner.issue(a_ticket(1), a_ticket(2), a_ticket(3))
    first = taken(bus.rollout)
    bus.learner.withdraw(["1-1"])
    outcome, (second,) = bus.rollout.hand_over_and_take(first, some_responses(a_ticket(1)), lease_s=LONG_S)
    assert (outcome, second.group_id, second.attempt) == (HandOver.GONE, "2-1", 1)
    assert bus.rollout.renew([second]) == {second.entry_id}, "it is leased"


def test_who_went_silent_comes_before_new_groups_for_a_worker_with_its_hands_full(make_bus):
    dead, alive = make_bus("dead"), make_bus("alive")
    dead.learner.issue(*[a_ticket(number) for number in range(30)])
    silent, job = taken(dead.rollout), taken(alive.rollout)
    idle = {"idle": 60_000, "justid": True}
    alive.redis.xclaim(alive.keys.prompts, "workers", "dead", 0, [silent.entry_id], **idle)
    alive.rollout.give_back([])  # the next look for silent workers is due
    responses = some_responses(alive.rollout.ticket(job))
    assert alive.rollout.hand_over_and_take(job, responses, lease_s=40.0) == (HandOver.HANDED, [])
    (again,) = alive.rollout.take(count=1, block_s=0, lease_s=40.0)
    assert (job.group_id, again.group_id, again.attempt) == ("1-1", "0-1", 2)
    assert alive.rollout.ticket(again).ticket == 0
