"""The learner's watch over its run: a thread that looks at the run as ``leeway status`` does, and raises alarms."""

from __future__ import annotations

import logging
import threading

from .alarms import ABSENT_S, Teller
from .diagnosis import Diagnosis, Snapshot, diagnose, look
from .queue.connection import RedisError
from .queue.learner import LearnerQueue

log = logging.getLogger(__name__)

LOOK_S = 5.0


class Watch:
    """Use it as a context. The exporter reads the newest look."""

    def __init__(
        self, queue: LearnerQueue, *, stall_s: float, absent_s: float = ABSENT_S, look_s: float = LOOK_S
    ) -> None:
        self._queue, self._look_s = queue, look_s
        self._teller = Teller(stall_s=stall_s, absent_s=absent_s)
        self.snapshot: Snapshot | None = None
        self.found: Diagnosis | None = None
        self.stalled: str | None = None
        """Why nothing moves; None if something does."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch_loop, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch_loop(self) -> None:
        """Consumes what the roles publish, and produces log lines and the field ``stalled`` of the run's state. If it
        dies with the learner, ``leeway status`` and ``leeway up`` say so."""
        while not self._ended.wait(self._look_s):
            try:
                self._look()
            except RedisError as error:
                log.warning("cannot look at the run: %s", error)

    def _look(self) -> None:
        now = look(self._queue)
        first, before = self.snapshot is None, self.stalled
        for line in self._teller.look(now):
            log.log(line.level, line.text)
        self.stalled, self.found, self.snapshot = self._teller.stalled, diagnose(now), now
        if first or (self.stalled is None) != (before is None):  # first: an earlier learner may have left its word
            self._queue.record.set_state(stalled=self.stalled or "")
