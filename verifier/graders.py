"""What judges which ability, and where: the names that a row's ``ability`` may have. A new one is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..common.errors import ConfigError
from ..common.ground_truth import CODE, EXACT, MATH, REASONING_GYM, SOLUTION
from ..common.types import VerdictKind
from . import exact_answer
from .math import answer as math_answer
from .math import report as math_report
from .math import symbolic


class Grader(Protocol):
    """Judges one response, however long that takes: the clock is the caller's. Raises only when it is itself at fault,
    which becomes an ``error``, never a reward of 0."""

    def __call__(
        self, response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool
    ) -> tuple[VerdictKind, str]: ...


class QuickGrader(Protocol):
    """Judges one response where that takes microseconds, in a process that must not be killed; else None."""

    def __call__(
        self, response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool
    ) -> tuple[VerdictKind, str] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judges in a process that can be killed, and what it can at once in the caller's own."""

    grade: Grader
    quickly: QuickGrader | None = None
    runs_over: bool = False
    """Whether a response that takes long gives its turn away and goes on beside the others."""


MATH_REPORT = "math_report"
"""What ``verifier.math = "report"`` puts in the place of ``math``; no row asks for it."""

JUDGES: Mapping[str, Judge] = {
    MATH: Judge(grade=math_answer.grade_math, quickly=math_answer.quickly, runs_over=True),
    MATH_REPORT: Judge(grade=math_report.grade_report, runs_over=True),
    SOLUTION: Judge(grade=math_answer.grade_solution, quickly=math_answer.quickly_solution),
    EXACT: Judge(grade=exact_answer.grade_exact, quickly=exact_answer.quickly_exact),
}

IN_SANDBOXES = frozenset([CODE, REASONING_GYM])
"""Judged by ``code/answer.py`` and ``gym_answer``, which run what they judge."""


def judge_of(ability: str) -> Judge:
    """Who judges an ability in a process; a ``ConfigError`` names the known ones."""
    try:
        return JUDGES[ability]
    except KeyError:
        known = ", ".join(sorted({*JUDGES, *IN_SANDBOXES} - {MATH_REPORT}))
        raise ConfigError(f'no grader for ability "{ability}"; known abilities: {known}') from None


def warm_up() -> None:
    """Pay for the import of Math-Verify, and for what it builds on first use, before the first clock starts. Called in
    the processes that grade, before they say they are ready."""
    symbolic.warm_up()
