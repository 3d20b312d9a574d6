"""Measures how long a worker's slots need between two groups, to hand one over and take the next, for ``leeway plan``.

A slot generates one group at a time. From the end of a group to the start of the next it encodes, speaks to Redis and
decodes. Where it had to wait for a prompt or a version, the time says nothing about the worker and is left out.
"""

import threading
import time


class Turnaround:
    """Turnarounds of all slots of a worker. Each slot is a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds, self._count = 0.0, 0

    def add(self, seconds: float) -> None:
        """Count a turnaround of ``seconds``."""
        with self._lock:
            self._seconds += seconds
            self._count += 1

    def taken(self) -> dict[str, float]:
        """The number of turnarounds since the last call, and their mean in seconds, as metrics. Empty where there were
        none."""
        with self._lock:
            seconds, count = self._seconds, self._count
            self._seconds, self._count = 0.0, 0
        return {"generation/turnarounds": count, "generation/turnaround_s_mean": seconds / count} if count else {}


class Slot:
    """When one slot last ended a group, unless it has waited since."""

    def __init__(self, tally: Turnaround) -> None:
        self._tally = tally
        self._ended: float | None = None

    def waits(self) -> None:
        """Note that the slot waits: it has no ticket, or not yet the weights that it needs."""
        self._ended = None

    def begins(self) -> None:
        """Note that generation begins."""
        if self._ended is not None:
            self._tally.add(time.monotonic() - self._ended)
            self._ended = None

    def ends(self) -> None:
        """Note that generation has ended."""
        self._ended = time.monotonic()
