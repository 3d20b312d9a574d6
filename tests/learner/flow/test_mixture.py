"""Each source has its share of the tickets, whatever the shares, and nothing is replayed to know a ticket's source."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leeway_rl.learner.flow.mixture import AROUND, STEP, Mixture, floor_sum

AWKWARD = [
    (0.5, 0.5),
    (1 / 3, 1 / 3, 1 / 3),
    (0.001, 0.999),
    (0.013, 0.487, 0.25, 0.25),
    (0.3819660112501051, 0.6180339887498949),  # the step around the circle itself
    (*[1 / 7] * 7,),
    tuple(part / 55 for part in range(1, 11)),
    (0.0, 0.3, 0.0, 0.7, 0.0),
    (1.0, 0.0),
]


def drawn(mixture, tickets):
    return np.bincount([mixture.source_of(ticket) for ticket in tickets], minlength=len(mixture.shares))


@pytest.mark.parametrize("shares", AWKWARD, ids=str)
@pytest.mark.parametrize("begin", [0, 1, 12_345, 10**9])
def test_shares_hold_to_1_percent_over_1000_tickets_from_anywhere(shares, begin):
    for seed in range(5):
        found = drawn(Mixture(shares, seed), range(begin, begin + 1000))
        assert np.abs(found / 1000 - shares).max() < 0.01, (seed, found)


@pytest.mark.parametrize("shares", AWKWARD, ids=str)
def test_a_source_is_never_more_than_a_few_tickets_from_its_share(shares):
    mixture, counts = Mixture(shares, 7), np.zeros(len(shares))
    for ticket in range(2000):
        counts[mixture.source_of(ticket)] += 1
        assert np.abs(counts - (ticket + 1) * np.array(shares)).max() < 5


@settings(deadline=None)
@given(
    shares=st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda shares: sum(shares) > 1e-3),
    seed=st.integers(0, 2**40),
)
def test_the_count_of_a_source_is_the_number_of_tickets_that_drew_from_it(shares, seed):
    mixture = Mixture(tuple(share / sum(shares) for share in shares), seed)
    counts = [0] * len(shares)
    for ticket in range(60):
        assert [mixture.count(source, ticket) for source in range(len(shares))] == counts
        counts[mixture.source_of(ticket)] += 1


def test_a_source_without_a_share_is_never_drawn():
    assert drawn(Mixture((0.0, 1.0, 0.0), 3), range(5000)).tolist() == [0, 5000, 0]


def test_other_shares_go_on_where_each_source_was():
    first = Mixture((0.2, 0.8), 1)
    second = first.going_on((0.9, 0.1), 137)
    assert [second.count(source, 137) for source in (0, 1)] == [first.count(source, 137) for source in (0, 1)]
    numbers = [(first if t < 137 else second) for t in range(400)]
    drawn_by_source = {0: [], 1: []}
    for ticket, mixture in enumerate(numbers):
        source = mixture.source_of(ticket)
        drawn_by_source[source].append(mixture.count(source, ticket))
    assert all(draws == list(range(len(draws))) for draws in drawn_by_source.values())
    assert abs(drawn(second, range(137, 1137))[0] - 900) < 10
    assert second.going_on((0.9, 0.1), 200) is second


def test_runs_mix_differently():
    assert len({tuple(Mixture((0.5, 0.5), seed).source_of(ticket) for ticket in range(30)) for seed in range(9)}) > 4


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 10**6), st.integers(0, 10**6), st.integers(-(10**7), 10**7))
def test_the_sum_of_floors_is_that_of_the_naive_loop(count, divisor, step, begin):
    assert floor_sum(count, divisor, step, begin) == sum((step * i + begin) // divisor for i in range(count))


def test_the_step_is_the_golden_section_of_the_circle():
    assert pytest.approx((5**0.5 - 1) / 2, abs=1e-15) == STEP / AROUND
    assert STEP % 2 == 1
