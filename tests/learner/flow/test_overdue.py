"""A group that does not come back: the same ticket again, its late result counted once, poison in the end."""

from contextlib import ExitStack

import numpy as np
import pytest
from leeway_rl.common.activity import Activity
from leeway_rl.common.diagnosis import diagnose, look
from leeway_rl.common.ledger import read
from leeway_rl.common.queue.entries import HandOver
from leeway_rl.common.service import Service
from leeway_rl.common.wording import words
from leeway_rl.leeway.proving.audit import audit

from tests.samples import some_responses, some_scores

from .test_intake import MIXED, begin, end_step, lease, numbers, play  # noqa: F401

SHORT = ["broker.lease_s=0.5", "broker.generation_s=0.5"]


@pytest.fixture
def hang(make_bus):
    """Hold a ticket as a worker does whose engine hangs: the lease is renewed, and nothing comes."""
    with ExitStack() as stack:

        def hold(worker, number):
            job = lease(worker, number)
            # It would end this process after its drain.
            times = {"lease_s": 0.5, "heartbeat_s": 0.1, "drain_s": 3600}
            service = stack.enter_context(Service(worker.rollout, "rollout", **times))
            stack.enter_context(service.holding(job))
            return job

        yield hold


def overdue(ledger):
    return [line for line in read(ledger.path) if line["event"] == "overdue"]


def late_and_again(worker, first, again, *, late_first):
    """Both hand the group over; what became of each."""
    ticket = worker.rollout.ticket(first)
    older = some_responses(ticket, tokens_T=np.array([9, 9, 9, 9, 9], np.uint32), worker="older")
    newer = some_responses(ticket, worker="newer")
    pairs = [(first, older), (again, newer)] if late_first else [(again, newer), (first, older)]
    return [worker.rollout.hand_over(job, responses) for job, responses in pairs], pairs[0][1]


@pytest.mark.parametrize("late_first", [True, False])
@pytest.mark.parametrize("bound", [0, 1])
def test_the_same_ticket_is_issued_again_and_counts_once(begin, hang, wait_until, late_first, bound):  # noqa: F811
    intake, worker, ledger = begin(*SHORT, f"flow.max_staleness={bound}")
    job = hang(worker, 0)
    wait_until(lambda: intake.counts.overdue == 1, "its clock runs out")
    again = lease(worker, 0)
    assert again.group_id == job.group_id == "0-1", "the same ticket, and nothing else"
    assert again.entry_id != job.entry_id
    outcomes, counted = late_and_again(worker, job, again, late_first=late_first)
    assert outcomes == [HandOver.HANDED, HandOver.DUPLICATE]
    (grading,) = worker.verifier.take(count=1, block_s=2, lease_s=60)
    scores = some_scores(worker.verifier.responses(grading)[0], MIXED)
    object.__setattr__(scores, "graded", counted.fingerprint)
    worker.verifier.hand_over(grading, scores)
    play(worker, 1)
    groups = intake.next_batch(30)
    assert numbers(groups) == [0, 1], "the batch is what it would have been"
    assert groups[0].responses.worker == counted.worker
    end_step(intake, groups)
    intake.stop()
    intake.close_books()
    assert intake.counts.refunds["poison"] == intake.counts.refunds["expired"] == 0
    (line,) = overdue(ledger)
    assert (line["ticket"], line["worker"]) == (0, worker.worker)
    account = audit(ledger.path)
    assert (account.trained, len(account.live)) == (2, 0)


def test_tickets_that_no_worker_takes_are_never_late(begin, wait_until):  # noqa: F811
    intake, worker, ledger = begin(*SHORT)
    wait_until(lambda: worker.overview.depths()["prompts"] == 4, "the first tickets")
    looks = []
    looked = intake.scored.clocks.look
    intake.scored.clocks.look = lambda *words: looks.append(looked(*words)) or looks[-1]
    wait_until(lambda: len(looks) >= 5, "looks for longer than generation may take")
    assert not any(looks)
    assert overdue(ledger) == []


def test_what_never_comes_back_is_poison_and_its_place_is_free(begin, hang, wait_until):  # noqa: F811
    intake, worker, ledger = begin(*SHORT, "broker.max_attempts=2")
    jobs = []
    for times in (1, 2):
        jobs.append(hang(worker, 0))
        wait_until(lambda times=times: intake.counts.overdue == times, "its clock runs out")
    wait_until(lambda: intake.counts.refunds["poison"] == 1 and intake.depth()[0] == 4, "the refund, its place filled")
    assert "did not come back within its time" in intake.counts.poison
    for job in jobs:
        assert worker.rollout.hand_over(job, some_responses(intake_ticket(job))) is HandOver.GONE
    for ticket in (1, 2):
        play(worker, ticket)
    assert numbers(intake.next_batch(30)) == [1, 2]
    assert [line["ticket"] for line in overdue(ledger)] == [0, 0]


def intake_ticket(job):
    from tests.samples import a_ticket

    return a_ticket(int(job.group_id.split("-")[0]))


def test_status_says_who_waits_for_whom(begin, hang, wait_until, monkeypatch):  # noqa: F811
    intake, worker, _ = begin(*SHORT)
    looked, seen = intake.scored.clocks.look, []

    def look_and_note(*words):
        late = looked(*words)
        seen.append(intake.scored.clocks.held("0-1"))
        return late

    intake.scored.clocks.look = look_and_note
    hang(worker, 0)
    wait_until(lambda: any(seen), "the first look since")
    late = next(filter(None, seen))
    with monkeypatch.context() as patch:
        patch.setattr(intake.scored.clocks, "held", lambda group_id: late._replace(held_s=3 * 60))
        doing = intake.waiting_for()
    assert (doing.kind, doing.worker, doing.held_s) == (Activity.WAITING_FOR_GROUPS, worker.worker, 3 * 60)
    assert words(doing) == f"waiting for 2 of 2 groups, ticket 0 the oldest, for 3 min with {worker.worker}"
    wait_until(lambda: intake.counts.overdue_last[0], "its clock runs out")
    said, at = intake.counts.overdue_last
    worker.record.set_state(phase="training", step=0, overdue=1, overdue_last=said, overdue_at=at)
    (alarm,) = diagnose(look(worker.desk)).alarms
    assert alarm.startswith(f"ticket 0 did not come back from {worker.worker} within")
    worker.record.set_state(overdue_at=at - 3600)
    assert diagnose(look(worker.desk)).alarms == [], "an hour later it is no news"
