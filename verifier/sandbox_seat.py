"""Seats of the pool for abilities that are judged in sandboxes: threads that each keep one sandbox warm."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ..common.types import Verdict
from .retry import until_graded


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeItem:
    """One response to grade."""

    ability: str
    """Which grader judges it."""
    response: str
    """The decoded response, without the prompt."""
    golds: tuple[str, ...]
    """Right answers as alternatives; for code one JSON text with the tests, for reasoning_gym one with the entry."""
    finished: bool
    """Whether the response ended by an end token rather than by truncation."""
    reasoning_open: bool = False
    """Whether the prompt ended inside ``<think>``, so that the response begins in the middle of its reasoning."""


class SandboxGrader(Protocol):
    """Judges one response at a time, in a sandbox that it keeps. One thread uses it; ``kill`` is safe from any
    thread."""

    def warm_up(self) -> None:
        """Start the sandbox. ``ConfigError`` if there can be none."""

    def grade(self, response: str, ground_truth: str, finished: bool, *, reasoning_open: bool) -> Verdict:
        """The verdict on the response; ``error`` if the sandbox failed."""
        ...

    def close(self) -> None:
        """End the sandbox."""

    def kill(self) -> None:
        """End it from another thread."""


_Tasks: TypeAlias = "queue.SimpleQueue[tuple[GradeItem, Future[Verdict]] | None]"


class SandboxSeats:
    """The seats of one ability. ``submit`` and ``close`` are called under the pool's lock, so that nothing is queued
    after the end marks."""

    def __init__(self, make: Callable[[], SandboxGrader], jobs: int, attempts: int) -> None:
        self._tasks: _Tasks = queue.SimpleQueue()
        self._seats = [_Seat(self._tasks, make(), attempts) for _ in range(jobs)]
        for seat in self._seats:
            seat.start()

    def wait_ready(self) -> None:
        """Return when the first sandbox stands. ``ConfigError`` if there can be none."""
        self._seats[0].ready.result()

    def submit(self, item: GradeItem) -> Future[Verdict]:
        """The future of the item's verdict."""
        future: Future[Verdict] = Future()
        self._tasks.put((item, future))
        return future

    def close(self) -> None:
        """Tell every seat to end; ``kill`` and ``join`` follow."""
        for _ in self._seats:
            self._tasks.put(None)

    def kill(self) -> None:
        """End what runs now."""
        for seat in self._seats:
            seat.kill()

    def join(self) -> None:
        """Wait until every seat and its sandbox are gone."""
        for seat in self._seats:
            seat.join()


class _Seat(threading.Thread):
    """Runs one response at a time, in sandboxes that end with this thread at the latest."""

    def __init__(self, tasks: _Tasks, grader: SandboxGrader, attempts: int) -> None:
        super().__init__(name="sandbox-seat", daemon=True)
        self.ready: Future[None] = Future()
        self._tasks, self._grader, self._attempts = tasks, grader, attempts
        self._killed = threading.Event()

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
                future.set_result(self._grade(item))
            except Exception as error:  # the per-item boundary: a defect here must not leave the caller waiting
                future.set_exception(error)
        self._grader.close()

    def kill(self) -> None:
        """End what runs, from the closing thread."""
        self._killed.set()
        self._grader.kill()

    def _grade(self, item: GradeItem) -> Verdict:
        (truth,) = item.golds

        def attempt() -> Verdict:
            return self._grader.grade(item.response, truth, item.finished, reasoning_open=item.reasoning_open)

        return until_graded(attempt, self._attempts, self._killed)
