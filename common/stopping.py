"""How a command ends: by SIGTERM and by Ctrl-C with the same code and without a trace, and at once."""

import atexit
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
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
    its exit functions and write out what its files and streams still hold. What an interpreter does after that, to give
    back every object one by one, takes a second and more of a processor where torch and transformers are imported, and
    is left out. A signal ends the wait, and changes no code."""
    with suppress(KeyboardInterrupt):
        threading._shutdown()  # type: ignore[attr-defined]
    with suppress(KeyboardInterrupt):
        atexit._run_exitfuncs()
        _write_out_files()
    for stream in (sys.stderr, sys.stdout):
        try:
            if stream is not None and not stream.closed:  # None: it was closed when the process was started
                stream.flush()
        except OSError as error:
            code = code or 120  # what the interpreter exits with where it cannot flush
            if not isinstance(error, BrokenPipeError):  # otherwise nobody reads any more
                _say(f"standard output is not whole: {error.strerror}")
    os._exit(code)


def _write_out_files() -> None:
    """Write out what is left in open files, as their end would: those of a user's own code may be held open."""
    streams = {id(sys.stdout), id(sys.stderr)}
    for found in gc.get_objects():
        if type(found) in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom) and id(found) not in streams:
            with suppress(OSError, ValueError):
                found.flush()


def _say(text: str) -> None:
    with suppress(OSError, AttributeError):
        print(text, file=sys.stderr, flush=True)
