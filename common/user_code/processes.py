"""Processes that can be killed, from the side that starts them: a child and its socket, and the thread that keeps one.

Code may hang where no Python exception reaches: inside one long multiplication, or past a swallowed alarm. Only killing
the process is sure.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Generic, TypeVar

ENDING_S = 1.0
"""Seconds that a child which has closed its socket has to end, before it is killed."""
LOADING_S = 120.0
"""Seconds that a process may take to import what a user's code needs, on a machine that may be very busy."""


class Lost(Exception):
    """The child is gone, or sends nonsense."""


class Child:
    """A process and our end of its socket. Use a subclass: it names the ``module`` that the process runs as
    ``python -m MODULE SOCKET_FD PARENT_PID MEMORY_BYTES``."""

    module: str

    def __init__(self, memory_bytes: int) -> None:
        self._link, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", self.module]
            arguments = [theirs.fileno(), os.getpid(), memory_bytes]
            # BLAS gets one thread, because each further one reserves address space, which the limit counts.
            threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            self._process = subprocess.Popen(
                [*command, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **threads},
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
            )
        self.pid = self._process.pid
        self._replies = self._link.makefile("rb")

    def peak_bytes(self) -> int:
        """The child's largest resident size, in bytes; 0 if the system does not say."""
        try:
            with open(f"/proc/{self.pid}/status", "rb") as status:
                return next((int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM")), 0)
        except OSError:
            return 0

    def kill(self) -> None:
        """Send the signal and no more. It is safe from any thread, any number of times."""
        self._process.kill()

    def ended_by_itself(self) -> None:
        """Give a child that has closed its socket the time to end, so that its exit code is its own."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_S)

    def bury(self) -> int:
        """Kill the child, reap it, and close the socket. Returns its exit code, negative for a signal."""
        self._process.kill()
        code = self._process.wait()
        self._replies.close()
        self._link.close()
        return code


class OwnCodeChild(Child):
    """A process that runs code of a user's. Whatever that has started dies with it."""

    def bury(self) -> int:
        """As ``Child.bury``, for the whole process group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return super().bury()


AnyChild = TypeVar("AnyChild", bound=Child)


class Seat(threading.Thread, Generic[AnyChild]):
    """A thread with at most one child.

    The child asks the kernel to die with the *thread* that started it. So this thread, which lives as long as the pool,
    starts the children, and never a caller's.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._child: AnyChild | None = None
        self._child_lock = threading.Lock()  # guards against kill() from the closing thread while a child starts here

    @property
    def pid(self) -> int | None:
        """The child's process id; None between two children."""
        child = self._child
        return None if child is None else child.pid

    def kill(self) -> None:
        """End the child from the closing thread. This thread then sees a closed socket."""
        with self._child_lock:
            if self._child is not None:
                self._child.kill()

    def _discard(self) -> int:
        """End the child and return its exit code."""
        with self._child_lock:
            child, self._child = self._child, None
            return 0 if child is None else child.bury()


def ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
