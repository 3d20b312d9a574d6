"""The learner's watch over its run: a thread that looks as ``leeway status`` does, and raises the stall alarm."""

from __future__ import annotations

import logging
import threading
import time

from .diagnosis import Diagnosis, Movement, Snapshot, diagnose, look, stall, timeless
from .streams import Bus, RedisError

log = logging.getLogger(__name__)

LOOK_S = 5.0
ABSENT_S = 30.0
"""How long nobody may be there to go on before that is a stall."""
AGAIN_S = 300.0
"""A stall that lasts is logged again after so many seconds."""


class Watch:
    """Use as a context; the newest look is read by the exporter."""

    def __init__(self, bus: Bus, *, stall_s: float, absent_s: float = ABSENT_S, look_s: float = LOOK_S) -> None:
        self._bus, self._look_s = bus, look_s
        self._after = {"stall_s": stall_s, "absent_s": min(absent_s, stall_s)}
        self.snapshot: Snapshot | None = None
        self.found: Diagnosis | None = None
        self.stalled: str | None = None
        """Why nothing moves, where nothing does."""
        self._movement = Movement()
        self._logged_at = 0.0
        self._alarms: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch_loop, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch_loop(self) -> None:
        """Consumes what the roles publish; produces log lines and the word ``stalled`` of the run's state. When it dies
        with the learner, whoever looks from outside says so."""
        while not self._ended.wait(self._look_s):
            try:
                self._look()
            except RedisError as error:
                log.warning("cannot look at the run: %s", error)

    def _look(self) -> None:
        now = look(self._bus)
        first, before = self.snapshot is None, self.stalled
        self.stalled = stall(now, self._movement.still_s(now), **self._after)
        self.snapshot, self.found = now, diagnose(now)
        if self.stalled is not None and (before is None or time.monotonic() - self._logged_at >= AGAIN_S):
            self._logged_at = time.monotonic()
            log.error("stalled: %s", self.stalled)
        if self.stalled is None and before is not None:
            log.info("it moves again")
        if first or (self.stalled is None) != (before is None):  # first: a learner before us may have left its word
            self._bus.set_state(stalled=self.stalled or "")
        for alarm in self.found.alarms:
            if timeless(alarm) not in self._alarms:
                log.error("alarm: %s", alarm)
        self._alarms = {timeless(alarm) for alarm in self.found.alarms}
