"""What a process does for itself before it runs what may hang, crash, fork or print."""

import os
import resource
import signal
import sys
from contextlib import suppress

from ..children import leave_with_parent
from ..resident import address_space

FULL, FULL_AFTER_FAILURE = 0.9, 0.5
"""Shares of its address space above which a process ends after a piece of work. What failed for want of memory must not
find the process as full as it left it."""


def under_limits(parent: int, memory_bytes: int) -> None:
    """Die with the process ``parent``, have no more address space than ``memory_bytes`` (0: no limit), leave Ctrl-C to
    the parent, and print into its log."""
    leave_with_parent(signal.SIGKILL)  # on other systems than Linux the closed socket ends it
    if os.getppid() != parent:
        sys.exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(2, 1)


def mute_forks(socket_fd: int) -> None:
    """Have copies of this process, which a user's code may fork, say nothing in its place and not outlive it. Programs
    that it starts do not hold the socket: our end of it closes when this process ends."""
    os.set_inheritable(socket_fd, False)
    os.register_at_fork(after_in_child=lambda: _be_a_fork(socket_fd))


def _be_a_fork(socket_fd: int) -> None:
    with suppress(OSError):  # a copy of a copy has closed it already
        os.close(socket_fd)
    leave_with_parent(signal.SIGKILL)


def is_full(memory_bytes: int, *, failed: bool) -> bool:
    """Whether this process is to end after what it has just done."""
    return bool(memory_bytes) and address_space() > memory_bytes * (FULL_AFTER_FAILURE if failed else FULL)
