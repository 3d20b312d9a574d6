"""The book of tickets: which groups are live, and which of them the next training step takes. No I/O, no clock.

A ticket's life::

    issued ──▶ ready ──▶ trained
       └─────────┴─────▶ refunded (its place is free again)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from ...common.config import Overflow, PipelineDepth
from .staleness import Schedule


@dataclass(slots=True)
class Live:
    """A ticket that is neither trained nor refunded."""

    stage: int
    ready: bool = False
    """Scored, with a signal."""


@dataclass(slots=True, kw_only=True)
class TicketBook:
    """The live tickets in issue order, and the next number."""

    schedule: Schedule
    max_staleness: int
    """η; may be turned while the run goes on."""
    overflow: Overflow = "wait"
    """Which groups a step takes; may be turned too."""
    pipeline_depth: PipelineDepth = "auto"
    """How many groups may be live beside the bound: a number, or as pacing says; may be turned too."""
    auto_depth: float = math.inf
    """What pacing says, in training steps. By default no limit but the bound."""
    inject_lag: int = 0
    """How many versions old every group shall be when it is trained; 0: as old as it comes. With a lag, only the step
    under way is issued for, as at η = 0."""
    version: int = 0
    """v, training steps completed."""
    next_ticket: int = 0
    live: dict[int, Live] = field(default_factory=dict)
    """Live tickets, oldest first."""

    @property
    def stage(self) -> int:
        """The stage of the training step under way."""
        return self.schedule.stage_of(min(self.version, self.schedule.steps - 1))

    @property
    def groups_per_step(self) -> int:
        """B of the training step under way."""
        return self.schedule.groups_per_step[self.stage]

    @property
    def sampled_by(self) -> int:
        """The version that samples what is issued now, or the oldest that may."""
        return max(0, self.version - self.inject_lag)

    @property
    def depth(self) -> int:
        """How many groups may be live: the fewer of what the bound and the pipeline depth allow."""
        if self.inject_lag > 0:
            return self.groups_per_step
        most = self.schedule.taken(self.version, self.max_staleness + 1)
        if self.pipeline_depth == "auto":
            return math.ceil(self.schedule.taken(self.version, min(self.auto_depth, self.max_staleness + 1)))
        return min(self.pipeline_depth, int(most))

    def vacancies(self) -> list[int]:
        """The tickets that may be issued now, each by its stage, in order of issue.

        The places of the bound, the first of them up to the depth. The step under way may always have its B groups,
        whatever else is live: so no depth can stop the learner, and at η = 0, where there are no other places, the
        depth changes nothing.
        """
        held = Counter(ticket.stage for ticket in self.live.values())
        places = self.schedule.places(self.version, self.max_staleness)
        free = [stage for stage, count in places.items() for _ in range(count - held[stage])]
        room = max(self.depth - len(self.live), self.groups_per_step - held[self.stage])
        return free[: max(0, room)]

    def issue(self, stage: int) -> int:
        """The next ticket's number, live in ``stage`` from now on."""
        number = self.next_ticket
        self.next_ticket += 1
        self.live[number] = Live(stage)
        return number

    def ready(self, ticket: int) -> None:
        """The group is scored and has a signal."""
        self.live[ticket].ready = True

    def refund(self, ticket: int) -> None:
        """The group leaves untrained."""
        del self.live[ticket]

    def batch(self) -> list[int] | None:
        """The next training step's tickets, in order, or None while the learner has to wait: the B oldest live ones of
        the stage, once all of them are ready (``wait``), or the B oldest of those that are (the other policies)."""
        candidates = (number for number, ticket in self._of_this_stage() if ticket.ready or self.overflow == "wait")
        batch = list(islice(candidates, self.groups_per_step))
        if len(batch) == self.groups_per_step and all(self.live[ticket].ready for ticket in batch):
            return batch
        return None

    def waiting_for(self) -> tuple[int, int | None]:
        """What the next batch lacks: how many groups, and the oldest live one that is not ready."""
        own = list(self._of_this_stage())
        counted = own[: self.groups_per_step] if self.overflow == "wait" else own
        lacking = self.groups_per_step - sum(ticket.ready for _, ticket in counted)
        return max(0, lacking), next((number for number, ticket in own if not ticket.ready), None)

    def trained(self, tickets: list[int]) -> None:
        """One training step has used ``tickets``."""
        assert len(tickets) == self.groups_per_step
        for ticket in tickets:
            del self.live[ticket]
        self.version += 1

    def left_behind(self) -> list[int]:
        """Live tickets of stages that have ended: no step will train them."""
        return [number for number, ticket in self.live.items() if ticket.stage < self.stage]

    def _of_this_stage(self) -> Iterator[tuple[int, Live]]:
        stage = self.stage
        return ((number, ticket) for number, ticket in self.live.items() if ticket.stage == stage)
