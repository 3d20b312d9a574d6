"""Grades a Python solution: takes it out of the response, runs it in a sandbox, judges outside what came out.

The expected outputs stay in this process. A program is given one input at a time and its output is compared here; a
function is called over a socket and its value compared here; a test program runs in a second sandbox, which no
solution ever enters, and calls the solution from there (``sandboxed/peer.py``). So there is nothing in a solution's
reach that decides its verdict.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...common.config import Verifier
from ...common.errors import ConfigError
from ...common.reasons import printable
from ...common.sandbox.errors import Garbled, OutOfMemory, Overrun, SandboxError
from ...common.sandbox.room import SandboxRoom
from ...common.sandbox.sandbox import Job, Limits, Sandbox, usable_memory
from ...common.sandbox.sandboxed.frames import ANSWER, ASK, CASE, ENDED, FAILED, GONE, PROGRAM, SERVE, VERDICT, pack
from ...common.sandbox.sandboxed.plain import Packer
from ...common.types import Verdict, VerdictKind
from .compare import Comparison, same_output, same_value
from .fences import extract_solution
from .tests import AssertionTest, CallTest, CodeTests, ProgramTest, parse_tests

Finding: TypeAlias = tuple[VerdictKind, str]

CORRECT, WRONG, NO_ANSWER = VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.NO_ANSWER
TIMEOUT, ERROR = VerdictKind.TIMEOUT, VerdictKind.ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clock:
    """When one test, and all tests, must be done, in monotonic seconds."""

    test_s: float
    end: float

    def deadline(self) -> float:
        return min(time.monotonic() + self.test_s, self.end)


class CodeGrader:
    """Grades one response at a time, in two sandboxes that it keeps warm. One thread uses it."""

    def __init__(self, settings: Verifier) -> None:
        self._settings = settings
        self._solutions = SandboxRoom(isolated=not settings.allow_unsandboxed)
        self._judges = SandboxRoom(isolated=not settings.allow_unsandboxed)

    def warm_up(self) -> None:
        """Start the solutions' sandbox now. ``ConfigError`` if there can be none."""
        self._solutions.sandbox()

    def grade(self, response: str, ground_truth: str, finished: bool, *, reasoning_open: bool = False) -> Verdict:
        """The verdict on a response. Unreadable tests, and any failure of the sandbox itself, give an ``error``."""
        started = time.monotonic()
        try:
            tests = parse_tests(ground_truth)
        except ValueError as error:
            return Verdict(kind=ERROR, reason=printable(str(error)), seconds=0.0, peak_bytes=0)
        source, why_not = extract_solution(response, finished=finished, reasoning_open=reasoning_open)
        if source is None:
            return Verdict(kind=NO_ANSWER, reason=why_not, seconds=0.0, peak_bytes=0)
        try:
            kind, reason, peak = self._attempt(source, tests)
        except (SandboxError, ConfigError, OSError) as error:
            kind, reason, peak = ERROR, str(error)[:200], 0
        return Verdict(kind=kind, reason=printable(reason), seconds=time.monotonic() - started, peak_bytes=peak)

    def close(self) -> None:
        """End both sandboxes."""
        self._solutions.close()
        self._judges.close()

    def kill(self) -> None:
        """End both sandboxes from another thread. What is being graded ends as an ``error``."""
        self._solutions.kill()
        self._judges.kill()

    def _attempt(self, source: str, tests: CodeTests) -> tuple[VerdictKind, str, int]:
        memory = tests.memory_bytes or self._settings.memory_bytes
        limits = Limits(memory_bytes=min(memory, usable_memory()))
        # Both sandboxes stand before the clock starts, so that the solution does not pay for their start.
        sandboxes = [self._solutions.sandbox()]
        if tests.comparison in (Comparison.CHECKER, Comparison.ASSERTIONS):
            sandboxes.append(self._judges.sandbox())
        clock = _Clock(
            test_s=tests.time_limit_s or self._settings.code_timeout_s,
            end=time.monotonic() + self._settings.code_total_s,
        )
        with _Execution(source, tests, sandboxes, clock, limits) as run:
            try:
                kind, reason = run.judge()
            except Overrun:
                kind, reason = TIMEOUT, f"{run.where} ran past {clock.test_s:g} s"
            except OutOfMemory as error:
                kind, reason = WRONG, f"{run.where} used {error}"
            except (Garbled, *_NONSENSE) as error:
                if any(sandbox.lost(error) for sandbox in sandboxes):
                    raise SandboxError("the sandbox was lost") from error
                kind, reason = WRONG, f"{run.where}: the solution's process died or sent nonsense ({error})"
            return kind, reason, run.peak_bytes


_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""Errors that reading a table may raise if no honest process sent it."""


class _Execution:
    """Runs one solution against its tests, in order. The first test that fails decides."""

    def __init__(self, source: str, tests: CodeTests, sandboxes: list[Sandbox], clock: _Clock, limits: Limits) -> None:
        self._source, self._tests, self._clock, self._limits = source, tests, clock, limits
        self._sandboxes = sandboxes
        self._rooms = [ExitStack() for _ in sandboxes]
        self._job: Job
        self._judge: Job | None = None
        self._loaded: str | None = None
        self._checker_loaded = False
        self._dirty = False
        self._peak_bytes = 0
        self.where = "loading"

    def __enter__(self) -> _Execution:
        try:
            self._job = self._enter(0)
            if len(self._rooms) > 1:
                self._judge = self._enter(1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for room in self._rooms:
            room.close()

    @property
    def peak_bytes(self) -> int:
        """The most memory that the solution was seen to hold."""
        return max(self._peak_bytes, self._job.peak_bytes)

    def _enter(self, number: int) -> Job:
        return self._rooms[number].enter_context(self._sandboxes[number].job(self._limits))

    def _move(self) -> None:
        """Move to a fresh job, because the last run left files that the next must not find."""
        self._peak_bytes = self.peak_bytes
        self._rooms[0].close()
        self._job = self._enter(0)

    def judge(self) -> Finding:
        for number, test in enumerate(self._tests.tests, start=1):
            self.where = f"test {number} of {len(self._tests.tests)}"
            match test:
                case ProgramTest():
                    kind, reason = self._program(test)
                case CallTest():
                    kind, reason = self._call(test)
                case AssertionTest():
                    kind, reason = self._assertions(test)
            if kind is not CORRECT:
                return kind, reason if kind is ERROR else f"{self.where}: {reason}"
        return CORRECT, f"by {self._tests.comparison}"

    def _program(self, test: ProgramTest) -> Finding:
        if self._dirty:
            self._move()
        deadline = self._clock.deadline()
        self._job.send(
            pack(PROGRAM, {"source": self._source}, test.stdin.encode("utf-8", "surrogatepass")), deadline=deadline
        )
        kind, ending, output = self._job.receive(deadline)
        if kind == FAILED:  # this is the keeper's word: in this mode the solution cannot speak
            raise SandboxError(f"a run could not be started: {ending}")
        if kind != ENDED:
            raise Garbled("no report")
        self._job.saw(int(ending["peak_bytes"]))
        self._dirty = bool(ending["dirty"])
        if ending["capped"]:
            return WRONG, f"printed {self._limits.output_bytes} bytes or more"
        if ending["status"] != 0:
            return WRONG, _how_it_ended(int(ending["status"]), str(ending["complaint"]))
        actual = output.decode("utf-8", "replace")
        if self._tests.checker:
            return self._checked(test.stdin, test.stdout, [], actual)
        same = same_output(actual, test.stdout, self._tests.comparison, self._tests.tolerance)
        return (CORRECT, "") if same else (WRONG, f"not the expected output, by {self._tests.comparison}")

    def _call(self, test: CallTest) -> Finding:
        failure = self._load("")
        if failure is not None:
            return failure
        packer = Packer(_no_opaque, {})
        question = ["call_entry", packer.pack([self._tests.function, list(test.arguments)]), packer.nodes]
        deadline = self._clock.deadline()
        self._job.send(pack(CASE, "case"), pack(ASK, question), pack(CASE, "end"), deadline=deadline)
        answer = self._answer(deadline)
        if answer[0] == "ended":
            return WRONG, _how_it_ended(os.waitstatus_to_exitcode(answer[1]), "")
        self._answer(deadline)  # the case has ended
        if answer[0] != "value":
            return WRONG, f"{answer[1]}: {answer[2]}"
        _, ref, nodes, _ = answer
        if self._tests.checker:
            return self._checked(list(test.arguments), test.returns, nodes, ref)
        due = [test.returns]
        if test.wrapped and isinstance(test.returns, list) and len(test.returns) == 1:
            due += test.returns
        rule, tolerance = self._tests.comparison, self._tests.tolerance
        same = any(same_value(nodes, ref, value, rule, tolerance) for value in due)
        return (CORRECT, "") if same else (WRONG, f"not the expected value, by {rule}")

    def _assertions(self, test: AssertionTest) -> Finding:
        """Relay between the test program and the solution. Only the test program's word is a verdict."""
        failure = self._load(test.prefix)
        if failure is not None:
            return failure
        judge = self._judge
        assert judge is not None
        deadline = self._clock.deadline()
        self._job.send(pack(CASE, "case"), deadline=deadline)
        judge.send(
            pack(SERVE, {"role": "tests", "prefix": test.prefix, "tests": test.program, "entry": test.entry}),
            deadline=deadline,
        )
        while True:
            kind, body, _ = judge.receive(deadline)
            if kind == GONE:
                return WRONG, f"the test program was ended by what it got: {_how_it_ended(body[0], '')}"
            if kind == VERDICT:
                break
            self._job.send(pack(kind, body), deadline=deadline)
            kind, body, _ = self._job.receive(deadline)
            if kind not in (ASK, ANSWER) or body[0] == "ended":
                return WRONG, "the solution's process ended"
            judge.send(pack(kind, body), deadline=deadline)
        judge.receive(deadline)  # its GONE
        self._job.send(pack(CASE, "end"), deadline=deadline)
        self._answer(deadline)  # the case has ended
        verdict, reason = body
        if verdict == "broken":
            return ERROR, f"the tests do not run: {reason}"
        return (CORRECT, "") if verdict == "passed" else (WRONG, str(reason))

    def _load(self, prefix: str) -> Finding | None:
        """Have the solution loaded, once for all its tests. Returns what went wrong, or None."""
        if self._loaded == prefix:
            return None
        assert self._loaded is None, "one problem has one prefix"
        deadline = self._clock.deadline()
        self._job.send(pack(SERVE, {"role": "solution", "prefix": prefix, "source": self._source}), deadline=deadline)
        answer = self._answer(deadline)
        if answer[0] != "loaded":
            return WRONG, f"{answer[1]}: {answer[2]}"
        self._loaded = prefix
        return None

    def _answer(self, deadline: float) -> list[Any]:
        kind, body, _ = self._job.receive(deadline)
        if kind == GONE:
            raise Garbled(_how_it_ended(body[0], ""))
        if kind != ANSWER or not isinstance(body, list):
            raise Garbled("no answer")
        return body

    def _checked(self, given: Any, expected: Any, nodes: list[Any], ref: Any) -> Finding:
        """Ask the problem's checker. The output travels as the table in which it came, and is never unpacked here."""
        judge = self._judge
        assert judge is not None
        packer = Packer(_no_opaque, {}, nodes=[_without_names(node) for node in nodes])
        known = [packer.pack(given), packer.pack(expected)]
        table = [*packer.nodes, ["list", [*known, ref]], ["list", ["check", [len(packer.nodes)]]]]
        deadline = self._clock.deadline()
        if not self._checker_loaded:
            judge.send(
                pack(SERVE, {"role": "solution", "prefix": "", "source": self._tests.checker}), deadline=deadline
            )
            if judge.receive(deadline)[1][0] != "loaded":
                return ERROR, "the checker does not load"
            self._checker_loaded = True
        judge.send(pack(ASK, ["call_entry", [len(table) - 1], table]), deadline=deadline)
        kind, answer, _ = judge.receive(deadline)
        if kind != ANSWER or answer[0] != "value":
            return WRONG, f"the checker failed on it: {answer[1:]}"
        return (CORRECT, "") if answer[1] is True else (WRONG, "the checker says no")


def _without_names(node: list[Any]) -> list[Any]:
    """The node without its names, since the checker has nobody to ask for them."""
    return ["same", node[1][0]] if node[0] == "named" else node


def _no_opaque(value: Any) -> list[Any]:
    raise ValueError(f"tests hold JSON values, found {type(value).__name__}")


def _how_it_ended(status: int, complaint: str) -> str:
    if status < 0:
        return f"ended by signal {-status}"
    last = complaint.strip().rpartition("\n")[2]
    return f"exit code {status}{': ' if last else ''}{last}"
