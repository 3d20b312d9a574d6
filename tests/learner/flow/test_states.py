"""A group's states: every pair is tried, and only what the table names may follow."""

from itertools import product

import pytest
from leeway_rl.learner.flow.staleness import Stages
from leeway_rl.learner.flow.tickets import FOLLOWS, LiveGroup, State, TicketBook

ALLOWED = {
    ("issued", "ready"),
    ("issued", "refunded"),
    ("ready", "trained"),
    ("ready", "refunded"),
}
"""Written out by hand: a table that changes by accident is noticed here."""


def a_book(groups=1):
    stages = Stages(starts=(0,), groups_per_step=(groups,), steps=2)
    book = TicketBook(stages=stages, max_staleness=0)
    for _ in range(groups):
        book.issue(0)
    return book


def test_the_table_knows_every_state_and_its_pairs_are_these():
    assert set(FOLLOWS) == set(State)
    assert {(before.value, after.value) for before, states in FOLLOWS.items() for after in states} == ALLOWED


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_a_group_passes_on_where_the_table_has_it_and_nowhere_else(before, after):
    group = LiveGroup(stage=0, state=before)
    if (before, after) in ALLOWED:
        group.become(after)
        assert group.state is after
    else:
        with pytest.raises(AssertionError, match=f"a group that is {before} cannot become {after}"):
            group.become(after)
        assert group.state is before


def test_a_group_that_has_not_come_back_is_not_trained():
    book = a_book(2)
    book.ready(0)
    with pytest.raises(AssertionError, match="a group that is issued cannot become trained"):
        book.trained([0, 1])


def test_a_group_becomes_ready_once():
    book = a_book()
    book.ready(0)
    with pytest.raises(AssertionError, match="a group that is ready cannot become ready"):
        book.ready(0)


@pytest.mark.parametrize("leave", [lambda book: book.trained([0]), lambda book: book.refund(0)])
def test_a_group_that_has_left_leaves_nothing_behind_and_does_not_leave_again(leave):
    book = a_book()
    book.ready(0)
    group = book.live[0]
    leave(book)
    assert book.live == {}
    assert not any(FOLLOWS[group.state]), "its life is over"
    with pytest.raises(KeyError):
        book.refund(0)
