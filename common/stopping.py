"""How a command ends: by SIGTERM and by Ctrl-C with the same code and without a trace, and at once."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

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


def leave(code: int) -> NoReturn:
    """End the process as ``sys.exit`` does, and as the children of ``multiprocessing`` do: wait for its threads, run
    its exit functions and flush its streams. What an interpreter does after that, to give back every object one by one,
    takes a second and more of a processor where torch and transformers are imported, and is left out."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more
        code = code or 120  # what the interpreter exits with where it cannot flush
    os._exit(code)
