"""Ends a command that is asked to stop, by SIGTERM or by Ctrl-C, with the same code and without a trace."""

import os
import signal
from collections.abc import Callable

STOPPED = 130
"""The exit code of a command that was asked to stop before it was done, by any signal. It is not 0, because a
supervisor (a batch system, a job controller, a unit file, a shell script) would take the run for finished."""


def stoppable(main: Callable[[], int | None]) -> int:
    """Run ``main`` and return its exit code, or ``STOPPED`` if it was interrupted. Within it SIGTERM raises
    ``KeyboardInterrupt``, as Ctrl-C does, so that there is one way to put things in order."""
    process = os.getpid()

    def ask(signum: int, _frame: object) -> None:
        if os.getpid() != process:  # a fork of this process, which has nothing to put in order
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ask)
    try:
        return main() or 0
    except KeyboardInterrupt:
        return STOPPED
