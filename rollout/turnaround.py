"""What a worker's slots need between two groups: handing the one over, taking the next. ``leeway plan`` asks for it.

A slot generates one group at a time. From the end of a group to the start of the next it encodes, speaks to Redis and
decodes; where it had to wait, for a prompt or for a version, that time says nothing about the worker and is left out.
"""

from __future__ import annotations

import threading
import time


class Turnaround:
    """The tally of all slots of a worker; each slot is a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds, self._count = 0.0, 0

    def add(self, seconds: float) -> None:
        """Count one that took ``seconds``."""
        with self._lock:
            self._seconds += seconds
            self._count += 1

    def taken(self) -> dict[str, float]:
        """What was counted since the last call, as metrics: how many, and the mean in seconds. Empty where none was."""
        with self._lock:
            seconds, count = self._seconds, self._count
            self._seconds, self._count = 0.0, 0
        return {"generation/turnarounds": count, "generation/turnaround_s_mean": seconds / count} if count else {}


class Slot:
    """One slot's last end of a group, as long as the slot has not waited since."""

    def __init__(self, tally: Turnaround) -> None:
        self._tally = tally
        self._ended: float | None = None

    def waits(self) -> None:
        """The slot has nothing to do, or not yet what it needs."""
        self._ended = None

    def begins(self) -> None:
        """Generation begins."""
        if self._ended is not None:
            self._tally.add(time.monotonic() - self._ended)
            self._ended = None

    def ends(self) -> None:
        """Generation has ended."""
        self._ended = time.monotonic()
