"""What tells this machine and its processes from all others."""

import hashlib
import os
import socket
from contextlib import suppress
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
MARK_DIGITS = 8


def this_machine() -> str:
    """What no other machine has, and its containers have in common: the id of its boot, or else its host name."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return socket.gethostname()


def mark_of(pid: int) -> str:
    """``MARK_DIGITS`` hexadecimal digits for a process of ours or a neighbour's that go by its start, so that whoever
    gets its id later, or has it in another container or on another machine, has other ones. Empty where the process is
    gone, or where the system does not say."""
    with suppress(OSError):
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]  # ticks since the boot
        seen_from = os.readlink("/proc/self/ns/pid")  # within it, ids are unique
        return hashlib.sha256(f"{this_machine()} {seen_from} {started}".encode()).hexdigest()[:MARK_DIGITS]
    return ""
