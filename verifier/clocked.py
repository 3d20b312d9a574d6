"""A clock for grading in the main thread of a process that nobody can kill for it."""

import signal
import time
from collections.abc import Callable
from types import FrameType

from ..common.types import VerdictKind


class _Overrun(BaseException):
    """The clock ran out. It is not an ``Exception``, because Math-Verify and sympy swallow those and say
    "different"."""


def clocked(seconds: float, judge: Callable[[], tuple[VerdictKind, str]]) -> tuple[VerdictKind, str]:
    """What ``judge`` returns, or ``timeout`` after ``seconds``. The clock uses SIGALRM, so it needs the main thread and
    stops Python code only. An alarm that was set before is set again."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise _Overrun

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    # It rings again each second, because Python drops an exception that is raised inside a finalizer.
    outer_s, outer_interval_s = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        return judge()
    except _Overrun:
        return VerdictKind.TIMEOUT, f"still comparing after {seconds:g} s"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer_s:
            left_s = outer_s - (time.monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left_s, 0.001), outer_interval_s)
