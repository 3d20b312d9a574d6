"""Who holds what, what is announced again, and what a worker holds in vain; on a real server."""

import pytest
from leeway_rl.common.queue.entries import HandOver, Unwanted, WorkStream

from tests.samples import a_ticket, some_responses, some_scores


def take(bus, stream=WorkStream.PROMPTS, count=1):
    return bus.on(stream).take(count=count, block_s=0.5, lease_s=60)


@pytest.fixture
def held(make_bus):
    """A learner, a worker, and the job that it holds."""
    learner, worker = make_bus("learner"), make_bus("worker")
    learner.learner.issue(a_ticket())
    return learner, worker, take(worker)[0]


def test_only_what_was_taken_is_held_and_on_both_streams(make_bus):
    learner, worker = make_bus("learner"), make_bus("worker")
    learner.learner.issue(*[a_ticket(number) for number in (1, 2, 3)])
    first, _ = take(worker, count=2)
    worker.rollout.hand_over(first, some_responses(a_ticket(1)))
    take(worker, WorkStream.RESPONSES)
    now, found = learner.learner.leases.held()
    assert abs(now - learner.now()) < 5
    assert {(each.stream, each.group_id, each.worker, each.attempt) for each in found} == {
        ("prompts", "2-1", "worker", 1),
        ("responses", "1-1", "worker", 1),
    }
    assert all(each.silent_s < 5 for each in found)
    learner.redis.delete(learner.keys.prompts, learner.keys.responses)
    assert learner.learner.leases.held()[1] == []


@pytest.mark.parametrize("late", [True, False])
def test_the_same_group_again_goes_to_the_next_and_either_result_counts_once(held, make_bus, late):
    learner, worker, job = held
    (lease,) = learner.learner.leases.held()[1]
    assert learner.learner.leases.announce_again(lease)
    other = make_bus("other")
    (again,) = take(other)
    assert (again.group_id, again.attempt) == (job.group_id, 1)
    assert again.entry_id != job.entry_id
    order = [(worker, job), (other, again)] if late else [(other, again), (worker, job)]
    outcomes = [bus.rollout.hand_over(each, some_responses(a_ticket())) for bus, each in order]
    assert outcomes == [HandOver.HANDED, HandOver.DUPLICATE]
    assert learner.overview.depths() == {"prompts": 0, "responses": 1, "scored": 0, "dead_letters": 0}


def test_what_was_handed_over_in_the_meantime_is_not_announced_again(held):
    learner, worker, job = held
    (lease,) = learner.learner.leases.held()[1]
    worker.rollout.hand_over(job, some_responses(a_ticket()))
    assert not learner.learner.leases.announce_again(lease)
    assert (learner.overview.depths()["prompts"], learner.overview.depths()["responses"]) == (0, 1)


def test_responses_that_are_graded_again_are_not_generated_again(held):
    learner, worker, job = held
    worker.rollout.hand_over(job, some_responses(a_ticket()))
    (grading,) = take(worker, WorkStream.RESPONSES)
    (lease,) = learner.learner.leases.held()[1]
    assert learner.learner.leases.announce_again(lease)
    assert worker.on(grading.stream).unwanted([grading]) == {grading.entry_id: Unwanted.ISSUED_AGAIN}
    (again,) = take(worker, WorkStream.RESPONSES)
    assert worker.verifier.hand_over(again, some_scores(a_ticket())) is HandOver.HANDED
    assert worker.on(grading.stream).unwanted([grading]) == {grading.entry_id: Unwanted.MADE}
    assert learner.overview.depths()["prompts"] == 0


def test_a_worker_learns_what_it_holds_in_vain(held, make_bus):
    learner, worker, job = held
    assert worker.rollout.unwanted([]) == {}
    assert worker.on(job.stream).unwanted([job]) == {}
    learner.learner.leases.announce_again(learner.learner.leases.held()[1][0])
    assert worker.on(job.stream).unwanted([job]) == {job.entry_id: Unwanted.ISSUED_AGAIN}
    other = make_bus("other")
    other.rollout.hand_over(take(other)[0], some_responses(a_ticket()))
    assert worker.on(job.stream).unwanted([job]) == {job.entry_id: Unwanted.MADE}
    learner.learner.withdraw([job.group_id])
    assert worker.on(job.stream).unwanted([job]) == {job.entry_id: Unwanted.REFUNDED}


def test_a_lease_that_passed_to_another_is_still_wanted_from_both(held, make_bus, wait_until):
    _, worker, job = held
    other, taken = make_bus("other"), []
    wait_until(lambda: taken.extend(other.rollout.take(count=1, block_s=0.05, lease_s=0.1)) or taken, "the lease")
    assert worker.on(job.stream).unwanted([job]) == other.rollout.unwanted(taken) == {}


def test_where_redis_came_back_empty_nothing_is_said(held):
    learner, worker, job = held
    learner.redis.delete(learner.keys.prompts, *learner.keys.parts(job.group_id))
    assert worker.on(job.stream).unwanted([job]) == {}
