"""Processes of this machine that are stopped (SIGSTOP, or Ctrl-Z in a terminal): they look as if they were gone."""

import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path


def is_stopped(pid: int) -> bool:
    """Whether a process is there and stopped."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] == "T"
    return False


def stopped_servers(nodes: Iterable[tuple[str, int]]) -> list[int]:
    """The process ids of those Redis or Valkey servers at ``nodes`` (host, port) that run here and are stopped."""
    found, here = [], ("localhost", "127.0.0.1", "::1", socket.gethostname())
    ports = {port for host, port in nodes if host in here}
    for listed in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            pid = int(listed.parent.name)
            if _port_of(listed.read_bytes()) in ports and is_stopped(pid):
                found.append(pid)
    return sorted(found)


def _port_of(command: bytes) -> int | None:
    """The port of a server, which names itself ``redis-server 127.0.0.1:6379`` where processes are listed; None for any
    other process."""
    name, _, rest = command.replace(b"\0", b" ").partition(b" ")
    port = rest.partition(b" ")[0].rpartition(b":")[2]
    is_server = name.rpartition(b"/")[2].startswith((b"redis", b"valkey"))
    return int(port) if is_server and len(port) <= 5 and port.isdigit() else None


def told(whose: str, pids: Sequence[int]) -> str:
    """That processes are stopped, and what wakes them; empty where there are none."""
    if not pids:
        return ""
    which = "process" if len(pids) == 1 else "processes"
    are, names = "is" if len(pids) == 1 else "are", [str(pid) for pid in pids]
    return f"{whose} {which} {', '.join(names)} {are} on this machine and stopped: kill -CONT {' '.join(names)}"
