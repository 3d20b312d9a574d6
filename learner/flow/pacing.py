"""How many groups to keep live: the fewest at which the learner does not wait. No I/O and no clock: times are
arguments.

The bound gives places and pacing gives a depth; a ticket is issued while there is room under both. If every place were
filled, data would wait in the queue and grow as old as the bound allows, even where fewer groups keep the learner busy.

``wait``. In training steps (one step is the S seconds from a batch handed to the learner until it asks for the next)::

    depth = 1 + n + u + 2 sqrt(u / B)        u = (1/a - 1) w

``1``       the batch in training: its groups are live until the step ends.
``n``       the steps that a ticket needs from its issue to being ready. Places become free at the ends of steps, so
            tickets are issued there, B at a time, and one that takes L seconds is ready at the ceil(L/S)-th end after.
            By Little's law, B tickets a step that stay n steps are n·B groups. Every group of a batch is needed: n is
            the least whole number by which the slowest group of a batch is late by ``LATE`` of a step on average.
            The learner then waits no longer than that: a batch issued n steps ago is waited for as long as it is late.
``u``       ``a`` is the share of groups that are trained. A refund is replaced at once, 1/a - 1 times for every group
            trained; by Little's law (1/a - 1)·w batches of replacements are under way, where w is the mean of L/S.
``2 sqrt``  how far the number of replacements strays from its mean: no more than a Poisson number's does.

The other policies take any B groups that are ready. If M live groups are still under way when the learner asks, it
does not wait where at least M + B are live. So each batch shows what it needed: as many groups as were live, less
those that were ready beside it, or plus those that it had to wait for. The depth is the most that any of the last
``STEPS`` batches needed. M is measured and not derived from latencies, because groups that share a worker are late
together, and no distribution says how much their number varies.

Under both, with nothing refunded and 0 < L < S the depth is exactly 2: one batch in training, one being made; no queue
can be shorter without waiting. Both are stable: n, a, w and M do not depend on the depth as long as rollout keeps up.
Where it does not, they grow with the depth, and the depth grows to the bound's places. That does no harm: the learner
waits at every depth, and tickets that wait for a worker do not age, since a worker samples from its newest version.

S is the time that the learner is busy. Time spent waiting does not count, or auto would take it for a long step and
accept it.
"""

import math
from collections import deque
from dataclasses import astuple, dataclass, field
from typing import Any

from ...common.config import Overflow
from .idling import Idling

STEPS = 32
"""How many training steps the measurements go back."""
LATE = 0.01
"""Share of a step that the learner may wait on average under ``wait``."""
UNMEASURED = 2.0
"""The depth in steps while nothing is known: one batch in training, one being made."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One training step; latencies are from issue to arrival, in units of this step's busy time."""

    slowest: float
    """The batch's longest latency; 0 where none was measured."""
    needed: float
    """How many groups had to be live so that the learner did not wait for the batch, in batches; 0 where that was not
    measured."""
    arrived: int
    """Groups that came in since the step before, refunded ones included."""
    latencies: float
    """Sum of the latencies of those groups."""
    trained: int
    refunded: int
    """Groups that left untrained since the step before."""


@dataclass(frozen=True, slots=True)
class _Handed:
    """The batch in training."""

    at: float
    groups: int
    slowest_s: float
    needed: float


@dataclass(slots=True)
class Pacer:
    """Measures how long groups take, and says how many training steps' worth of them to keep live."""

    steps: deque[Measured] = field(default_factory=lambda: deque(maxlen=STEPS))
    idling: Idling = field(default_factory=Idling)
    """Is told of what is under way and of the learner's waiting."""
    _live: set[int] = field(default_factory=set)
    """Groups that were neither handed to the learner nor refunded."""
    _ready: set[int] = field(default_factory=set)
    _since_asked: set[int] = field(default_factory=set)
    """Ready groups that arrived after the learner asked for its batch."""
    _issued_at: dict[int, float] = field(default_factory=dict)
    _latency_s: dict[int, float] = field(default_factory=dict)
    """Latencies of the groups that are ready, in seconds."""
    _arrived_s: list[float] = field(default_factory=list)
    """Latencies of the groups that came in since the last step was recorded, in seconds."""
    _refunded: int = 0
    _handed: _Handed | None = None
    _begun: bool = False
    """Whether the learner has had its first batch."""

    def issued(self, ticket: int, now: float) -> None:
        """Note that a ticket is live. Tickets before the first batch are not measured: they wait for engines to start,
        which no depth can hide."""
        self._live.add(ticket)
        if self._begun:
            self._issued_at[ticket] = now
        self.idling.under_way(len(self._live) - len(self._ready), now)

    def arrived(self, ticket: int, now: float) -> None:
        """Note that the group is graded: it will be ready, or refunded."""
        self._ready.add(ticket)
        self._since_asked.add(ticket)
        if ticket in self._issued_at:
            self._latency_s[ticket] = now - self._issued_at.pop(ticket)
            self._arrived_s.append(self._latency_s[ticket])
        self.idling.under_way(len(self._live) - len(self._ready), now)

    def refunded(self, ticket: int) -> None:
        """Note that the group gives its place back without a signal, or leaves untrained, and another takes it."""
        self.withdrawn(ticket)
        self._refunded += 1

    def withdrawn(self, ticket: int) -> None:
        """Note that the group leaves because its stage or the run ends."""
        self._left(ticket)

    def _left(self, ticket: int) -> float:
        """Forget a ticket. Returns its latency in seconds, 0 where it was not measured."""
        for held in (self._live, self._ready, self._since_asked):
            held.discard(ticket)
        self._issued_at.pop(ticket, None)
        return self._latency_s.pop(ticket, 0.0)

    def handed(self, tickets: list[int], now: float) -> None:
        """Note that the learner has its batch."""
        spare = len(self._ready) - len(self._since_asked) - len(tickets)  # below 0 where the learner waited
        needed = (len(self._live) - spare) / len(tickets) if self._begun else 0.0
        self._handed = _Handed(now, len(tickets), max(map(self._left, tickets)), needed)
        self._begun = True
        self.idling.waits(now, waits=False)

    def asked(self, now: float) -> bool:
        """Note that the learner asks for its next batch. Returns whether that ends a step, which the depth then
        counts."""
        if self._handed is None:
            return False
        self.idling.waits(now, waits=True)
        batch, busy_s = self._handed, max(now - self._handed.at, 1e-6)
        latencies = sum(self._arrived_s) / busy_s
        measured = batch.slowest_s / busy_s, batch.needed, len(self._arrived_s), latencies, batch.groups, self._refunded
        self.steps.append(Measured(*measured))
        self._handed, self._arrived_s, self._refunded = None, [], 0
        self._since_asked.clear()
        return True

    def depth(self, overflow: Overflow, groups_per_step: int) -> float:
        """The depth in training steps under an overflow policy; at least 2. ``groups_per_step`` is B."""
        if overflow != "wait":
            return max([UNMEASURED, *(step.needed for step in self.steps)])
        arrived, trained = sum(step.arrived for step in self.steps), sum(step.trained for step in self.steps)
        if not arrived:
            return UNMEASURED
        again = sum(step.refunded for step in self.steps) / trained
        replacements = again * sum(step.latencies for step in self.steps) / arrived
        late = covering([step.slowest for step in self.steps])
        return 1 + late + replacements + 2 * math.sqrt(replacements / groups_per_step)

    def state(self) -> list[list[float]]:
        """What a checkpoint keeps, as JSON. Groups under way are issued again after a resume, and measured anew."""
        return [list(astuple(step)) for step in self.steps]

    def restore(self, state: list[list[Any]]) -> None:
        """Go back to what ``state`` gave."""
        self.steps.extend(Measured(*step) for step in state)


def covering(slowest: list[float]) -> int:
    """The least whole number of steps, at least 1, after which batches with these slowest groups are late by ``LATE``
    of a step on average."""
    steps = 1
    while sum(max(0.0, latency - steps) for latency in slowest) > LATE * len(slowest):
        steps += 1
    return steps
