"""Has each checkpoint copied to ``checkpoints.copy_to``, beside the training steps, on rank 0.

::

    checkpoint is whole ──▶ hand (queues) ──▶ a thread ──▶ a process: write, look again, list, remove old ones

All ranks write into one folder, so one process copies what all have written, and nothing is copied twice. It copies one
checkpoint at a time, and the newest that waits is next: while a slow place is behind, those between are left out. A
copy that fails changes nothing of the run. It is said once in the log, stands in the run's state (``leeway status``
shows an alarm), and is tried again.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..common import devices
from ..common.children import leaving_with_parent
from ..common.config import Config
from ..common.elsewhere.address import masked, under
from .copying import HELD, Order, as_text, digests_of, ordered

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often one checkpoint is tried; each file of it is tried a few times in each attempt."""
PAUSE_S = 60.0
"""Seconds between two attempts."""
COMMAND = (sys.executable, "-m", "leeway_rl.learner.copying")
TERM_S = 10.0
"""Seconds that a process has to end when it is asked to."""


class CopyProcess:
    """Copies in a process, one at a time."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command, self._lock, self._ended = list(command), threading.Lock(), False
        self.process: subprocess.Popen[str] | None = None

    def copy(self, order: Order) -> tuple[dict[str, Any] | None, str]:
        """(what the process did, or None; why it did not)."""
        try:
            told = replace(order, digests=digests_of(Path(order.folder) / "checkpoints" / order.checkpoint))
            with self._lock:
                if self._ended:
                    return None, "the learner ends"
                self.process = subprocess.Popen(
                    leaving_with_parent(self._command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=os.environ | {devices.VISIBLE: ""},
                )
            said, wrong = self.process.communicate(as_text(told))
            code = self.process.returncode
            if code == 0:
                return json.loads(said), ""
            lines = [line for line in wrong.splitlines() if line.strip()]
            return None, lines[-1].removeprefix("leeway copy: ") if lines else f"its process ended with code {code}"
        except (OSError, ValueError) as error:
            return None, f"{type(error).__name__}: {error}"

    def end(self) -> None:
        """End the copy under way; no other is begun."""
        with self._lock:
            self._ended = True
            if self.process is not None:
                self.process.terminate()


class Copier:
    """The copies of one run. ``hand`` and ``measured`` are called by the training loop and by the checkpoint's writer,
    and wait for nothing."""

    def __init__(self, config: Config, folder: Path, by: CopyProcess | None = None) -> None:
        """``folder``: the run's. ``config.checkpoints.copy_to`` is set. ``by``: what copies."""
        assert config.checkpoints.copy_to is not None
        self._config, self._folder, self._by = config, folder, by or CopyProcess()
        self._to = under(config.checkpoints.copy_to, folder.name)
        self._changed = threading.Condition()
        self._next: Order | None = None
        self._now: Order | None = None
        self._closed = False
        self._copied, self._seconds, self._failures = -1, 0.0, 0
        self.trouble = ""
        """Why checkpoints are not copied as they should be, for the run's state; empty where they are."""
        self._told_unremoved = False
        for left in folder.glob(f"{HELD}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        self._thread = threading.Thread(target=self._loop, name="copies", daemon=True)
        self._thread.start()

    def hand(self, checkpoint: Path, incarnation: int, ledger_line: int, *, unless_there: bool = False) -> None:
        """Have ``checkpoint`` copied, with the first ``ledger_line`` lines of the ledger. This only queues."""
        order = ordered(self._config, checkpoint, self._to, incarnation, ledger_line, unless_there=unless_there)
        with self._changed:
            skipped = self._next
            self._next = order
            self._changed.notify_all()
        if skipped is not None and skipped.step != order.step:
            self._behind(skipped.step)

    def in_use(self) -> Collection[Path]:
        """The checkpoints that are being copied, or wait for it. They must not be removed yet."""
        with self._changed:
            names = [order.checkpoint for order in (self._now, self._next) if order is not None]
        return [self._folder / "checkpoints" / name for name in names]

    def measured(self) -> dict[str, float]:
        """For the training step's record."""
        return {
            "checkpoint/copied_version": self._copied,
            "checkpoint/copy_s": self._seconds,
            "checkpoint/copies_failed": self._failures,
        }

    def ended(self, timeout_s: float | None) -> bool:
        """Wait for what is being copied and what waits, ``timeout_s`` seconds at most; whether all of it has ended,
        well or not."""
        with self._changed:
            return self._changed.wait_for(lambda: self._now is None and self._next is None, timeout_s)

    def close(self) -> None:
        """End at once. What was under way is no copy, and the next start makes it."""
        with self._changed:
            self._closed, self._next = True, None
            self._changed.notify_all()
        self._by.end()
        self._thread.join(TERM_S)

    def _loop(self) -> None:
        """Consumes orders and produces copies. If it dies here, the next start of the learner orders the newest
        checkpoint again."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next is not None)
                if self._closed:
                    return
                self._now, self._next = self._next, None
            try:
                self._attempt(self._now)
            finally:
                with self._changed:
                    self._now = None
                    self._changed.notify_all()

    def _attempt(self, order: Order | None) -> None:
        assert order is not None
        for number in range(1, ATTEMPTS + 1):
            began = time.monotonic()
            done, why = self._by.copy(order)
            if done is not None:
                self._succeeded(order, done, time.monotonic() - began)
                return
            with self._changed:
                if self._closed:
                    return
            self._failed(order, why)
            with self._changed:
                newer = lambda: self._closed or self._next is not None  # noqa: E731
                if number < ATTEMPTS and self._changed.wait_for(newer, PAUSE_S):
                    return

    def _succeeded(self, order: Order, done: dict[str, Any], seconds: float) -> None:
        if self.trouble:
            log.warning("checkpoints are copied again")
        self._copied, self._seconds, self.trouble = order.step, seconds, ""
        log.info("checkpoint of step %d copied to %s in %.1f s", order.step, masked(self._to), seconds)
        if done["unremoved"] and not self._told_unremoved:
            self._told_unremoved = True
            log.warning("older copies cannot be removed and stay: %s", done["unremoved"])

    def _failed(self, order: Order, why: str) -> None:
        self._failures += 1
        newest = f"the newest copy is of step {self._copied}" if self._copied >= 0 else "there is no copy of this start"
        self._tell(f"checkpoints are not copied to {masked(self._to)}: {masked(why)}; {newest}")

    def _behind(self, skipped: int) -> None:
        self._tell(
            f"checkpoints are made faster than they can be copied to {masked(self._to)}: that of step {skipped} is "
            "left out there; a larger train.checkpoint_every, or a faster place, mends it"
        )

    def _tell(self, trouble: str) -> None:
        """Note the trouble, and log it where there was none before."""
        if not self.trouble:
            log.error("%s", trouble)
        self.trouble = trouble
