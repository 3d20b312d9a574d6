"""The depth is what the docstring's arithmetic says, in numbers worked by hand."""

import json
from itertools import count

import pytest
from leeway_rl.learner.flow.pacing import LATE, STEPS, Pacer, covering


def a_run(latencies, *, busy_s=2.0, batch=4, refunded=0, steps=5):
    """Steps of ``busy_s`` seconds in which groups take ``latencies`` seconds; ``refunded`` more come and go in each."""
    pacer, now, number = Pacer(), 0.0, count()
    pacer.handed([-1], now)
    pacer.asked(now := now + busy_s)
    pacer.steps.clear()
    for _ in range(steps):
        tickets = [next(number) for _ in range(batch + refunded)]
        for ticket, latency in zip(tickets, latencies * len(tickets), strict=False):
            pacer.issued(ticket, now - latency)
            pacer.arrived(ticket, now)
        for ticket in tickets[batch:]:
            pacer.refunded(ticket)
        pacer.handed(tickets[:batch], now)
        pacer.asked(now := now + busy_s)
    return pacer


@pytest.mark.parametrize("overflow", ["wait", "drop", "mask", "soft"])
def test_groups_that_take_less_than_a_step_need_one_batch_made_while_one_trains(overflow):
    assert a_run([1.0]).depth(overflow, 4) == 2.0
    assert a_run([1.9]).depth(overflow, 4) == 2.0


def test_wait_needs_the_slowest_group_of_a_batch():
    assert a_run([1.0, 1.0, 1.0, 5.0]).depth("wait", 4) == 1 + 3  # 2.5 steps, so ready at the third end


def test_the_others_need_a_batch_beside_what_is_under_way():
    pacer = Pacer()

    def step(issued, in_time, late, batch):
        """Until the learner has ``batch``: ``in_time`` arrive before it asks, ``late`` after."""
        for ticket in issued:
            pacer.issued(ticket, 0.0)
        for ticket in in_time:
            pacer.arrived(ticket, 0.0)
        pacer.asked(0.0)
        for ticket in late:
            pacer.arrived(ticket, 0.0)
        pacer.handed(batch, 0.0)

    step(range(8), [], range(8), range(4))  # not measured: the engines start
    step(range(8, 12), [], [], range(4, 8))  # four to train, four under way
    step(range(12, 16), [8, 9], [10, 11], range(8, 12))  # eight live, and it waited for two of them
    step(range(16, 30), range(12, 17), [], range(12, 16))  # 17 to 29 are under way, 16 is ready and could have been not
    step([], range(17, 30), [], range(16, 20))  # nothing is under way: the batch alone
    pacer.asked(1.0)
    assert [4 * measured.needed for measured in pacer.steps] == [0, 8, 10, 4 + 13, 4]
    assert [pacer.depth(overflow, 4) for overflow in ("drop", "mask", "soft")] == [17 / 4] * 3


def test_replacements_of_refunds_are_under_way_too():
    pacer = a_run([1.0], refunded=4)  # a = 1/2, w = 1/2: half a batch of replacements
    assert pacer.depth("wait", 4) == 1 + 1 + 0.5 + 2 * (0.5 / 4) ** 0.5


def test_nothing_measured_is_one_batch_in_training_and_one_being_made():
    pacer = Pacer()
    assert pacer.depth("wait", 4) == 2.0
    for ticket in range(8):
        pacer.issued(ticket, 0.0)
    for ticket in range(8):
        pacer.arrived(ticket, 60.0)  # engines took a minute to start
    for first in (0, 4):
        pacer.handed(list(range(first, first + 4)), 60.0 + first)
        pacer.asked(62.0 + first)
        assert pacer.depth("wait", 4) == 2.0


def test_waiting_does_not_pass_for_a_long_step():
    pacer = a_run([7.0])  # 3.5 steps: without waiting, four batches have to be under way
    assert pacer.depth("wait", 4) == 5


def test_one_late_group_is_forgotten_after_the_window():
    pacer = a_run([1.0])
    slow = a_run([9.0], steps=1).steps[0]
    pacer.steps.append(slow)
    assert pacer.depth("wait", 4) > 2
    pacer.steps.extend(list(a_run([1.0], steps=STEPS).steps))
    assert pacer.depth("wait", 4) == 2


def test_a_stage_that_ends_is_not_taken_for_rejections():
    pacer = a_run([1.0])
    before = pacer.depth("mask", 4)
    pacer.issued(900, 0.0)
    pacer.withdrawn(900)
    pacer.handed([901], 1.0)
    pacer.asked(3.0)
    assert pacer.depth("mask", 4) == before


def test_covering_lets_the_learner_be_late_by_a_hundredth_of_a_step():
    assert covering([0.3, 0.9]) == covering([]) == covering([1.0 + 0.9 * LATE]) == 1
    assert covering([1.0 + 2.1 * LATE, 0.2]) == 2
    assert covering([0.5] * 99 + [3.0]) == 2  # late by 2 steps once in a hundred is too often, by 1 is not


def test_a_checkpoint_keeps_what_was_measured():
    pacer, again = a_run([1.0, 5.0], refunded=2), Pacer()
    again.restore(json.loads(json.dumps(pacer.state())))
    assert again.depth("wait", 4) == pacer.depth("wait", 4)
    assert again.depth("soft", 4) == pacer.depth("soft", 4)
