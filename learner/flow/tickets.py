"""The book of tickets: which groups are live, and which of them the next training step takes. No I/O, no clock.

The states of a group, and the fields of its record (``LiveGroup``) that each state has::

    state      | ticket | failures | arrival | means
    -----------+--------+----------+---------+-------------------------------------------------------------
    issued     |   x    |   x      |         | on a work stream or with a worker; may be made again from its ticket
    ready      |   x    |   x      |   x     | scored; a step may take it
    trained    |        |          |         | a step has used it; its entry is settled by the next checkpoint
    refunded   |        |          |         | it left untrained, and its place is free again

    issued ──▶ ready ──▶ trained
       └─────────┴─────▶ refunded

A group is live in the first two. ``FOLLOWS`` alone says which state may follow which.

A step takes B groups with a signal. Under ``objective.kl_groups = "all"`` the groups without one are trained too, for
the KL term alone, *beside* these B: such a group gives its place back when it is ready, as a refund would, and goes
into the batch of the next group after it that has a signal. So the bound holds for it as for that group, and batches
have B groups with a signal however many have none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from ...common.config import Overflow, PipelineDepth
from ...common.queue.entries import Awaited, ScoredEntry
from ...common.types import Ticket, Verdict
from .staleness import Stages

if TYPE_CHECKING:
    from ..packing import ScoredGroup


class State(StrEnum):
    """The states of a group."""

    ISSUED = "issued"
    READY = "ready"
    TRAINED = "trained"
    REFUNDED = "refunded"


FOLLOWS: dict[State, tuple[State, ...]] = {
    State.ISSUED: (State.READY, State.REFUNDED),
    State.READY: (State.TRAINED, State.REFUNDED),
    State.TRAINED: (),
    State.REFUNDED: (),
}
"""The states that may follow each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What came back of a group."""

    entry: ScoredEntry
    group: ScoredGroup
    verdicts: tuple[Verdict, ...]


@dataclass(slots=True, eq=False, kw_only=True)
class LiveGroup(Awaited):
    """All that is known of one group, from its issue until it is trained or refunded."""

    stage: int
    state: State = State.ISSUED
    beside: bool = False
    """Whether it holds no place, since it has no signal and is trained beside the groups that have one."""
    asks: str | None = None
    """The id of the prompt that it asked before the learner started again. By default, it draws one."""
    ticket: Ticket = field(init=False, repr=False)
    """The ticket as it was put on the stream. A simulation has none."""
    arrival: Arrival | None = field(default=None, repr=False)

    @property
    def ready(self) -> bool:
        """Whether a step may take it."""
        return self.state is State.READY

    @property
    def arrived(self) -> Arrival:
        """What came back of a group that is ready."""
        assert self.arrival is not None
        return self.arrival

    def become(self, state: State) -> None:
        """Change to ``state``, which must be one that may follow."""
        assert state in FOLLOWS[self.state], f"a group that is {self.state} cannot become {state}"
        self.state = state


@dataclass(slots=True, kw_only=True)
class TicketBook:
    """The live tickets in issue order, and the next number."""

    stages: Stages
    max_staleness: int
    """η. An operator may change it while the run goes on."""
    overflow: Overflow = "wait"
    """Which groups a step takes. An operator may change it too."""
    pipeline_depth: PipelineDepth = "auto"
    """How many groups may be live, beside what the bound allows: a number, or what pacing says. An operator may change
    it too."""
    auto_depth: float = math.inf
    """The depth that pacing gives, in training steps. By default the bound is the only limit."""
    inject_lag: int = 0
    """How many versions old every group shall be when it is trained; 0 sets no age. With a lag, tickets are issued for
    the step under way alone, as at η = 0."""
    paused: bool = False
    """Whether no ticket is issued for now. An operator may change it too."""
    version: int = 0
    """v, the training steps completed."""
    next_ticket: int = 0
    live: dict[int, LiveGroup] = field(default_factory=dict)
    """The live groups by ticket, oldest first."""

    @property
    def stage(self) -> int:
        """The stage of the training step under way."""
        return self.stages.stage_of(min(self.version, self.stages.steps - 1))

    @property
    def groups_per_step(self) -> int:
        """B of the training step under way."""
        return self.stages.groups_per_step[self.stage]

    @property
    def sampled_by(self) -> int:
        """The oldest version that may sample a ticket issued now; with a lag, the only one."""
        return max(0, self.version - self.inject_lag)

    @property
    def depth(self) -> int:
        """How many groups may be live: what the bound or the pipeline depth allows, whichever is fewer."""
        if self.inject_lag > 0:
            return self.groups_per_step
        most = self.stages.taken(self.version, self.max_staleness + 1)
        if self.pipeline_depth == "auto":
            return math.ceil(self.stages.taken(self.version, min(self.auto_depth, self.max_staleness + 1)))
        return min(self.pipeline_depth, int(most))

    def vacancies(self) -> list[int]:
        """The tickets that may be issued now, each by its stage, in order of issue.

        These are the free places under the bound, from the first on, up to the depth. The step under way may always
        have its B groups, whatever else is live. So no depth can stop the learner, and at η = 0, where there are no
        other places, the depth changes nothing.
        """
        if self.paused:
            return []
        held = Counter(ticket.stage for ticket in self.live.values() if not ticket.beside)
        places = self.stages.places(self.version, self.max_staleness)
        free = [stage for stage, count in places.items() for _ in range(count - held[stage])]
        room = max(self.depth - held.total(), self.groups_per_step - held[self.stage])
        return free[: max(0, room)]

    def issue(self, stage: int) -> int:
        """Make the next ticket live in ``stage``, and return its number."""
        number = self.next_ticket
        self.next_ticket += 1
        self.live[number] = LiveGroup(stage=stage)
        return number

    def ready(self, ticket: int, *, beside: bool = False) -> None:
        """Make a group ready, which is scored. ``beside``: it has no signal, and holds no place from now on."""
        self.live[ticket].become(State.READY)
        self.live[ticket].beside = beside

    def refund(self, ticket: int) -> None:
        """Let a group leave untrained."""
        self._drop(ticket, State.REFUNDED)

    def batch(self) -> list[int] | None:
        """The next training step's tickets in order, or None while the learner has to wait. Under ``wait`` they are the
        B oldest live tickets of the stage, once all of them are ready; under the other policies, the B oldest that are
        ready. What is ready among them without a place comes beside."""
        batch, lacking = list[int](), self.groups_per_step
        for number, group in self._of_this_stage():
            if group.ready:
                batch.append(number)
                lacking -= not group.beside
                if not lacking:
                    return batch
            elif self.overflow == "wait":
                return None
        return None

    def waiting_for(self) -> tuple[int, int | None]:
        """How many groups the next batch lacks, and the oldest live ticket that is not ready (None where all are)."""
        own = [(number, group) for number, group in self._of_this_stage() if not group.beside]
        counted = own[: self.groups_per_step] if self.overflow == "wait" else own
        lacking = self.groups_per_step - sum(ticket.ready for _, ticket in counted)
        return max(0, lacking), next((number for number, ticket in own if not ticket.ready), None)

    def trained(self, tickets: list[int]) -> None:
        """Note that one training step has used ``tickets``."""
        assert sum(not self.live[ticket].beside for ticket in tickets) == self.groups_per_step
        for ticket in tickets:
            self._drop(ticket, State.TRAINED)
        self.version += 1

    def _drop(self, ticket: int, state: State) -> None:
        """Remove a group from the live ones, with its record. No other place does."""
        self.live.pop(ticket).become(state)

    def left_behind(self) -> list[int]:
        """Live tickets of stages that have ended, which no step will train."""
        return [number for number, ticket in self.live.items() if ticket.stage < self.stage]

    def _of_this_stage(self) -> Iterator[tuple[int, LiveGroup]]:
        stage = self.stage
        return ((number, ticket) for number, ticket in self.live.items() if ticket.stage == stage)
