"""The book of tickets: which groups are live, and which of them the next training step takes. No I/O, no clock.

A ticket's life::

    issued ──▶ ready ──▶ trained
       └─────────┴─────▶ refunded (its place is free again)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .staleness import room


@dataclass(slots=True, kw_only=True)
class TicketBook:
    """The live tickets in issue order, and the next number."""

    groups_per_step: int
    """B."""
    steps: int
    """Training steps of the whole run."""
    max_staleness: int
    """η; may be turned while the run goes on."""
    version: int = 0
    """v, training steps completed."""
    next_ticket: int = 0
    live: dict[int, bool] = field(default_factory=dict)
    """Live tickets, oldest first; True once scored and ready to train."""

    def room(self) -> int:
        """Tickets that may be issued now."""
        return room(
            len(self.live),
            max_staleness=self.max_staleness,
            groups_per_step=self.groups_per_step,
            steps_left=self.steps - self.version,
        )

    def issue(self) -> int:
        """The next ticket's number, live from now on."""
        assert self.room() > 0
        number = self.next_ticket
        self.next_ticket += 1
        self.live[number] = False
        return number

    def ready(self, ticket: int) -> None:
        """The group is scored and has a signal."""
        assert ticket in self.live
        self.live[ticket] = True

    def refund(self, ticket: int) -> None:
        """The group leaves untrained."""
        del self.live[ticket]

    def batch(self) -> list[int] | None:
        """The B oldest live tickets, once all of them are ready; None while the learner has to wait (``wait``)."""
        oldest = list(self.live)[: self.groups_per_step]
        if len(oldest) == self.groups_per_step and all(self.live[ticket] for ticket in oldest):
            return oldest
        return None

    def waiting_for(self) -> list[int]:
        """The tickets that keep the next batch from being whole."""
        return [ticket for ticket in list(self.live)[: self.groups_per_step] if not self.live[ticket]]

    def trained(self, tickets: list[int]) -> None:
        """One training step has used ``tickets``."""
        assert len(tickets) == self.groups_per_step
        for ticket in tickets:
            del self.live[ticket]
        self.version += 1
