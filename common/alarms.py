"""Tells what is wrong with a run when it begins and when it ends. ``diagnosis`` has the rules; this module remembers
what has been told already, for the learner's log and for ``leeway up``."""

import logging
import re
import time
from dataclasses import dataclass
from typing import NamedTuple

from .diagnosis import Movement, Snapshot, diagnose, stall
from .wording import age

ABSENT_S = 30.0
"""Seconds for which nobody may be there to go on before that counts as a stall."""
AGAIN_S = 300.0
"""An alarm that lasts is told again after so many seconds, with its current numbers."""
CALM_S = 60.0
"""An alarm is over when it has not been seen for so many seconds. So one that flickers is told once."""


class Line(NamedTuple):
    """One line to tell."""

    level: int
    """The level, as ``logging`` numbers it."""
    text: str


@dataclass(slots=True)
class _Lasting:
    text: str
    since: float
    seen: float = 0.0
    told: float | None = None

    def due(self, text: str, at: float) -> bool:
        """Note that it is seen again. Returns whether it is to be told now."""
        self.text, self.seen = text, at
        if self.told is not None and at - self.told < AGAIN_S:
            return False
        self.told = at
        return True


class Teller:
    """Takes one snapshot after the other, and says what is new in each."""

    def __init__(self, *, stall_s: float, absent_s: float = ABSENT_S) -> None:
        self._after = {"stall_s": stall_s, "absent_s": min(absent_s, stall_s)}
        self._movement = Movement()
        self._stall: _Lasting | None = None
        self._alarms: dict[str, _Lasting] = {}

    @property
    def stalled(self) -> str | None:
        """Why nothing moves; None if something does."""
        return None if self._stall is None else self._stall.text

    def look(self, now: Snapshot, at: float | None = None) -> list[Line]:
        """The lines to tell: what is new in ``now``, and what is over. ``at`` is in seconds of a clock that never goes
        back."""
        at = time.monotonic() if at is None else at
        return [*self._of_the_stall(now, at), *self._of_the_alarms(diagnose(now).alarms, at)]

    def _of_the_stall(self, now: Snapshot, at: float) -> list[Line]:
        text = stall(now, self._movement.still_s(now), **self._after)
        if text is None:
            ended, self._stall = self._stall is not None, None
            return [Line(logging.INFO, "it moves again")] if ended else []
        self._stall = self._stall or _Lasting(text, at)
        return [Line(logging.ERROR, f"stalled: {text}")] if self._stall.due(text, at) else []

    def _of_the_alarms(self, alarms: list[str], at: float) -> list[Line]:
        lines = []
        for text in alarms:
            if self._alarms.setdefault(_kind(text), _Lasting(text, at)).due(text, at):
                lines.append(Line(logging.ERROR, f"alarm: {text}"))
        for kind, lasting in list(self._alarms.items()):
            if at - lasting.seen >= CALM_S:
                del self._alarms[kind]
                lines.append(Line(logging.INFO, f"over after {age(lasting.seen - lasting.since)}: {lasting.text}"))
        return lines


def _kind(alarm: str) -> str:
    """The alarm's words before its first number, which stay the same for as long as the same thing is wrong. Numbers
    change from look to look, and so do the reasons after them."""
    return re.split(r"\d", alarm, maxsplit=1)[0]
