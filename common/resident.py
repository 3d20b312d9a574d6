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
    with suppress(OSError), open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"VmHWM"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def begin_peak() -> None:
    """Have ``peak_bytes`` start anew from what is held now, where the system lets us."""
    with suppress(OSError), open("/proc/self/clear_refs", "wb") as clear:
        clear.write(b"5")


def address_space() -> int:
    """This process's address space in bytes, which a limit counts; 0 if the system does not say."""
    with suppress(OSError), open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
    return 0
