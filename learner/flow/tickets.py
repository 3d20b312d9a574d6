"""The book of tickets: which groups are live, and which of them the next training step takes. No I/O, no clock.

A ticket's life::

    issued ──▶ ready ──▶ trained
       └─────────┴─────▶ refunded (its place is free again)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

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

    def vacancies(self) -> list[int]:
        """The tickets that may be issued now, each by its stage, in order of issue."""
        held = Counter(ticket.stage for ticket in self.live.values())
        places = self.schedule.places(self.version, self.max_staleness)
        return [stage for stage, count in places.items() for _ in range(count - held[stage])]

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
        """The B oldest live tickets of the stage, once all of them are ready; None while the learner has to wait
        (``wait``)."""
        oldest = self._oldest()
        if len(oldest) == self.groups_per_step and all(self.live[ticket].ready for ticket in oldest):
            return oldest
        return None

    def waiting_for(self) -> tuple[int, list[int]]:
        """What keeps the next batch from being whole: how many tickets have yet to be issued, and those that are live
        but not ready."""
        oldest = self._oldest()
        return self.groups_per_step - len(oldest), [ticket for ticket in oldest if not self.live[ticket].ready]

    def trained(self, tickets: list[int]) -> None:
        """One training step has used ``tickets``."""
        assert len(tickets) == self.groups_per_step
        for ticket in tickets:
            del self.live[ticket]
        self.version += 1

    def left_behind(self) -> list[int]:
        """Live tickets of stages that have ended: no step will train them."""
        return [number for number, ticket in self.live.items() if ticket.stage < self.stage]

    def _oldest(self) -> list[int]:
        stage = self.stage
        return list(
            islice((number for number, ticket in self.live.items() if ticket.stage == stage), self.groups_per_step)
        )
