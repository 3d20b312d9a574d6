"""How a command ends that is asked to stop, by SIGTERM or by Ctrl-C alike: with one code, and without a trace."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

STOPPED = 130
"""The exit code of whatever was asked to stop before it was done, by whichever signal. Not 0: a supervisor (a batch
system, a job controller, a unit file, a shell script) would take the run for finished."""


def stoppable(main: Callable[[], int | None]) -> int:
    """``main``'s exit code, or ``STOPPED`` where it was interrupted. Within it SIGTERM raises ``KeyboardInterrupt``, as
    Ctrl-C does, so that whoever has something to put in order has one way to do it."""
    process = os.getpid()

    def ask(signum: int, _frame: object) -> None:
        if os.getpid() != process:  # a fork of ours, which has nothing to put in order
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ask)
    try:
        return main() or 0
    except KeyboardInterrupt:
        return STOPPED
