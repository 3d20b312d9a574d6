"""A clock for every group that a worker holds: it limits how long the worker may take. No I/O.

The clock counts the time for which a worker holds the group and renews its lease. It starts anew for every worker that
takes the group. It does not count:

- time in a stream: a ticket that no worker has taken is late because there are too few workers, and issuing it again
  would not help;
- time after a lease ran out: the worker is dead or cut off, and the next one that asks gets the group anyway;
- time before a learner started: it issues again what was live.

Time is the server's. A look adds to each clock the server's time since the look before, but no more than a lease. So a
server whose clock is set, or a learner that was stopped for an hour, makes nobody late.

Generation is the only work without a clock of its own, so its limit can be set (``broker.generation_s``). Grading has
one for every response, in processes that can be killed. Its limit here is the most that a healthy verifier could need,
so it is reached only if the verifier itself hangs.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from .config import Config
from .ground_truth import CODE
from .queue.entries import Lease, WorkStream
from .types import Ticket

LEAST_S, S_PER_TOKEN = 600.0, 0.5
"""``auto``: seconds that are added to those for each token of the longest response that the ticket allows. Two tokens a
second is a tenth of what a 7B model samples on one GPU in a full batch, and less than SmolLM2-135M on two CPU cores."""
LOOK_S = 5.0
"""Most seconds between two looks while nothing is wrong."""
GRADING_ROUNDS = 12
"""Groups that a verifier holds for each of its processes (4) times the tries of a grade (3)."""


def generation_limit_s(config: Config, ticket: Ticket) -> float:
    """Seconds that one worker may take to generate a ticket's group."""
    limit = config.broker.generation_s
    if limit != "auto":
        return limit
    return LEAST_S + S_PER_TOKEN * ticket.max_new_tokens + _environment_s(config, ticket)


def _environment_s(config: Config, ticket: Ticket) -> float:
    """The most seconds that the environments of a group can take: of a reset and all turns in each response by itself.
    Those that are not ``async`` are asked in turn, and the torch engine waits for each."""
    if config.environment is None:
        return 0.0
    return ticket.group_size * (1 + config.environment.max_turns) * config.environment.turn_s


def grading_limit_s(config: Config, ticket: Ticket) -> float:
    """More seconds than a working verifier can take for a ticket's group, even if it holds all that it may hold, every
    response uses its whole time, and every grade is tried as often as possible."""
    verifier = config.verifier
    longest = verifier.code_total_s if ticket.ability == CODE else max(verifier.timeout_s, verifier.code_timeout_s)
    return LEAST_S + GRADING_ROUNDS * ticket.group_size * longest


class Late(NamedTuple):
    """A group that has not come back in time."""

    lease: Lease
    held_s: float


class GroupClocks:
    """The clocks of the groups that workers hold."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._at: float | None = None
        self._held: dict[tuple[str, str, int], Late] = {}

    def look(self, now: float, leases: Iterable[Lease], ticket_of: Callable[[str], Ticket | None]) -> list[Late]:
        """Let the clocks run up to ``now`` (the server's unix time, seconds). Returns the groups whose clocks have run
        out. ``ticket_of`` gives a group's ticket, or None if nobody waits for the group."""
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
        """Who holds a group and for how long, as of the last look; None if nobody does."""
        return next((late for late in self._held.values() if late.lease.group_id == group_id), None)
