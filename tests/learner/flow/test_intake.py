"""The learner's hands on real streams: issue, take in, refund, account for everything. The test plays the workers."""

import numpy as np
import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.ledger import Ledger, read
from leeway_rl.common.service import Service
from leeway_rl.common.streams import WorkStream
from leeway_rl.common.types import VerdictKind
from leeway_rl.learner.flow.intake import Intake
from leeway_rl.learner.flow.prompts import Prompt, PromptSource
from leeway_rl.learner.flow.tickets import TicketBook
from leeway_rl.leeway.audit import audit

from tests.samples import some_responses, some_scores

RIGHT, WRONG = VerdictKind.CORRECT, VerdictKind.WRONG
MIXED, DULL = (RIGHT, WRONG), (RIGHT, RIGHT)


@pytest.fixture
def flow(make_bus, tmp_path):
    """An intake with two groups of two a step at bound 1, its worker's bus, and its ledger's path."""
    bus, worker = make_bus("learner"), make_bus("worker")
    config = compose(["tiny"], ["train.groups_per_step=2", "train.group_size=2", "train.steps=3"])
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.write("run", run="r", seed=0, groups_per_step=2, group_size=2, steps=3, max_staleness=1, overflow="wait")
    ledger.write("started", incarnation=1, version=0)
    prompt = Prompt(prompt_id="p:1", tokens_P=np.array([3, 4], np.uint32), ability="math", ground_truth=("4",))
    book = TicketBook(groups_per_step=2, steps=3, max_staleness=1)
    service = Service(bus, "learner", lease_s=5, heartbeat_s=5)
    intake = Intake(bus, service, book, PromptSource([prompt], seed=0), ledger, config, incarnation=1)
    intake.start()
    yield intake, worker, ledger
    intake.stop()
    ledger.close()


def play(worker, wanted, *, kinds=MIXED, version=0, spoil=None):
    """Take tickets off the prompts stream until ``wanted`` is there, and see that one through to the learner."""
    held = play.held.setdefault(worker.run, {})
    while wanted not in held:
        for job in worker.take(WorkStream.PROMPTS, count=8, block_s=2, lease_s=60):
            held[int(job.group_id.split("-")[0])] = job
    job = held.pop(wanted)
    ticket = worker.ticket(job.group_id)
    worker.hand_over_responses(job, some_responses(ticket, version=version))
    (job,) = worker.take(WorkStream.RESPONSES, count=1, block_s=2, lease_s=60)
    if spoil is not None:
        worker._redis.hset(worker.keys.group(job.group_id), "responses", spoil)
    worker.hand_over_scores(job, some_scores(ticket, kinds))


play.held = {}


def numbers(groups):
    return [group.ticket.ticket for group in groups]


def test_a_batch_is_the_oldest_groups_in_ticket_order_whatever_comes_first(flow):
    intake, worker, _ = flow
    for ticket in (3, 1, 2):
        play(worker, ticket)
    assert intake.next_batch(0.3) is None
    assert intake.waiting_for() == "waiting for 1 of 2 groups, ticket 0 the oldest"
    play(worker, 0)
    assert numbers(intake.next_batch(5)) == [0, 1]


def test_a_group_without_a_signal_is_refunded_and_replaced(flow, wait_until):
    intake, worker, _ = flow
    play(worker, 0, kinds=DULL)
    wait_until(lambda: intake.refunds["zero_advantage"] == 1, "the refund")
    for ticket in (1, 4, 2):
        play(worker, ticket)
    assert numbers(intake.next_batch(5)) == [1, 2]
    assert intake.depth()[0] == 4


@pytest.mark.parametrize("spoil", [b"\x93garbage", b"", b"\xc1"])
def test_a_message_that_does_not_decode_is_a_dead_letter_and_work_goes_on(flow, wait_until, spoil):
    intake, worker, _ = flow
    play(worker, 0, spoil=spoil)
    wait_until(lambda: intake.refunds["poison"] == 1, "the refund")
    assert worker.dead_letters()[0]["g"] == "0-1"
    play(worker, 1)
    play(worker, 2)
    assert numbers(intake.next_batch(5)) == [1, 2]


def test_spans_from_an_impossible_version_are_refused(flow, wait_until):
    intake, worker, _ = flow
    play(worker, 0, version=7)
    wait_until(lambda: intake.refunds["poison"] == 1, "the refund")
    assert "version 7 outside the possible 0..1" in worker.dead_letters()[0]["reason"]


def test_a_group_given_up_is_refunded_as_poison(flow, wait_until):
    intake, worker, _ = flow
    job = worker.take(WorkStream.PROMPTS, count=1, block_s=2, lease_s=60)[0]
    worker.give_up(job, "no luck")
    wait_until(lambda: intake.refunds["poison"] == 1, "the refund")


def test_turning_the_dial_down_refunds_what_is_too_old_and_the_books_still_close(flow, wait_until):
    intake, worker, ledger = flow
    for ticket in range(4):
        play(worker, ticket)
    first = intake.next_batch(5)
    worker.set_control("max_staleness", "0")
    wait_until(lambda: intake.book.max_staleness == 0, "the dial")
    intake.trained(first, "0")  # the bound it was checked against was still 1
    assert intake.next_batch(0.3) is None
    assert intake.refunds["expired"] == 2
    for ticket in (4, 5):
        play(worker, ticket, version=1)
    second = intake.next_batch(5)
    assert numbers(second) == [4, 5]
    intake.trained(second, "0")
    for ticket in (6, 7):
        play(worker, ticket, version=2)
    intake.trained(intake.next_batch(5), "0")
    intake.stop()
    intake.close_books()
    account = audit(ledger.path)
    assert (len(account.trained), account.refunded["expired"]) == (6, 2)
    assert [line["name"] for line in read(ledger.path) if line["event"] == "control"] == ["max_staleness"]


def test_what_a_step_reports_counts_the_rejected_groups_too(flow, wait_until):
    intake, worker, _ = flow
    play(worker, 0, kinds=DULL)
    wait_until(lambda: intake.refunds["zero_advantage"] == 1, "the refund")
    for ticket in (1, 2):
        play(worker, ticket)
    generated = intake.trained(intake.next_batch(5), "0")
    assert generated == {"reward/mean": 4 / 6, "generated/groups": 3, "generated/length_mean": 2.5}


def test_only_a_checkpoint_lets_the_payloads_go(flow):
    intake, worker, _ = flow
    for ticket in (0, 1):
        play(worker, ticket)
    intake.trained(intake.next_batch(5), "0")
    assert worker.scored_group("0-1") is not None
    intake.checkpointed()
    assert worker.scored_group("0-1") is None
    assert worker.depths()["scored"] == 0


def test_a_group_of_an_older_incarnation_is_turned_away(flow, wait_until):
    intake, worker, _ = flow
    worker._redis.xadd(worker.keys.scored, {"g": "0-0"})
    wait_until(lambda: intake.orphaned == 1, "the orphan")
    assert worker.depths()["scored"] == 0
