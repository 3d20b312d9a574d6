"""How long the learner waited for a batch, and how much of rollout had nothing to do meanwhile. No I/O and no clock:
times are arguments.

A group is under way from its issue until it comes back graded. Rollout has so many *places*: groups that all its
workers generate side by side. With fewer groups under way than places, the rest of the places are idle: where a quarter
of them is for four seconds, rollout as a whole was idle for one.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cycle:
    """From the end of one training step to the end of the next."""

    seconds: float
    waited_s: float
    """Seconds in which the learner waited for its batch."""
    idle_s: float
    """Seconds for which rollout was idle as a whole."""
    fewest: int
    """The fewest groups that were under way at any time."""


@dataclass(slots=True)
class Idling:
    """Adds up what has passed since the last cycle ended."""

    places: int = 1
    """Groups that all rollout workers generate side by side."""
    _under_way: int = 0
    _fewest: int = 0
    _at: float | None = None
    """Up to when everything is added up; None before anything was seen."""
    _began: float | None = None
    """When the cycle began; None before the first training step has ended."""
    _waits: bool = False
    _waited_s: float = 0.0
    _idle_s: float = 0.0

    def under_way(self, count: int, now: float) -> None:
        """From ``now`` on ``count`` groups are under way."""
        self._add_up(now)
        self._under_way, self._fewest = count, min(self._fewest, count)

    def waits(self, now: float, *, waits: bool) -> None:
        """From ``now`` on the learner waits for a batch, or does not."""
        self._add_up(now)
        self._waits = waits

    def cycle(self, now: float) -> Cycle | None:
        """A training step ends. Returns what the cycle that ends with it was like; None for the first one, in which
        engines start."""
        self._add_up(now)
        ended = None
        if self._began is not None:
            ended = Cycle(max(now - self._began, 1e-6), self._waited_s, self._idle_s, self._fewest)
        self._began, self._waited_s, self._idle_s, self._fewest = now, 0.0, 0.0, self._under_way
        return ended

    def _add_up(self, now: float) -> None:
        passed = now - self._at if self._at is not None else 0.0
        self._waited_s += passed * self._waits
        self._idle_s += passed * max(0.0, 1 - self._under_way / self.places)
        self._at = now
