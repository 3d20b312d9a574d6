"""Tries a failed grade again. This is the only place that does: in the seat where it failed, and nowhere above."""

import threading
from collections.abc import Callable
from dataclasses import replace

from ..common.types import Verdict, VerdictKind


def until_graded(attempt: Callable[[], Verdict], attempts: int, closed: threading.Event) -> Verdict:
    """The first verdict that is not an ``error``, or the last of ``attempts`` tries. Its seconds are the sum of all
    tries. Once the pool is ``closed``, nothing is tried again."""
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
