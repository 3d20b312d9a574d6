"""A seat of the pool: one thread, one grading process that can be killed, one response at a time.

Mathematics can hang where no Python exception reaches: inside one long multiplication, or past a swallowed alarm. Only
killing the process is sure. The worst that an answer can do is to use up its clock and cost one child.
"""

import json
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeAlias

from ..common.types import Verdict, VerdictKind
from ..common.user_code import processes
from ..common.user_code.processes import Lost, Seat, ending
from .retry import until_graded

OVERTIME_S = 1.0
"""Seconds after which a mathematical response gives its turn away and goes on beside the others."""

STARVED_SHARE = 0.2
"""A process that had less than this share of its clock on a processor did not overrun it: the machine is too busy, or
stopped it."""

_ITS_OWN_FAULT = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})
"""Signals by which a response can kill its process from within. Others come from outside."""

START_S = 60.0
"""Seconds that a child may take to be ready: an import of about a second, on a machine that may be very busy."""

Tasks: TypeAlias = "queue.SimpleQueue[tuple[bytes, bool, Future[Verdict]] | None]"
"""What callers hand to the seats: a request line, whether it may run overtime, and the future of its verdict. None ends
one seat."""


class _Starved(Exception):
    """The clock ran out, but not by the response's work: the machine is busy, or the child was stopped."""


class Child(processes.Child):
    """A grading process and our end of its socket."""

    module = f"{__package__}.grading_child"
    _ready = False

    def wait_ready(self) -> None:
        """Return once the child has imported all that it needs, so that no response's clock runs during the import."""
        if not self._ready:
            self._link.settimeout(START_S)
            if self._replies.readline() != b"ready\n":
                raise Lost
            self._ready = True

    def ask(self, line: bytes, timeout_s: float, overtime: Callable[[], None]) -> tuple[Verdict, bool]:
        """The child's verdict, and whether it was its last. ``overtime`` is called once grading takes long.

        Raises ``TimeoutError`` when the clock runs out, or ``_Starved`` if the child hardly got the processor
        meanwhile.
        """
        started = time.monotonic()
        ran_before_s = self._cpu_s()
        self._link.settimeout(timeout_s)
        self._link.sendall(line)
        if not select.select([self._link], [], [], min(OVERTIME_S, timeout_s))[0]:
            overtime()
        self._link.settimeout(max(started + timeout_s - time.monotonic(), 0.001))
        try:
            reply = self._replies.readline()
        except TimeoutError:
            ran_s = self._cpu_s() - ran_before_s
            if ran_s < STARVED_SHARE * timeout_s and sys.platform == "linux":
                raise _Starved(f"the grading process had the processor for {ran_s:.1f} of {timeout_s:g} s") from None
            raise
        if not reply:
            raise Lost
        fields = json.loads(reply)
        seconds = time.monotonic() - started
        kind, peak_bytes = VerdictKind(fields["kind"]), fields["peak_bytes"]
        return Verdict(kind=kind, reason=fields["reason"], seconds=seconds, peak_bytes=peak_bytes), fields["last"]

    def _cpu_s(self) -> float:
        """Processor time of the child so far, in seconds; 0 if the system does not say."""
        try:
            with open(f"/proc/{self.pid}/schedstat", "rb") as schedstat:
                return int(schedstat.read().split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0


class ProcessSeat(Seat[Child]):
    """Keeps one grading process at work."""

    def __init__(
        self,
        tasks: Tasks,
        closed: threading.Event,
        turns: threading.Semaphore,
        timeout_s: float,
        memory_bytes: int,
        *,
        attempts: int,
        warm: bool,
    ) -> None:
        super().__init__("grader-seat")
        self._tasks = tasks
        self._closed = closed
        self._turns = turns
        self._warm = warm
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._attempts = attempts
        self._has_turn = warm

    def run(self) -> None:
        """Serve until the pool closes. A warm seat starts a child at once, a spare one when it is first needed."""
        if self._warm:
            self._prepare()
        while True:
            if not self._has_turn:  # a spare seat, or one that gave its turn away
                self._turns.acquire()
                self._has_turn = True
            task = self._tasks.get()
            if task is None:
                break
            line, may_run_over, future = task
            try:
                future.set_result(self._grade(line, may_run_over))
            except Exception as error:  # the per-item boundary: a defect here must not leave the caller waiting
                future.set_exception(error)
            if self._has_turn:
                self._prepare()
        self._give_turn()
        self._discard()

    def _give_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._turns.release()

    def _grade(self, line: bytes, may_run_over: bool) -> Verdict:
        """The verdict. If two children die from within on one answer, the answer itself is at fault."""
        deaths = 0

        def attempt() -> Verdict:
            nonlocal deaths
            verdict, died = self._attempt(line, self._give_turn if may_run_over else _stay)
            deaths += died in _ITS_OWN_FAULT
            if deaths < 2:
                return verdict
            reason = f"grading it crashes the grading process (signal {died})"
            return replace(verdict, kind=VerdictKind.TIMEOUT, reason=reason)

        return until_graded(attempt, self._attempts, self._closed)

    def _attempt(self, line: bytes, overtime: Callable[[], None]) -> tuple[Verdict, int]:
        """(verdict, signal that ended the child or 0) of one try. A child that did not answer is gone afterwards."""
        self._prepare()
        child = self._child
        if child is None:
            return _failure("no grading process: the pool is closed or cannot start one"), 0
        try:
            child.wait_ready()
        except (Lost, OSError):
            return _failure(f"the grading process did not start: {ending(self._discard())}"), 0
        started = time.monotonic()
        try:
            verdict, last = child.ask(line, self._timeout_s, overtime)
        except TimeoutError:
            peak_bytes = child.peak_bytes()
            self._discard()
            reason = f"killed after {self._timeout_s:g} s"
            spent_s = time.monotonic() - started
            return Verdict(kind=VerdictKind.TIMEOUT, reason=reason, seconds=spent_s, peak_bytes=peak_bytes), 0
        except _Starved as error:
            self._discard()
            return _failure(str(error), started), 0
        except (Lost, OSError, ValueError, KeyError):
            code = self._discard()
            return _failure(f"the grading process was lost: {ending(code)}", started), max(-code, 0)
        if last:
            self._discard()
        return verdict, 0

    def _prepare(self) -> None:
        """Make sure that a child is running or starting. There is none if the pool is closed, or if it cannot start."""
        with self._child_lock:
            if self._child is None and not self._closed.is_set():
                try:
                    self._child = Child(self._memory_bytes)
                except OSError:
                    self._child = None  # out of processes or memory: this try reports it, the next one starts one


def _stay() -> None:
    """The ``overtime`` of a response that may not run over: it keeps its turn."""


def _failure(reason: str, started: float | None = None) -> Verdict:
    seconds = 0.0 if started is None else time.monotonic() - started
    return Verdict(kind=VerdictKind.ERROR, reason=reason, seconds=seconds)
