"""Which grader judges which ability. A new one is one line here; code, which needs a sandbox, has seats in ``pool``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..common.errors import ConfigError
from ..common.types import VerdictKind
from . import math_answer


class Grader(Protocol):
    """Judges one response. Raises only when it is itself at fault: that becomes an ``error``, never a reward of 0."""

    def __call__(
        self, response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool, clock_s: float | None
    ) -> tuple[VerdictKind, str]: ...


SOLUTION = "solution"
"""Mathematics that need not box its answer: solutions out of books, when data is prepared (``leeway data``)."""

GRADERS: Mapping[str, Grader] = {"math": math_answer.grade_math, SOLUTION: math_answer.grade_solution}

CODE = "code"
"""Graded by ``code_answer``, which runs what it grades."""

ABILITIES = frozenset({*GRADERS, CODE})


class QuickGrader(Protocol):
    """Judges one response where that takes microseconds, in a process that must not be killed; else None."""

    def __call__(
        self, response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool
    ) -> tuple[VerdictKind, str] | None: ...


QUICK_GRADERS: Mapping[str, QuickGrader] = {"math": math_answer.quickly, SOLUTION: math_answer.quickly_solution}


def grader_for(ability: str) -> Grader:
    """The grader of an ability; a ``ConfigError`` names the known ones."""
    try:
        return GRADERS[ability]
    except KeyError:
        known = ", ".join(sorted(ABILITIES))
        raise ConfigError(f'no grader for ability "{ability}"; known abilities: {known}') from None


def warm_up() -> None:
    """Pay every grader's start-up cost now. Called in the processes that grade, before they say they are ready."""
    math_answer.warm_up()
