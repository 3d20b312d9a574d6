"""Grades groups of responses in child processes that can be killed.

Mathematics can hang where no Python exception reaches: inside one long multiplication, or past a swallowed alarm.
Only killing the process is sure. So whatever a quick grader does not settle at once runs in a warm child with its own
socket, clock and memory limit, and the worst an answer can do is to cost its clock and one child.

One thread for each child, which starts it, hands it one response at a time, and replaces it. Nothing is shared between
children, so the death of one, at any moment, is felt by one response. There are twice as many seats as jobs, and a turn
a job: a seat whose response takes long gives its turn to a spare one, so that slow responses do not hold up the others.

Code has seats of its own, started with the first code item: threads that run solutions in sandboxes (``code_answer``)
and need no child between.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import TypeAlias

from ..common.config import Verifier
from ..common.types import Verdict, VerdictKind
from .code_answer import CodeGrader
from .graders import CODE, QUICK_GRADERS, grader_for

GIB = 1 << 30

OVERTIME_S = 1.0
"""A mathematical response that takes longer gives its turn away and goes on beside the others."""

STARVED_SHARE = 0.2
"""A process that had less of its clock on a processor did not overrun it: the machine is too busy, or stopped it."""

_ITS_OWN_FAULT = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})
"""Deaths that a response can bring about from within; the others come from outside."""

_START_S = 60.0
"""How long a child may take until it is ready: an import of about a second, on a machine that may be very busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeItem:
    """One response to grade."""

    ability: str
    """Which grader judges it."""
    response: str
    """The decoded response, without the prompt."""
    golds: tuple[str, ...]
    """Right answers, as alternatives; for code one JSON text, the tests."""
    finished: bool
    """Whether the response ended by an end token rather than by truncation."""
    reasoning_open: bool = False
    """Whether the prompt ended inside ``<think>``, so that the response begins in the middle of its reasoning."""


_Tasks: TypeAlias = "queue.SimpleQueue[tuple[bytes, bool, Future[Verdict]] | None]"
"""What callers hand to the seats: a request line, whether it may run overtime, and where its verdict goes. None ends
one seat."""


_CodeTasks: TypeAlias = "queue.SimpleQueue[tuple[GradeItem, Future[Verdict]] | None]"


class GraderPool:
    """``jobs`` grading processes, and as many sandboxes where there is code to grade. Safe to use from several threads;
    close it, or use it as a context manager. ``code`` has the limits of solutions."""

    def __init__(
        self, jobs: int, timeout_s: float = 10.0, memory_bytes: int | None = 2 * GIB, code: Verifier | None = None
    ) -> None:
        if jobs < 1:
            raise ValueError(f"a pool needs at least one job, not {jobs}")
        self._tasks: _Tasks = queue.SimpleQueue()
        self._closed = threading.Event()
        self._submitting = threading.Lock()  # nothing may be queued behind the end marks
        turns = threading.Semaphore(0)  # the warm seats begin with one each
        self._seats = [
            _Seat(self._tasks, self._closed, turns, timeout_s, memory_bytes or 0, warm=number < jobs)
            for number in range(2 * jobs)
        ]
        for seat in self._seats:
            seat.start()
        self._jobs, self._code = jobs, code or Verifier()
        self._code_tasks: _CodeTasks = queue.SimpleQueue()
        self._code_seats: list[_CodeSeat] = []

    def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """A verdict for each item, in order. All are submitted at once; each has its own clock, from its own start.

        An overrun by a child that had the processor is ``timeout``. A lost child, a starved one or a failure in our
        code is tried once more, then it is ``error``.
        """
        for ability in {item.ability for item in items} - {CODE}:
            grader_for(ability)  # an unknown one is the caller's mistake, not a verdict
        return [future.result() for future in [self.submit(item) for item in items]]

    def submit(self, item: GradeItem) -> Future[Verdict]:
        """Where the item's verdict will be; it is there already where a quick grader settles it.

        Raises ``ConfigError`` for an unknown ability, and for code where solutions cannot be isolated.
        """
        future: Future[Verdict] = Future()
        if item.ability == CODE:
            self._start_code_seats()
            with self._submitting:
                self._refuse_closed()
                self._code_tasks.put((item, future))
            return future
        grader_for(item.ability)
        verdict = _quick_verdict(item)
        if verdict is not None:
            future.set_result(verdict)
            return future
        line = json.dumps(asdict(item)).encode() + b"\n"
        with self._submitting:
            self._refuse_closed()
            self._tasks.put((line, item.ability == "math", future))
        return future

    def _refuse_closed(self) -> None:
        if self._closed.is_set():
            raise ValueError("the grader pool is closed")

    def _start_code_seats(self) -> None:
        """Once. Waits for the first sandbox, because where there can be none the caller must hear of it."""
        with self._submitting:
            if not self._code_seats and not self._closed.is_set():
                self._code_seats = [_CodeSeat(self._code_tasks, self._code) for _ in range(self._jobs)]
                for seat in self._code_seats:
                    seat.start()
        for seat in self._code_seats[:1]:
            seat.ready.result()

    def close(self) -> None:
        """Kill the children and wait until they are gone. What is still being graded ends as ``error``."""
        with self._submitting:
            self._closed.set()
            for _ in self._seats:
                self._tasks.put(None)
            for _ in self._code_seats:
                self._code_tasks.put(None)
        seats: list[_Seat | _CodeSeat] = [*self._seats, *self._code_seats]
        for seat in seats:
            seat.kill()
        for seat in seats:
            seat.join()

    def pids(self) -> list[int]:
        """Process ids of the children that grade mathematics, alive now."""
        return [pid for seat in self._seats if (pid := seat.pid) is not None]

    def __enter__(self) -> GraderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _quick_verdict(item: GradeItem) -> Verdict | None:
    quickly = QUICK_GRADERS.get(item.ability)
    if quickly is None:
        return None
    started = time.perf_counter()
    found = quickly(item.response, item.golds, item.finished, reasoning_open=item.reasoning_open)
    if found is None:
        return None
    return Verdict(kind=found[0], reason=found[1], seconds=time.perf_counter() - started)


class _Lost(Exception):
    """The child is gone or speaks nonsense."""


class _Starved(Exception):
    """The clock ran out, and not for the response's work: the machine is busy, or the child was stopped."""


class _Child:
    """A grading process and our end of its socket."""

    def __init__(self, memory_bytes: int) -> None:
        self._link, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", f"{__package__}.grading_child"]
            arguments = [theirs.fileno(), os.getpid(), memory_bytes]
            # One thread for BLAS: each further one reserves address space, and the limit counts that.
            threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            self._process = subprocess.Popen(
                [*command, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **threads},
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
            )
        self.pid = self._process.pid
        self._replies = self._link.makefile("rb")
        self._ready = False

    def wait_ready(self) -> None:
        """Return once the child has imported all it needs: an import is not the response's to pay for."""
        if not self._ready:
            self._link.settimeout(_START_S)
            if self._replies.readline() != b"ready\n":
                raise _Lost
            self._ready = True

    def ask(self, line: bytes, timeout_s: float, overtime: Callable[[], None]) -> tuple[Verdict, bool]:
        """The child's verdict and whether it was its last. ``overtime`` is called once it takes long.

        ``TimeoutError`` when the clock runs out; ``_Starved`` where the child hardly got the processor meanwhile.
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
            raise _Lost
        fields = json.loads(reply)
        seconds = time.monotonic() - started
        kind, peak_bytes = VerdictKind(fields["kind"]), fields["peak_bytes"]
        return Verdict(kind=kind, reason=fields["reason"], seconds=seconds, peak_bytes=peak_bytes), fields["last"]

    def _cpu_s(self) -> float:
        """Processor time of the child so far, in seconds; 0 where the system does not say."""
        try:
            with open(f"/proc/{self.pid}/schedstat", "rb") as schedstat:
                return int(schedstat.read().split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def peak_bytes(self) -> int:
        """The child's largest resident size, in bytes; 0 where the system does not say."""
        try:
            with open(f"/proc/{self.pid}/status", "rb") as status:
                return next((int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM")), 0)
        except OSError:
            return 0

    def kill(self) -> None:
        """Only the signal: safe from any thread, any number of times."""
        self._process.kill()

    def bury(self) -> int:
        """Kill it, reap it, give back the socket, and return its exit code, negative for a signal."""
        self._process.kill()
        code = self._process.wait()
        self._replies.close()
        self._link.close()
        return code


class _Seat(threading.Thread):
    """Keeps one child at work.

    The child asks the kernel to die with the *thread* that started it, so the thread that starts children is this
    one, which lives as long as the pool, and never a caller's.
    """

    def __init__(
        self,
        tasks: _Tasks,
        closed: threading.Event,
        turns: threading.Semaphore,
        timeout_s: float,
        memory_bytes: int,
        *,
        warm: bool,
    ) -> None:
        super().__init__(name="grader-seat", daemon=True)
        self._tasks = tasks
        self._closed = closed
        self._turns = turns
        self._warm = warm
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._has_turn = warm
        self._child: _Child | None = None
        self._child_lock = threading.Lock()  # between starting a child here and kill() from the closing thread

    @property
    def pid(self) -> int | None:
        """The child's process id, None between two children."""
        child = self._child
        return None if child is None else child.pid

    def run(self) -> None:
        """Serve until the pool closes. A warm seat starts a child at once; a spare one when it is first needed."""
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

    def kill(self) -> None:
        """End the child from the closing thread; ours then sees a closed socket."""
        with self._child_lock:
            if self._child is not None:
                self._child.kill()

    def _grade(self, line: bytes, may_run_over: bool) -> Verdict:
        overtime = self._give_turn if may_run_over else _stay
        verdict, died = self._attempt(line, overtime)
        if verdict.kind is not VerdictKind.ERROR:
            return verdict
        again, died_again = self._attempt(line, overtime)
        if died in _ITS_OWN_FAULT and died_again in _ITS_OWN_FAULT:
            reason = f"grading it crashes the grading process (signal {died})"
            again = replace(again, kind=VerdictKind.TIMEOUT, reason=reason)
        return replace(again, seconds=verdict.seconds + again.seconds)

    def _attempt(self, line: bytes, overtime: Callable[[], None]) -> tuple[Verdict, int]:
        """One try, and the signal that ended the child, 0 for none. A child that did not answer is gone afterwards."""
        self._prepare()
        child = self._child
        if child is None:
            return _failure("no grading process: the pool is closed or cannot start one"), 0
        try:
            child.wait_ready()
        except (_Lost, OSError):
            return _failure(f"the grading process did not start: {_ending(self._discard())}"), 0
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
        except (_Lost, OSError, ValueError, KeyError):
            code = self._discard()
            return _failure(f"the grading process was lost: {_ending(code)}", started), max(-code, 0)
        if last:
            self._discard()
        return verdict, 0

    def _prepare(self) -> None:
        """Make sure a child is running, or on its way. None after the pool is closed, or where it cannot start."""
        with self._child_lock:
            if self._child is None and not self._closed.is_set():
                try:
                    self._child = _Child(self._memory_bytes)
                except OSError:
                    self._child = None  # out of processes or memory: the attempt reports it, the next one tries again

    def _discard(self) -> int:
        with self._child_lock:
            child, self._child = self._child, None
            return 0 if child is None else child.bury()


def _stay() -> None:
    """Overtime of what may not run over: it keeps its turn."""


def _failure(reason: str, started: float | None = None) -> Verdict:
    seconds = 0.0 if started is None else time.monotonic() - started
    return Verdict(kind=VerdictKind.ERROR, reason=reason, seconds=seconds)


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class _CodeSeat(threading.Thread):
    """Runs solutions, one response at a time, in sandboxes that end with this thread at the latest."""

    def __init__(self, tasks: _CodeTasks, settings: Verifier) -> None:
        super().__init__(name="code-seat", daemon=True)
        self.ready: Future[None] = Future()
        """Done when the first sandbox stands; a ``ConfigError`` where there can be none."""
        self._tasks = tasks
        self._grader = CodeGrader(settings)

    def run(self) -> None:
        """Start a sandbox, then serve until the pool closes."""
        try:
            self._grader.warm_up()
            self.ready.set_result(None)
        except Exception as error:
            self.ready.set_exception(error)
        while (task := self._tasks.get()) is not None:
            item, future = task
            try:
                (tests,) = item.golds
                future.set_result(
                    self._grader.grade(item.response, tests, item.finished, reasoning_open=item.reasoning_open)
                )
            except Exception as error:  # the per-item boundary: a defect here must not leave the caller waiting
                future.set_exception(error)
        self._grader.close()

    def kill(self) -> None:
        """End what runs, from the closing thread."""
        self._grader.kill()
