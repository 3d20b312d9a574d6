"""Who holds what, what is announced again, and what a worker holds in vain; on a real server."""

import pytest
from leeway_rl.common.leases import Unwanted, announce_again, leases, unwanted
from leeway_rl.common.streams import HandOver, WorkStream

from tests.samples import a_ticket, some_responses, some_scores


def take(bus, stream=WorkStream.PROMPTS, count=1):
    return bus.take(stream, count=count, block_s=0.5, lease_s=60)


@pytest.fixture
def held(make_bus):
    """A learner, a worker, and the job that it holds."""
    learner, worker = make_bus("learner"), make_bus("worker")
    learner.issue(a_ticket())
    return learner, worker, take(worker)[0]


def test_only_what_was_taken_is_held_and_on_both_streams(make_bus):
    learner, worker = make_bus("learner"), make_bus("worker")
    learner.issue(*[a_ticket(number) for number in (1, 2, 3)])
    first, _ = take(worker, count=2)
    worker.hand_over_responses(first, some_responses(a_ticket(1)))
    take(worker, WorkStream.RESPONSES)
    now, found = leases(learner)
    assert abs(now - learner.now()) < 5
    assert {(each.stream, each.group_id, each.worker, each.attempt) for each in found} == {
        ("prompts", "2-1", "worker", 1),
        ("responses", "1-1", "worker", 1),
    }
    assert all(each.silent_s < 5 for each in found)
    learner._redis.delete(learner.keys.prompts, learner.keys.responses)
    assert leases(learner)[1] == []


@pytest.mark.parametrize("late", [True, False])
def test_the_same_group_again_goes_to_the_next_and_either_result_counts_once(held, make_bus, late):
    learner, worker, job = held
    (lease,) = leases(learner)[1]
    assert announce_again(learner, lease)
    other = make_bus("other")
    (again,) = take(other)
    assert (again.group_id, again.attempt) == (job.group_id, 1)
    assert again.entry_id != job.entry_id
    order = [(worker, job), (other, again)] if late else [(other, again), (worker, job)]
    outcomes = [bus.hand_over_responses(each, some_responses(a_ticket())) for bus, each in order]
    assert outcomes == [HandOver.HANDED, HandOver.DUPLICATE]
    assert learner.depths() == {"prompts": 0, "responses": 1, "scored": 0, "dead_letters": 0}


def test_what_was_handed_over_in_the_meantime_is_not_announced_again(held):
    learner, worker, job = held
    (lease,) = leases(learner)[1]
    worker.hand_over_responses(job, some_responses(a_ticket()))
    assert not announce_again(learner, lease)
    assert (learner.depths()["prompts"], learner.depths()["responses"]) == (0, 1)


def test_responses_that_are_graded_again_are_not_generated_again(held):
    learner, worker, job = held
    worker.hand_over_responses(job, some_responses(a_ticket()))
    (grading,) = take(worker, WorkStream.RESPONSES)
    (lease,) = leases(learner)[1]
    assert announce_again(learner, lease)
    assert unwanted(worker, [grading]) == {grading.entry_id: Unwanted.ISSUED_AGAIN}
    (again,) = take(worker, WorkStream.RESPONSES)
    assert worker.hand_over_scores(again, some_scores(a_ticket())) is HandOver.HANDED
    assert unwanted(worker, [grading]) == {grading.entry_id: Unwanted.MADE}
    assert learner.depths()["prompts"] == 0


def test_a_worker_learns_what_it_holds_in_vain(held, make_bus):
    learner, worker, job = held
    assert unwanted(worker, []) == {}
    assert unwanted(worker, [job]) == {}
    announce_again(learner, leases(learner)[1][0])
    assert unwanted(worker, [job]) == {job.entry_id: Unwanted.ISSUED_AGAIN}
    other = make_bus("other")
    other.hand_over_responses(take(other)[0], some_responses(a_ticket()))
    assert unwanted(worker, [job]) == {job.entry_id: Unwanted.MADE}
    learner.withdraw([job.group_id])
    assert unwanted(worker, [job]) == {job.entry_id: Unwanted.REFUNDED}


def test_a_lease_that_passed_to_another_is_still_wanted_from_both(held, make_bus, wait_until):
    _, worker, job = held
    other, taken = make_bus("other"), []
    wait_until(
        lambda: taken.extend(other.take(WorkStream.PROMPTS, count=1, block_s=0.05, lease_s=0.1)) or taken, "the lease"
    )
    assert unwanted(worker, [job]) == unwanted(other, taken) == {}


def test_where_redis_came_back_empty_nothing_is_said(held):
    learner, worker, job = held
    learner._redis.delete(learner.keys.prompts, *learner.keys.parts(job.group_id))
    assert unwanted(worker, [job]) == {}
