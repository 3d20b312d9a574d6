"""Processes that run reward functions, from the side that can kill them.

A seat is a thread with one warm process, which judges one group at a time: all calls of a group go over in one line,
and each comes back as it is done. A call that fails is made again, in a new process where its own is lost, as often as
anybody may try. An ``async`` function waits for others most of its time, so there are more seats for those.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ...common.config import Reward
from ...common.errors import ConfigError
from ...common.reasons import printable
from ...common.user_code.digests import REWARDS, refuse_other_code
from ...common.user_code.processes import LOADING_S, Lost, OwnCodeChild, Seat, ending
from ...common.wording import counted
from .calling import Call, Reply

SEATS_A_JOB = 4
"""Processes for each of ``verifier.jobs`` where a function is ``async``: as many as a worker holds groups for a job."""
GRACE_S = 5.0
"""Seconds beyond its own clock that an ``async`` function has, before it counts as hanging."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What the functions are, as the process that loaded them says."""

    functions: list[dict[str, Any]]
    """As ``child.described``."""
    digest: str | None


@dataclass(slots=True, kw_only=True)
class Asked:
    """One group's calls, and what has come back."""

    responses: list[dict[str, Any]]
    row: str
    calls: list[Call]
    replies: dict[Call, Reply] = field(default_factory=dict)
    peak_bytes: int = 0

    def open(self) -> list[Call]:
        """The calls without numbers so far, in their order."""
        return [call for call in self.calls if call not in self.replies or self.replies[call]["values"] is None]

    def fail(self, call: Call, why: str, seconds: float) -> None:
        """Note that a call brought no numbers."""
        self.replies[call] = {"r": call[0], "i": call[1], "values": None, "reasons": [why], "s": seconds}


class RewardChild(OwnCodeChild):
    """A process that runs reward functions, and our end of its socket."""

    module = f"{__package__}.child"

    def load(self, rewards: Sequence[Reward]) -> Described:
        """Have it load the functions. ``ConfigError`` if it cannot."""
        self._link.settimeout(LOADING_S)
        self._link.sendall(json.dumps([reward.model_dump(mode="json") for reward in rewards]).encode() + b"\n")
        if not (line := self._replies.readline()):
            raise Lost
        said = json.loads(line)
        if "wrong" in said:
            raise ConfigError(said["wrong"])
        return Described(**said)

    def judge(self, asked: Asked, functions: list[dict[str, Any]]) -> bool:
        """Make the open calls of a group. Returns whether the process ends after it. ``TimeoutError`` where it goes
        silent for longer than the call that is due may take, ``Lost`` where it is gone."""
        calls = sorted(asked.open(), key=lambda call: functions[call[0]]["is_async"])  # the order in which it works
        waiting = dict.fromkeys(calls)
        request = {"responses": asked.responses, "row": asked.row, "calls": calls}
        self._link.settimeout(LOADING_S)
        self._link.sendall(json.dumps(request).encode() + b"\n")
        while True:
            self._link.settimeout(_patience_s(list(waiting), functions))
            if not (line := self._replies.readline()):
                raise Lost
            said = json.loads(line)
            if "done" in said:
                asked.peak_bytes = max(asked.peak_bytes, said["peak_bytes"])
                return bool(said["last"])
            call = said["r"], said["i"]
            asked.replies[call] = said
            waiting.pop(call, None)


def _patience_s(waiting: list[Call], functions: list[dict[str, Any]]) -> float:
    """Seconds until the next line is overdue."""
    if not waiting:
        return GRACE_S
    due = functions[waiting[0][0]]
    if not due["is_async"]:
        return float(due["timeout_s"])
    return max(functions[r]["timeout_s"] for r, _ in waiting) + GRACE_S  # they are all under way at once


_Tasks: TypeAlias = "queue.SimpleQueue[tuple[Asked, Future[Asked]] | None]"


class RewardSeats:
    """The seats of a verifier worker. It is safe to use from several threads. Close it in the end."""

    def __init__(
        self, rewards: Sequence[Reward], *, jobs: int, memory_bytes: int, attempts: int, digest: str | None = None
    ) -> None:
        """Start one seat and wait until it has loaded the functions, then the others. ``ConfigError`` if they cannot
        be loaded, or if their code has another ``digest`` (None: as this worker's first process; ``any``: never)."""
        self._digest = digest
        self._tasks: _Tasks = queue.SimpleQueue()
        self._closed = threading.Event()

        def seat() -> _Seat:
            made = _Seat(self._tasks, self._closed, rewards, memory_bytes, attempts, self._refuse)
            made.start()
            return made

        first = seat()
        self._seats = [first]
        try:
            self.described = first.ready.result()
        except BaseException:
            self.close()
            raise
        more = SEATS_A_JOB * jobs if any(each["is_async"] for each in self.described.functions) else jobs
        self._seats += [seat() for _ in range(more - 1)]

    def _refuse(self, found: Described) -> None:
        if self._digest is None:
            self._digest = found.digest  # the first process is there before the others start
        refuse_other_code(found.digest, self._digest, REWARDS)

    def submit(self, asked: Asked) -> Future[Asked]:
        """The future of ``asked`` with a reply to each call."""
        future: Future[Asked] = Future()
        self._tasks.put((asked, future))
        return future

    def pids(self) -> list[int]:
        """Process ids of the processes that are alive now."""
        return [pid for seat in self._seats if (pid := seat.pid) is not None]

    def close(self) -> None:
        """Kill the processes and wait until they are gone. What is under way ends as failed."""
        self._closed.set()
        for _ in self._seats:
            self._tasks.put(None)
        for seat in self._seats:
            seat.kill()
        for seat in self._seats:
            seat.join()


class _Seat(Seat[RewardChild]):
    """Keeps one process at work."""

    def __init__(
        self,
        tasks: _Tasks,
        closed: threading.Event,
        rewards: Sequence[Reward],
        memory_bytes: int,
        attempts: int,
        refuse: Callable[[Described], None],
    ) -> None:
        """``refuse`` raises ``ConfigError`` where a process has loaded what this worker may not use."""
        super().__init__("reward-seat")
        self._refuse = refuse
        self.ready: Future[Described] = Future()
        self._tasks, self._closed, self._rewards = tasks, closed, rewards
        self._memory_bytes, self._attempts = memory_bytes, attempts
        self._functions: list[dict[str, Any]] = []

    def run(self) -> None:
        """Start a process, then serve until the end mark."""
        try:
            described = self._loaded()
            assert described is not None
            self.ready.set_result(described)
        except Exception as error:
            self.ready.set_exception(error if isinstance(error, ConfigError) else ConfigError(_not_started(error)))
        while (task := self._tasks.get()) is not None:
            asked, future = task
            try:
                self._judge(asked)
                future.set_result(asked)
            except Exception as error:  # the per-item boundary: a defect here must not leave the caller waiting
                future.set_exception(error)
        self._discard()

    def _judge(self, asked: Asked) -> None:
        for _ in range(self._attempts):
            self._attempt(asked)
            if not asked.open() or self._closed.is_set():
                break
        for call in asked.open():
            if self._attempts > 1 and call in asked.replies:
                asked.replies[call]["reasons"][0] += f", tried {counted(self._attempts, 'time')}"

    def _attempt(self, asked: Asked) -> None:
        """One try of what is open. A process that did not answer is gone afterwards."""
        started, calls = time.monotonic(), asked.open()
        for call in calls:
            asked.replies.pop(call, None)
        try:
            self._loaded()
            assert self._child is not None
            if self._child.judge(asked, self._functions):
                self._discard()
            return
        except TimeoutError:
            self._discard()
            said = ""
        except (Lost, OSError, ValueError, KeyError, ConfigError) as error:
            if isinstance(error, Lost) and self._child is not None:
                self._child.ended_by_itself()  # it has closed its socket, and is about to end
            code = self._discard()
            said = f"did not start: {error}" if isinstance(error, ConfigError) else f"was lost: {ending(code)}"
        seconds = time.monotonic() - started
        for call in calls:  # the one that was due, and those that were to come after it
            if call not in asked.replies:
                reward, place = self._rewards[call[0]], self._functions[call[0]]["place"] if self._functions else ""
                late = f"killed after {reward.timeout_s:g} s (timeout_s) without an answer{place}"
                why = f"its process {said}" if said else late
                asked.fail(call, printable(f"{reward.called}: {why}"), seconds)

    def _loaded(self) -> Described | None:
        """Make sure that a process is running and has loaded the functions; what they are, where it is a new one."""
        with self._child_lock:
            if self._child is not None:
                return None
            if self._closed.is_set():
                raise Lost
            self._child = child = RewardChild(self._memory_bytes)
        try:
            described = child.load(self._rewards)
            self._refuse(described)
        except BaseException:
            self._discard()
            raise
        self._functions = described.functions
        return described


def _not_started(error: Exception) -> str:
    said = "it was lost" if isinstance(error, Lost) else f"{type(error).__name__}: {error}"
    return f"rewards: the process that runs them did not start: {said}"
