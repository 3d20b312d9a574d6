"""How long a run's learners may be at work: ``train.hours``."""

import time
from math import inf


class Budget:
    """Counts the seconds that the learners of a run were at work, one start after the other."""

    def __init__(self, hours: float | None, spent_s: float) -> None:
        """``hours``: what may be spent, None for any time. ``spent_s``: what the newest checkpoint says was spent."""
        self._hours, self._began = hours, time.monotonic() - spent_s

    @property
    def spent_s(self) -> float:
        """Seconds spent so far."""
        return time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        """Seconds that are left; without end where any time may be spent."""
        return inf if self._hours is None else max(0.0, 3600 * self._hours - self.spent_s)

    @property
    def over(self) -> bool:
        """Whether all is spent."""
        return self.left_s == 0.0
