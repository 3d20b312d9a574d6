"""Which source a ticket draws from, and how many tickets before it drew from there. Pure.

The sources lie side by side on a circle, each as wide as its share. Ticket t stands at c + t·φ, where φ is the golden
section of the circle and c is the run's own, and draws from the source that it stands on. No sequence of steps fills a
circle more evenly, so at any time each source has had its share up to a few tickets. How many tickets a source has had
is a sum of rounded multiples of φ, which takes a number of operations like the number's digits: nothing is replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np

AROUND = 1 << 64
"""Points of the circle."""
STEP = 0x9E3779B97F4A7C15
"""The golden section of the circle, rounded to an odd number: AROUND·(√5 - 1)/2."""


@dataclass(frozen=True)
class Mixture:
    """Shares that hold from one ticket on."""

    shares: tuple[float, ...]
    """Each source's part of the tickets; they add up to 1."""
    seed: int
    """The run's seed."""
    since: int = 0
    """The first ticket."""
    before: tuple[int, ...] = ()
    """How many tickets each source had before ``since``; by default none."""

    def source_of(self, ticket: int) -> int:
        """The source of a ticket, by its place."""
        at = (self._begin + ticket * STEP) % AROUND
        return next(source for source, (_, end) in enumerate(self._arcs) if at < end)

    def count(self, source: int, ticket: int) -> int:
        """How many tickets before ``ticket`` drew from ``source``. A ticket of this source draws its prompt of this
        number."""
        if len(self.shares) == 1:
            return ticket
        counted = self._within(source, ticket) - self._within(source, self.since)
        return counted + (self.before[source] if self.before else 0)

    def going_on(self, shares: Sequence[float], ticket: int) -> Mixture:
        """Other shares from ``ticket`` on. Each source goes on where it was."""
        if tuple(shares) == self.shares:
            return self
        before = tuple(self.count(source, ticket) for source in range(len(shares)))
        return Mixture(tuple(shares), self.seed, ticket, before)

    @cached_property
    def _begin(self) -> int:
        return int(np.random.SeedSequence([self.seed, STEP]).generate_state(1, np.uint64)[0])

    @cached_property
    def _arcs(self) -> list[tuple[int, int]]:
        """Begin and end of each source on the circle."""
        ends = [round(AROUND * min(1.0, end)) for end in accumulate(self.shares)]
        last = max(source for source, share in enumerate(self.shares) if share > 0)
        return list(pairwise([0, *ends[:last], *[AROUND] * (len(ends) - last)]))

    def _within(self, source: int, tickets: int) -> int:
        """How many of the first ``tickets`` points lie on ``source``."""
        begin, end = self._arcs[source]
        return floor_sum(tickets, AROUND, STEP, self._begin - begin) - floor_sum(
            tickets, AROUND, STEP, self._begin - end
        )


def floor_sum(count: int, divisor: int, step: int, begin: int) -> int:
    """Σ ⌊(step·i + begin) / divisor⌋ for i in 0 … count - 1, for a ``step`` of at least 0. It takes as many rounds as
    Euclid's algorithm does."""
    total = 0
    while True:
        total += count * (count - 1) // 2 * (step // divisor) + count * (begin // divisor)
        step, begin = step % divisor, begin % divisor
        last = step * count + begin
        if last < divisor:
            return total
        count, begin = divmod(last, divisor)
        divisor, step = step, divisor
