"""Grades groups of responses in child processes that can be killed.

Mathematics can hang where no Python exception reaches: inside one long multiplication, or past a swallowed alarm.
Only killing the process is sure. So every grading runs in a warm child with its own socket, clock and memory limit,
and the worst an answer can do is to cost its clock and one child.

One thread for each child, which starts it, hands it one response at a time, and replaces it. Nothing is shared between
children, so the death of one, at any moment, is felt by one response.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TypeAlias

from ..common.types import Verdict, VerdictKind
from .graders import grader_for

GIB = 1 << 30

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
    """Right answers; several are alternatives."""
    finished: bool
    """Whether the response ended by an end token rather than by truncation."""
    reasoning_open: bool = False
    """Whether the prompt ended inside ``<think>``, so that the response begins in the middle of its reasoning."""


_Tasks: TypeAlias = "queue.SimpleQueue[tuple[bytes, Future[Verdict]] | None]"
"""What callers hand to the seats: a request line, and where its verdict goes. None ends one seat."""


class GraderPool:
    """``jobs`` grading processes. Safe to use from several threads; close it, or use it as a context manager."""

    def __init__(self, jobs: int, timeout_s: float = 10.0, memory_bytes: int | None = 2 * GIB) -> None:
        if jobs < 1:
            raise ValueError(f"a pool needs at least one job, not {jobs}")
        self._tasks: _Tasks = queue.SimpleQueue()
        self._closed = threading.Event()
        self._submitting = threading.Lock()  # nothing may be queued behind the end marks
        self._seats = [_Seat(self._tasks, self._closed, timeout_s, memory_bytes or 0) for _ in range(jobs)]
        for seat in self._seats:
            seat.start()

    def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """A verdict for each item, in order. All are submitted at once; each has its own clock, from its own start.

        An overrun is ``timeout``. A lost child or a failure in our code is tried once more, then it is ``error``.
        """
        for ability in {item.ability for item in items}:
            grader_for(ability)  # an unknown one is the caller's mistake, not a verdict
        lines = [json.dumps(asdict(item)).encode() + b"\n" for item in items]
        futures: list[Future[Verdict]] = [Future() for _ in lines]
        with self._submitting:
            if self._closed.is_set():
                raise ValueError("the grader pool is closed")
            for task in zip(lines, futures, strict=True):
                self._tasks.put(task)
        return [future.result() for future in futures]

    def close(self) -> None:
        """Kill the children and wait until they are gone. What is still being graded ends as ``error``."""
        with self._submitting:
            self._closed.set()
            for _ in self._seats:
                self._tasks.put(None)
        for seat in self._seats:
            seat.kill()
        for seat in self._seats:
            seat.join()

    def pids(self) -> list[int]:
        """Process ids of the children alive now."""
        return [pid for seat in self._seats if (pid := seat.pid) is not None]

    def __enter__(self) -> GraderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Lost(Exception):
    """The child is gone or speaks nonsense."""


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

    def ask(self, line: bytes, timeout_s: float) -> tuple[VerdictKind, str, bool]:
        """The child's verdict, its reason and whether it was its last; ``TimeoutError`` when the clock runs out."""
        deadline = time.monotonic() + timeout_s
        self._link.settimeout(timeout_s)
        self._link.sendall(line)
        self._link.settimeout(max(deadline - time.monotonic(), 0.001))
        reply = self._replies.readline()
        if not reply:
            raise _Lost
        fields = json.loads(reply)
        return VerdictKind(fields["kind"]), fields["reason"], fields["last"]

    def kill(self) -> None:
        """Only the signal: safe from any thread, any number of times."""
        self._process.kill()

    def bury(self) -> str:
        """Kill it, reap it, give back the socket, and say how it ended."""
        self._process.kill()
        code = self._process.wait()
        self._replies.close()
        self._link.close()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


class _Seat(threading.Thread):
    """Keeps one child at work.

    The child asks the kernel to die with the *thread* that started it, so the thread that starts children is this
    one, which lives as long as the pool, and never a caller's.
    """

    def __init__(
        self,
        tasks: _Tasks,
        closed: threading.Event,
        timeout_s: float,
        memory_bytes: int,
    ) -> None:
        super().__init__(name="grader-seat", daemon=True)
        self._tasks = tasks
        self._closed = closed
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._child: _Child | None = None
        self._child_lock = threading.Lock()  # between starting a child here and kill() from the closing thread

    @property
    def pid(self) -> int | None:
        """The child's process id, None between two children."""
        child = self._child
        return None if child is None else child.pid

    def run(self) -> None:
        """Start a child at once, so that it warms up before the first response; then serve until the pool closes."""
        self._prepare()
        while (task := self._tasks.get()) is not None:
            line, future = task
            try:
                future.set_result(self._grade(line))
            except Exception as error:  # the per-item boundary: a defect here must not leave the caller waiting
                future.set_exception(error)
            self._prepare()
        self._discard()

    def kill(self) -> None:
        """End the child from the closing thread; ours then sees a closed socket."""
        with self._child_lock:
            if self._child is not None:
                self._child.kill()

    def _grade(self, line: bytes) -> Verdict:
        kind, reason, seconds = self._attempt(line)
        if kind is VerdictKind.ERROR:
            kind, reason, again_s = self._attempt(line)
            seconds += again_s
        return Verdict(kind=kind, reason=reason, seconds=seconds)

    def _attempt(self, line: bytes) -> tuple[VerdictKind, str, float]:
        """One try: kind, reason, seconds. A child that did not answer is gone afterwards."""
        self._prepare()
        child = self._child
        if child is None:
            return VerdictKind.ERROR, "no grading process: the pool is closed or cannot start one", 0.0
        try:
            child.wait_ready()
        except (_Lost, OSError):
            return VerdictKind.ERROR, f"the grading process did not start: {self._discard()}", 0.0
        started = time.monotonic()
        try:
            kind, reason, last = child.ask(line, self._timeout_s)
        except TimeoutError:
            self._discard()
            kind, reason, last = VerdictKind.TIMEOUT, f"killed after {self._timeout_s:g} s", False
        except (_Lost, OSError, ValueError, KeyError):
            kind, reason, last = VerdictKind.ERROR, f"the grading process was lost: {self._discard()}", False
        if last:
            self._discard()
        return kind, reason, time.monotonic() - started

    def _prepare(self) -> None:
        """Make sure a child is running, or on its way. None after the pool is closed, or where it cannot start."""
        with self._child_lock:
            if self._child is None and not self._closed.is_set():
                try:
                    self._child = _Child(self._memory_bytes)
                except OSError:
                    self._child = None  # out of processes or memory: the attempt reports it, the next one tries again

    def _discard(self) -> str:
        with self._child_lock:
            child, self._child = self._child, None
            return "" if child is None else child.bury()
