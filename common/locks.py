"""Locks that allow one writer for each place. A lock goes when its processes end, in any way, and says who holds it.

A process that is started with ``pass_fds=[lock.fileno()]`` holds the lock too, so what a killed command left running
still counts as at work there.
"""

import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import DataError, LeewayError
from .identity import mark_of

LEAVING_S = 90.0
"""Seconds to wait for what a killed command started: it was told to leave, and has ``broker.drain_s`` for that."""
_LOOK_S = 0.1
LISTED = Path("/proc/locks")
"""Where Linux lists the locks."""


@contextmanager
def only_writer(
    lock: Path, place: str, *, error: type[LeewayError] = DataError, leaving_s: float = LEAVING_S, alive_s: float = 0.0
) -> Iterator[IO[str]]:
    """Hold the file ``lock``, and with it ``place``. If another process has it, ``error`` says who. If that process is
    gone and only its children are left, wait for them first, at most ``leaving_s`` seconds. One that lives is waited
    for ``alive_s`` seconds: more than none where it has been told to leave."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+", encoding="utf-8")
    except OSError as problem:
        raise DataError(f"{place}: {problem.strerror}") from problem
    with file:
        _take(file, place, error, leaving_s, alive_s)
        file.seek(0)
        file.truncate()
        pid = os.getpid()
        file.write(f"{pid} {socket.gethostname()} {' '.join(sys.argv)[:200]}\n{mark_of(pid)}\n")
        file.flush()
        yield file


def _take(file: IO[str], place: str, error: type[LeewayError], leaving_s: float, alive_s: float) -> None:
    began, said = time.monotonic(), False
    while not try_lock(file):
        file.seek(0)
        pid, host, command, mark = _said(file.read())
        gone = _is_gone(pid, host, mark)
        if time.monotonic() - began >= (leaving_s if gone else alive_s):
            who = f"process {pid} on {host} ({command})" if pid else "another process"
            left = "what it started has not left yet" if gone else "stop it first, or name another"
            raise error(f"{place}: {who} is at work there; {left}")
        if not said:
            who = f"what process {pid} started" if gone else f"process {pid}"
            print(f"{place}: waiting until {who} has left", file=sys.stderr)
            said = True
        time.sleep(_LOOK_S)


def holder(lock: Path) -> tuple[int, str] | None:
    """(process id, host) of the last holder of the file ``lock`` if it may still be at work; None if nobody is. A
    process of this machine that is gone does not count."""
    try:
        pid, host, _, mark = _said(lock.read_text(encoding="utf-8"))
    except OSError:
        return None
    return (int(pid), host) if pid.isdecimal() and not _is_gone(pid, host, mark) else None


def _said(text: str) -> tuple[str, str, str, str]:
    """(process id, host, command, the process's mark) in the text of a lock; empty if it has none."""
    who, _, mark = text.removesuffix("\n").rpartition("\n")
    pid, _, rest = who.partition(" ")
    host, _, command = rest.partition(" ")
    return pid, host, command, mark


def _is_gone(pid: str, host: str, mark: str) -> bool:
    """Whether the process was one of this machine and is gone; another one may have its id."""
    return pid.isdecimal() and host == socket.gethostname() and mark_of(int(pid)) != mark


def hold(file: IO[bytes], place: str, *, leaving_s: float = 5.0) -> None:
    """Hold an open file for as long as it is open. ``DataError`` if another process still holds it after
    ``leaving_s`` seconds, in which one leaves whose parent is gone."""
    until = time.monotonic() + leaving_s
    while not try_lock(file):
        if time.monotonic() > until:
            raise DataError(f"{place}: another process writes there; wait for it, or name another")
        time.sleep(_LOOK_S)


def try_lock(file: IO[Any], *, shared: bool = False) -> bool:
    """Try to lock the open file, alone or ``shared`` with others that share it. Returns whether that worked; it does
    not while somebody holds it otherwise."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def share(file: IO[Any]) -> None:
    """Lock the open file together with others that share it. Waits while somebody holds it alone."""
    fcntl.flock(file, fcntl.LOCK_SH)


def unlock(file: IO[Any]) -> None:
    """Give the lock on an open file back. Closing it is not enough where it is mapped: a mapping holds the lock too."""
    fcntl.flock(file, fcntl.LOCK_UN)


def is_held(lock: Path) -> bool:
    """Whether a process of this machine holds the file ``lock``. If the system can say (Linux), nothing is tried: a try
    holds the lock for a moment, and would keep a writer away that comes just then."""
    try:
        with lock.open("rb") as file:
            return bool(holders(file.fileno()))
    except OSError:
        return lock.exists() and _held_when_tried(lock)


def holders(descriptor: int) -> list[int]:
    """The process ids that hold a lock on an open file, as far as this process may see them. Raises ``OSError`` where
    the system does not say."""
    name, held = _listed_as(descriptor), LISTED.read_text().splitlines()
    return [int(words[4]) for words in map(str.split, held) if words[1] == "FLOCK" and words[5] == name]


def _listed_as(descriptor: int) -> str:
    """The name of an open file in ``LISTED``: its device and its inode. The device is that of the mount, because
    ``fstat`` tells another one where a file system has several (btrfs)."""
    said = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
    mount = said[said.index("mnt_id:") + 1]
    for words in map(str.split, Path("/proc/self/mountinfo").read_text().splitlines()):
        if words[0] == mount:
            major, minor = map(int, words[2].split(":"))
            return f"{major:02x}:{minor:02x}:{os.fstat(descriptor).st_ino}"
    raise OSError(f"the mount {mount} is not listed")


def _held_when_tried(lock: Path) -> bool:
    with lock.open("rb") as file:
        return not try_lock(file)
