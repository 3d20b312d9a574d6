"""The one place where a failed grade is tried again: in the seat that it failed in, and nowhere above it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from ..common.types import Verdict, VerdictKind


def until_graded(attempt: Callable[[], Verdict], attempts: int, closed: threading.Event) -> Verdict:
    """The first verdict that is no ``error``, or the last of ``attempts``; its seconds are those of all of them. A pool
    that is closed tries nothing again."""
    spent_s, number = 0.0, 0
    while True:
        verdict = attempt()
        spent_s += verdict.seconds
        number += 1
        if verdict.kind is not VerdictKind.ERROR or number == attempts or closed.is_set():
            break
    if verdict.kind is VerdictKind.ERROR and number > 1:
        verdict = replace(verdict, reason=f"{verdict.reason}, tried {number} times")
    return replace(verdict, seconds=spent_s)
