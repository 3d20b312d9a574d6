"""Says what judges each ability, and where. A new ability takes one line here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..common.errors import ConfigError
from ..common.ground_truth import CODE, EXACT, MATH, REASONING_GYM, SOLUTION
from ..common.types import VerdictKind
from . import exact_answer
from .math import answer as math_answer
from .math import report as math_report


class Grader(Protocol):
    """Judges one response, however long that takes; the caller keeps the clock. It raises only for its own faults,
    which become an ``error`` and never a reward of 0."""

    def __call__(
        self, response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool
    ) -> tuple[VerdictKind, str]: ...


class QuickGrader(Protocol):
    """Judges one response in a process that must not be killed, if that takes microseconds; else returns None."""

    def __call__(
        self, response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool
    ) -> tuple[VerdictKind, str] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """How an ability is judged: in a process that can be killed, or, if it is quick, in the caller's own."""

    grade: Grader
    quickly: QuickGrader | None = None
    runs_over: bool = False
    """Whether a response that takes long gives its turn away and goes on beside the others."""


MATH_REPORT = "math_report"
"""The ability that ``verifier.math = "report"`` uses in place of ``math``. No row asks for it."""

GYM_SCORE = "reasoning_gym_score"
"""The ability of ``[[rewards]]`` with ``use = "reasoning_gym"``: the scorer's own number. No row asks for it."""

JUDGES: Mapping[str, Judge] = {
    MATH: Judge(grade=math_answer.grade_math, quickly=math_answer.quickly, runs_over=True),
    MATH_REPORT: Judge(grade=math_report.grade_report, runs_over=True),
    SOLUTION: Judge(grade=math_answer.grade_solution, quickly=math_answer.quickly_solution),
    EXACT: Judge(grade=exact_answer.grade_exact, quickly=exact_answer.quickly_exact),
}

IN_SANDBOXES = frozenset([CODE, REASONING_GYM, GYM_SCORE])
"""Abilities that ``code/answer.py`` and ``gym_answer`` judge, which run what they judge."""


def judge_of(ability: str) -> Judge:
    """The judge of an ability that is judged in a process. ``ConfigError`` if there is none; it names the known
    ones."""
    try:
        return JUDGES[ability]
    except KeyError:
        known = ", ".join(sorted({*JUDGES, *IN_SANDBOXES} - {MATH_REPORT, GYM_SCORE}))
        raise ConfigError(f'no grader for ability "{ability}"; known abilities: {known}') from None
