"""A clock for every group that a worker holds: how long one taking of it may last. No I/O.

What counts is the time for which a worker holds the group and renews its lease, from when it took it, and it counts
anew for every worker that takes it. What does not count:

- waiting on a stream: a ticket that no worker has taken is late because there are too few workers, and issuing it
  again would not help it;
- the time after a lease ran out: the worker is dead or cut off, and the next who asks gets the group anyway;
- the time before a learner started: it issues again what was live.

Time is the server's. A look adds to each clock what has passed by the server since the look before, and no more than a
lease: so a server whose clock is set, or a learner that was stopped for an hour, makes nobody late.

Generation is the only work without a clock of its own, so its limit can be set (``broker.generation_s``). Grading has
one for every response, in processes that are killed; its limit here is what a healthy verifier could need at the very
most, and is reached only where the verifier itself hangs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from .config import Config
from .ground_truth import CODE
from .queue.entries import Lease, WorkStream
from .types import Ticket

LEAST_S, S_PER_TOKEN = 600.0, 0.5
"""``auto``: seconds beside those for each token of the longest response the ticket allows. Two tokens a second is a
tenth of what a 7B model samples on one GPU in a full batch, and below what SmolLM2-135M samples on two CPU cores."""
LOOK_S = 5.0
"""Looks are at most so far apart where nothing is wrong."""
GRADING_ROUNDS = 12
"""Groups that a verifier holds for each of its processes (4), times a grade is tried (3)."""


def generation_limit_s(config: Config, ticket: Ticket) -> float:
    """Seconds that one worker may take for generating a ticket's group."""
    limit = config.broker.generation_s
    return LEAST_S + S_PER_TOKEN * ticket.max_new_tokens if limit == "auto" else limit


def grading_limit_s(config: Config, ticket: Ticket) -> float:
    """Seconds that no verifier that works can take for a ticket's group: all that it may hold, every response with its
    whole time, every grade tried as often as may be."""
    verifier = config.verifier
    longest = verifier.code_total_s if ticket.ability == CODE else max(verifier.timeout_s, verifier.code_timeout_s)
    return LEAST_S + GRADING_ROUNDS * ticket.group_size * longest


class Late(NamedTuple):
    """A group that has not come back."""

    lease: Lease
    held_s: float


class GroupClocks:
    """The clocks of the groups that workers hold."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._at: float | None = None
        self._held: dict[tuple[str, str, int], Late] = {}

    def look(self, now: float, leases: Iterable[Lease], ticket_of: Callable[[str], Ticket | None]) -> list[Late]:
        """Let the clocks run up to ``now`` (server's unix time, seconds); those that have run out. ``ticket_of`` gives
        a group's ticket, or None where nobody waits for the group."""
        lease_s = self._config.broker.lease_s
        passed = 0.0 if self._at is None else min(max(0.0, now - self._at), max(lease_s, LOOK_S))
        before, self._held, self._at = self._held, {}, now
        late = []
        for lease in leases:
            ticket = ticket_of(lease.group_id)
            if ticket is None:
                continue
            key = lease.entry_id, lease.worker, lease.attempt
            held_s = before[key].held_s if key in before else 0.0
            if key in before and lease.silent_s <= lease_s:
                held_s += passed
            self._held[key] = Late(lease, held_s)
            generates = lease.stream is WorkStream.PROMPTS
            if held_s > (generation_limit_s if generates else grading_limit_s)(self._config, ticket):
                late.append(self._held[key])
        return late

    def held(self, group_id: str) -> Late | None:
        """Who holds a group, and for how long, as of the last look."""
        return next((late for late in self._held.values() if late.lease.group_id == group_id), None)
