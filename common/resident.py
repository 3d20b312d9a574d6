"""Memory of this host that a process holds, by the kernel's own records (on Linux)."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path


def resident_bytes() -> int:
    """What this process and those that it has started hold now, in bytes; 0 where the system does not say. A page that
    several of them share counts in each."""
    total, waiting = 0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        with suppress(OSError):  # it has ended meanwhile
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
            for thread in os.listdir(f"/proc/{pid}/task"):
                waiting += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return total


def peak_bytes() -> int:
    """The most that this process has held since ``begin_peak``, or else since its start, in bytes."""
    said = _read("/proc/self/status")
    at = said.find(b"VmHWM:")
    if at >= 0:
        return int(said[at + 6 : said.index(b"kB", at)]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def begin_peak() -> None:
    """Have ``peak_bytes`` start anew from what is held now, where the system lets us."""
    try:
        file = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(file, b"5")
        finally:
            os.close(file)
    except OSError:
        return


def address_space() -> int:
    """This process's address space in bytes, which a limit counts; 0 if the system does not say."""
    return int((_read("/proc/self/statm").split() or [b"0"])[0]) * resource.getpagesize()


def _read(path: str) -> bytes:
    """A small file of the kernel's; empty where there is none. Graders ask for each answer, so no file object is
    made."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, 8192)
    finally:
        os.close(file)
