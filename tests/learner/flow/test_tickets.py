"""The bound holds and nothing is lost, whatever the order in which groups come back."""

import itertools
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from leeway_rl.common.config import Overflow
from leeway_rl.learner.flow.staleness import Stages, check_spans, expired, head_staleness, tokens_past
from leeway_rl.learner.flow.tickets import TicketBook


def one_stage(groups, steps):
    return Stages(starts=(0,), groups_per_step=(groups,), steps=steps)


@pytest.mark.parametrize(
    ("version", "bound", "steps", "expected"),
    [(0, 0, 100, {0: 16}), (5, 1, 100, {0: 32}), (98, 4, 100, {0: 32}), (100, 4, 100, {})],
)
def test_places_are_what_the_bound_and_the_remaining_steps_leave(version, bound, steps, expected):
    assert one_stage(16, steps).places(version, bound) == expected


def test_places_near_a_stages_end_are_shared_with_the_next_stage():
    stages = Stages(starts=(0, 10), groups_per_step=(16, 4), steps=100)
    assert stages.places(7, 2) == {0: 48}
    assert stages.places(8, 2) == {0: 32, 1: 4}
    assert stages.places(9, 2) == {0: 16, 1: 8}
    assert stages.places(10, 2) == {1: 12}


def test_without_issuing_ahead_a_stage_keeps_its_full_depth_to_its_last_step():
    stages = Stages(starts=(0, 10), groups_per_step=(16, 4), steps=100, issue_ahead=False)
    assert stages.places(9, 2) == {0: 48}
    assert stages.places(10, 2) == {1: 12}
    assert stages.places(99, 2) == {1: 4}


def test_vacancies_are_the_places_that_nobody_holds():
    stages = Stages(starts=(0, 2), groups_per_step=(2, 3), steps=9)
    book = TicketBook(stages=stages, max_staleness=1, version=1)
    assert book.vacancies() == [0, 0, 1, 1, 1]
    for stage in (0, 1, 1):
        book.issue(stage)
    assert book.vacancies() == [0, 1]


def test_the_depth_counts_steps_so_that_a_larger_stage_to_come_is_issued_for_in_full():
    stages = Stages(starts=(0, 2), groups_per_step=(2, 6), steps=9)
    book = TicketBook(stages=stages, max_staleness=3, auto_depth=2.5)
    assert (book.depth, book.vacancies()) == (7, [0, 0, 0, 0, 1, 1, 1])
    book.version = 1
    assert (book.depth, book.vacancies()) == (11, [0, 0, *[1] * 9])
    book.auto_depth = 99.0
    assert book.depth == sum(stages.places(1, 3).values())


def test_a_fixed_depth_never_exceeds_the_bound_and_never_withholds_a_batch():
    stages = Stages(starts=(0, 2), groups_per_step=(2, 2), steps=9)
    book = TicketBook(stages=stages, max_staleness=1, version=1, pipeline_depth=3)
    assert book.vacancies() == [0, 0, 1]
    for stage in book.vacancies():
        book.issue(stage)
    book.refund(0)
    book.pipeline_depth = 2
    assert book.vacancies() == [0]  # 2 are live already, but the step under way lacks one
    book.pipeline_depth = 100
    assert (book.depth, book.vacancies()) == (4, [0, 1])


@given(
    depth=st.one_of(st.integers(1, 99), st.floats(0, 9)),
    bound=st.integers(0, 3),
    version=st.integers(0, 8),
    held=st.lists(st.integers(0, 4), min_size=2, max_size=2),
    issue_ahead=st.booleans(),
)
def test_the_depth_takes_from_the_end_of_the_bounds_places_and_at_zero_changes_nothing(
    depth, bound, version, held, issue_ahead
):
    stages = Stages(starts=(0, 5), groups_per_step=(3, 4), steps=9, issue_ahead=issue_ahead)
    book = TicketBook(stages=stages, max_staleness=bound, version=version)
    for stage, count in enumerate(held):
        for _ in range(count):
            book.issue(stage)
    free = book.vacancies()
    if isinstance(depth, int):
        book.pipeline_depth = depth
    else:
        book.auto_depth = depth
    paced = book.vacancies()
    assert paced == free[: len(paced)]
    assert held[book.stage] + paced.count(book.stage) >= min(book.groups_per_step, held[book.stage] + len(free))
    assert bound > 0 or paced == free


class AnyOrder(RuleBasedStateMachine):
    """Random completion orders, refunds, turns of η, depth and policy, and steps, against a book of several stages.

    A ticket's responses take tokens of the version at its issue at the earliest and of the version at its arrival at
    the latest. What the learner does with the batch is done here: what is expired is refunded, under ``mask`` the
    tokens past the bound do not count as trained.
    """

    @initialize(
        bound=st.integers(0, 4),
        lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
        groups=st.lists(st.integers(1, 4), min_size=4, max_size=4),
        issue_ahead=st.booleans(),
        overflow=st.sampled_from(get_args(Overflow)),
    )
    def begin(self, bound, lengths, groups, issue_ahead, overflow):
        starts = tuple(itertools.accumulate([0, *lengths[:-1]]))
        stages = Stages(
            starts=starts, groups_per_step=tuple(groups[: len(starts)]), steps=sum(lengths), issue_ahead=issue_ahead
        )
        self.book = TicketBook(stages=stages, max_staleness=bound, overflow=overflow)
        self.issued_at, self.stage_of, self.spans, self.trained, self.refunded = {}, {}, {}, [], set()
        self.always_wait, self.largest, self.beside = overflow == "wait", {}, set()

    @rule()
    def issue(self):
        for stage in self.book.vacancies():
            ticket = self.book.issue(stage)
            self.issued_at[ticket], self.stage_of[ticket] = self.book.version, stage
            self.largest[ticket] = self.book.max_staleness

    @rule(bound=st.integers(0, 4))
    def turn_the_dial(self, bound):
        self.book.max_staleness = bound
        for ticket in self.book.live:
            self.largest[ticket] = max(self.largest[ticket], bound)

    @rule(depth=st.one_of(st.just("auto"), st.integers(1, 20)), auto_depth=st.floats(0, 6))
    def turn_the_depth(self, depth, auto_depth):
        self.book.pipeline_depth, self.book.auto_depth = depth, auto_depth

    @rule(overflow=st.sampled_from(get_args(Overflow)))
    def turn_the_policy(self, overflow):
        self.book.overflow = overflow
        self.always_wait &= overflow == "wait"

    @precondition(lambda self: any(not live.ready for live in self.book.live.values()))
    @rule(data=st.data())
    def arrive(self, data):
        ticket = data.draw(st.sampled_from([t for t, live in self.book.live.items() if not live.ready]))
        if data.draw(st.booleans()):
            versions = st.integers(self.issued_at[ticket], self.book.version)
            first, last = sorted([data.draw(versions), data.draw(versions)])
            self.spans[ticket] = np.array([[0, first, 0, 3], [0, last, 3, 5]], dtype=np.uint32)
            without_signal = data.draw(st.booleans())
            self.book.ready(ticket, beside=without_signal)
            self.beside |= {ticket} if without_signal else set()
        else:
            self.refund(ticket)

    def refund(self, ticket):
        self.book.refund(ticket)
        self.refunded.add(ticket)

    @precondition(lambda self: self.book.version < self.book.stages.steps and self.book.batch() is not None)
    @rule()
    def step(self):
        book, batch = self.book, self.book.batch()
        rule = {"max_staleness": book.max_staleness, "overflow": book.overflow}
        assert batch == sorted(batch)
        assert {self.stage_of[ticket] for ticket in batch} == {book.stage}
        assert len(set(batch) - self.beside) == book.groups_per_step
        assert batch[-1] not in self.beside
        early = {t for t in self.beside & book.live.keys() if t < batch[-1] and self.stage_of[t] == book.stage}
        assert early <= set(batch), "what holds no place waits for the next group that does, and no longer"
        gone = [ticket for ticket in batch if expired(self.spans[ticket], book.version, **rule)]
        for ticket in gone:
            # Only a dial that was turned down, or a policy under which others overtook it, can have made it too old.
            assert not self.always_wait or self.largest[ticket] > book.max_staleness
            self.refund(ticket)
        if gone:
            return
        for ticket in batch:
            oldest, newest = (book.version - int(version) for version in self.spans[ticket][:, 1])
            past = tokens_past(self.spans[ticket], book.version, max_staleness=book.max_staleness)
            assert past == 3 * (oldest > book.max_staleness) + 2 * (newest > book.max_staleness)
            assert book.overflow in ("mask", "soft") or past == 0
            assert book.overflow != "mask" or past < 5
        self.trained += batch
        book.trained(batch)
        for ticket in book.left_behind():
            ends_empty = book.stages.issue_ahead and self.always_wait
            assert not ends_empty, "a stage that issues no more than it trains ends with nothing live"
            self.refund(ticket)

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
            waiting = any(not live.ready for live in self.book.live.values())
            over = self.book.version == self.book.stages.steps
            assert self.book.vacancies() or self.book.batch() is not None or waiting or over


AnyOrder.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase


@given(order=st.permutations(range(12)), dull=st.sets(st.integers(0, 30), max_size=15))
def test_at_zero_the_batch_is_the_first_survivors_whatever_the_order(order, dull):
    book = TicketBook(stages=one_stage(4, 1), max_staleness=0)
    rank = {ticket: order[ticket % 12] for ticket in range(60)}
    while book.batch() is None:
        for stage in book.vacancies():
            book.issue(stage)
        ticket = min((t for t, live in book.live.items() if not live.ready), key=lambda t: (rank[t], t))
        book.refund(ticket) if ticket in dull else book.ready(ticket)
    assert book.batch() == [ticket for ticket in range(60) if ticket not in dull][:4]


@given(order=st.permutations(range(12)), dull=st.sets(st.integers(0, 30), max_size=15))
def test_at_zero_what_has_no_signal_comes_beside_the_first_that_have_whatever_the_order(order, dull):
    book = TicketBook(stages=one_stage(4, 1), max_staleness=0)
    rank = {ticket: order[ticket % 12] for ticket in range(60)}
    while book.batch() is None:
        for stage in book.vacancies():
            book.issue(stage)
        ticket = min((t for t, live in book.live.items() if not live.ready), key=lambda t: (rank[t], t))
        book.ready(ticket, beside=ticket in dull)
    last = [ticket for ticket in range(60) if ticket not in dull][3]
    assert book.batch() == list(range(last + 1)) == list(book.live)


@pytest.mark.parametrize("overflow", get_args(Overflow))
def test_a_batch_has_its_groups_with_a_signal_and_beside_them_those_without(overflow):
    """Worked by hand: B = 2, η = 1, so four places. Ticket 1 has no signal, so ticket 4 takes its place."""
    book = TicketBook(stages=one_stage(2, 9), max_staleness=1, overflow=overflow)
    for stage in book.vacancies():
        book.issue(stage)
    book.ready(1, beside=True)
    assert book.vacancies() == [0]
    assert book.issue(0) == 4
    book.ready(0)
    assert book.batch() is None
    assert book.waiting_for() == (1, 2)
    book.ready(2)
    assert book.batch() == [0, 1, 2]
    book.trained([0, 1, 2])
    assert (list(book.live), book.vacancies()) == ([3, 4], [0, 0])


def test_head_staleness_is_that_of_the_oldest_token():
    spans = np.array([[0, 5, 0, 3], [0, 6, 3, 9], [1, 4, 0, 2]], dtype=np.uint32)
    assert head_staleness(spans, 7) == 3


GOOD = [[0, 3, 0, 4], [0, 4, 4, 6], [1, 4, 0, 2]]


@pytest.mark.parametrize(
    ("spans", "observed", "complaint"),
    [
        ([[0, 3, 0, 2], [0, 4, 3, 6], [1, 4, 0, 2]], [[0, 2, 3]], None),
        ([[0, 3, 0, 1], [0, 3, 2, 3], [0, 4, 3, 4], [0, 4, 5, 6], [1, 4, 0, 2]], [[0, 1, 2], [0, 4, 5]], None),
        ([[0, 3, 0, 2], [0, 4, 3, 6], [1, 4, 0, 2]], [], "a span 3..6 of response 0 that should start at 2"),
        (GOOD, [[0, 2, 3]], "a span covers observed tokens 2..3 of response 0"),
        (GOOD, [[0, 4, 5]], "a span 4..6 of response 0 that should start at 5"),
        ([[0, 3, 0, 2], [0, 4, 3, 6], [1, 4, 0, 2]], [[1, 2, 3]], "a span 3..6 of response 0 that should start at 2"),
        ([[0, 3, 0, 2], [0, 4, 3, 6], [1, 4, 0, 2]], [[0, 2, 3], [1, 2, 3]], "observed tokens 2..3 of response 1"),
        ([[0, 3, 0, 2], [1, 4, 0, 2]], [[0, 2, 6]], "the spans of response 0 end at token 2 of 6"),
    ],
)
def test_spans_and_observed_tokens_cover_a_response_together(spans, observed, complaint):
    bounds = {"min_version": 3, "newest_version": 4, "observed": np.array(observed, np.uint32).reshape(-1, 3)}
    found = check_spans(np.array(spans, dtype=np.uint32), np.array([6, 2]), **bounds)
    assert found is None if complaint is None else complaint in found


@pytest.mark.parametrize(
    ("spans", "complaint"),
    [
        (GOOD, None),
        ([[0, 3, 0, 4], [1, 4, 0, 2]], "the spans of response 0 end at token 4 of 6"),
        ([[0, 3, 0, 4], [0, 4, 5, 6], [1, 4, 0, 2]], "a span 5..6 of response 0 that should start at 4"),
        ([[0, 4, 0, 4], [0, 3, 4, 6], [1, 4, 0, 2]], "version 3 comes after version 4"),
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
