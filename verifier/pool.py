"""Grades groups of responses where they can do no harm: in child processes that can be killed, and in sandboxes.

A response that no quick grader settles is graded in a warm child with its own socket, clock and memory limit
(``process_seat``). Children share nothing, so the death of one, at any moment, affects one response. There are twice as
many seats as jobs, and one turn for each job: a seat whose response takes long gives its turn to a spare one, so that
slow responses do not hold up the others.

Abilities whose graders run what they judge, solutions and the scorers of reasoning-gym, have seats of their own, which
start with the first item of the ability (``sandbox/seat.py``).

If grading fails (``error``), the same seat tries again, ``attempts`` times in all (``retry``).
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from types import TracebackType

from ..common.config import Verifier
from ..common.ground_truth import CODE, MATH, REASONING_GYM
from ..common.types import Verdict
from .code.answer import CodeGrader
from .graders import GYM_SCORE, IN_SANDBOXES, MATH_REPORT, judge_of
from .gym_answer import GymGrader
from .process_seat import ProcessSeat, Tasks
from .sandbox_seat import GradeItem, SandboxGrader, SandboxSeats

__all__ = ["ATTEMPTS", "GradeItem", "GraderPool"]

GIB = 1 << 30

ATTEMPTS = 3
"""Most tries to grade a response, if grading it fails."""

_SANDBOXED: dict[str, Callable[[Verifier], SandboxGrader]] = {
    CODE: CodeGrader,
    REASONING_GYM: GymGrader,
    GYM_SCORE: lambda settings: GymGrader(settings, partial=True),
}


class GraderPool:
    """``jobs`` grading processes, and as many sandboxes for each ability that needs them. It is safe to use from
    several threads. Close it, or use it as a context manager. ``settings`` has the limits of what runs in sandboxes,
    and says how mathematics is judged."""

    def __init__(
        self,
        jobs: int,
        timeout_s: float = 10.0,
        memory_bytes: int | None = 2 * GIB,
        settings: Verifier | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        if jobs < 1:
            raise ValueError(f"a pool needs at least one job, not {jobs}")
        self._tasks: Tasks = queue.SimpleQueue()
        self._closed = threading.Event()
        self._submitting = threading.Lock()  # nothing may be queued after the end marks
        turns = threading.Semaphore(0)  # each warm seat begins with one turn
        self._seats = [
            ProcessSeat(
                self._tasks, self._closed, turns, timeout_s, memory_bytes or 0, attempts=attempts, warm=number < jobs
            )
            for number in range(2 * jobs)
        ]
        for seat in self._seats:
            seat.start()
        self._jobs, self._attempts = jobs, attempts
        self._settings = settings or Verifier(timeout_s=timeout_s)
        self._sandboxed: dict[str, SandboxSeats] = {}

    def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """A verdict for each item, in order. All are submitted at once. Each has its own clock, which starts with it.

        If a child that had the processor overruns its clock, the verdict is ``timeout``. If a child is lost or starved,
        or our code fails, grading is tried again, and then the verdict is ``error``.
        """
        for ability in {item.ability for item in items} - IN_SANDBOXES:
            judge_of(ability)  # an unknown ability is the caller's mistake, not a verdict
        return [future.result() for future in [self.submit(item) for item in items]]

    def submit(self, item: GradeItem) -> Future[Verdict]:
        """The future of the item's verdict. It is done already if a quick grader settles the item.

        Raises ``ConfigError`` for an unknown ability, and if what has to be isolated cannot be.
        """
        if item.ability in IN_SANDBOXES:
            return self._submit_to_sandbox(item)
        if item.ability == MATH and self._settings.math == "report":
            item = replace(item, ability=MATH_REPORT)
        judge, future = judge_of(item.ability), Future[Verdict]()
        verdict = _quick_verdict(item)
        if verdict is not None:
            future.set_result(verdict)
            return future
        line = json.dumps(asdict(item)).encode() + b"\n"
        with self._submitting:
            self._refuse_closed()
            self._tasks.put((line, judge.runs_over, future))
        return future

    def _submit_to_sandbox(self, item: GradeItem) -> Future[Verdict]:
        with self._submitting:
            self._refuse_closed()
            seats = self._sandboxed.get(item.ability)
            if seats is None:
                make = _SANDBOXED[item.ability]
                seats = SandboxSeats(lambda: make(self._settings), self._jobs, self._attempts)
                self._sandboxed[item.ability] = seats
        seats.wait_ready()  # if there can be no sandbox, the caller must hear of it
        with self._submitting:
            self._refuse_closed()
            return seats.submit(item)

    def _refuse_closed(self) -> None:
        if self._closed.is_set():
            raise ValueError("the grader pool is closed")

    def close(self) -> None:
        """Kill the children and wait until they are gone. What is still being graded ends as ``error``."""
        with self._submitting:
            self._closed.set()
            for _ in self._seats:
                self._tasks.put(None)
            for seats in self._sandboxed.values():
                seats.close()
        everybody: list[ProcessSeat | SandboxSeats] = [*self._seats, *self._sandboxed.values()]
        for each in everybody:
            each.kill()
        for each in everybody:
            each.join()

    def pids(self) -> list[int]:
        """Process ids of the grading processes that are alive now."""
        return [pid for seat in self._seats if (pid := seat.pid) is not None]

    def __enter__(self) -> GraderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _quick_verdict(item: GradeItem) -> Verdict | None:
    quickly = judge_of(item.ability).quickly
    if quickly is None:
        return None
    started = time.perf_counter()
    found = quickly(item.response, item.golds, item.finished, reasoning_open=item.reasoning_open)
    if found is None:
        return None
    return Verdict(kind=found[0], reason=found[1], seconds=time.perf_counter() - started)
