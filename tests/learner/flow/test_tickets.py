"""The bound holds and nothing is lost, whatever the order in which groups come back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from leeway_rl.learner.flow.staleness import check_spans, head_staleness, room
from leeway_rl.learner.flow.tickets import TicketBook


@pytest.mark.parametrize(
    ("live", "bound", "groups", "left", "expected"),
    [
        (0, 0, 16, 100, 16),
        (16, 0, 16, 100, 0),
        (16, 1, 16, 100, 16),
        (20, 0, 16, 100, 0),
        (0, 4, 16, 2, 32),
        (0, 4, 16, 0, 0),
    ],
)
def test_room_is_what_the_bound_and_the_remaining_steps_leave(live, bound, groups, left, expected):
    assert room(live, max_staleness=bound, groups_per_step=groups, steps_left=left) == expected


class AnyOrder(RuleBasedStateMachine):
    """Random completion orders, refunds and steps against a book with η and B drawn at the start.

    A ticket's tokens come from the version at its issue at the earliest, so the version at issue stands for its
    oldest token: if that one is never staler than η, nothing is.
    """

    @initialize(bound=st.integers(0, 4), groups=st.integers(1, 4), steps=st.integers(1, 12))
    def begin(self, bound, groups, steps):
        self.book = TicketBook(groups_per_step=groups, steps=steps, max_staleness=bound)
        self.issued_at, self.trained, self.refunded = {}, [], set()

    @rule()
    def issue(self):
        while self.book.room() > 0:
            self.issued_at[self.book.issue()] = self.book.version

    @precondition(lambda self: any(not ready for ready in self.book.live.values()))
    @rule(data=st.data())
    def arrive(self, data):
        ticket = data.draw(st.sampled_from([t for t, ready in self.book.live.items() if not ready]))
        if data.draw(st.booleans()):
            self.book.ready(ticket)
        else:
            self.book.refund(ticket)
            self.refunded.add(ticket)

    @precondition(lambda self: self.book.batch() is not None)
    @rule()
    def step(self):
        batch = self.book.batch()
        assert batch == sorted(batch)
        assert batch == list(self.book.live)[: len(batch)]
        for ticket in batch:
            assert self.book.version - self.issued_at[ticket] <= self.book.max_staleness
        self.trained += batch
        self.book.trained(batch)

    @invariant()
    def every_ticket_is_in_exactly_one_place(self):
        if not hasattr(self, "book"):
            return
        live = set(self.book.live)
        assert len(self.trained) == len(set(self.trained))
        assert live | set(self.trained) | self.refunded == set(range(self.book.next_ticket))
        assert not live & set(self.trained)
        assert not live & self.refunded

    @invariant()
    def nothing_deadlocks(self):
        """Either there is room, or a batch, or something that has not come back, or the run is over."""
        if hasattr(self, "book"):
            waiting = any(not ready for ready in self.book.live.values())
            over = self.book.version == self.book.steps
            assert self.book.room() > 0 or self.book.batch() is not None or waiting or over


AnyOrder.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase


@given(order=st.permutations(range(12)), dull=st.sets(st.integers(0, 30), max_size=15))
def test_at_zero_the_batch_is_the_first_survivors_whatever_the_order(order, dull):
    book = TicketBook(groups_per_step=4, steps=1, max_staleness=0)
    rank = {ticket: order[ticket % 12] for ticket in range(60)}
    while book.batch() is None:
        while book.room() > 0:
            book.issue()
        ticket = min((t for t, ready in book.live.items() if not ready), key=lambda t: (rank[t], t))
        book.refund(ticket) if ticket in dull else book.ready(ticket)
    assert book.batch() == [ticket for ticket in range(60) if ticket not in dull][:4]


def test_head_staleness_is_that_of_the_oldest_token():
    spans = np.array([[0, 5, 0, 3], [0, 6, 3, 9], [1, 4, 0, 2]], dtype=np.uint32)
    assert head_staleness(spans, 7) == 3


GOOD = [[0, 3, 0, 4], [0, 4, 4, 6], [1, 4, 0, 2]]


@pytest.mark.parametrize(
    ("spans", "complaint"),
    [
        (GOOD, None),
        ([[0, 3, 0, 4], [1, 4, 0, 2]], "leave response 0 at token 4"),
        ([[0, 3, 0, 4], [0, 4, 5, 6], [1, 4, 0, 2]], "where one from 4 is due"),
        ([[0, 4, 0, 4], [0, 3, 4, 6], [1, 4, 0, 2]], "version 3 after version 4"),
        ([[0, 2, 0, 6], [1, 4, 0, 2]], "outside the possible 3..4"),
        ([[0, 3, 0, 6], [1, 5, 0, 2]], "outside the possible 3..4"),
        ([[0, 3, 0, 6]], "end in response 0"),
        ([[0, 3, 0, 6], [1, 3, 0, 2], [2, 3, 0, 1]], "a span of response 2"),
        ([[0, 3, 0, 6], [1, 3, 0, 1]], "end in response 1 at token 1"),
    ],
)
def test_spans_that_do_not_cover_are_told(spans, complaint):
    found = check_spans(np.array(spans, dtype=np.uint32), np.array([6, 2]), min_version=3, newest_version=4)
    assert found is None if complaint is None else complaint in found
