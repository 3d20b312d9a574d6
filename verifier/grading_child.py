"""The process that grades: one response at a time, one JSON line in, one JSON line out, until the parent is gone.

``process_seat`` starts it as ``python -m leeway_rl.verifier.grading_child SOCKET_FD PARENT_PID MEMORY_BYTES``. It keeps
no clock: if grading takes too long, the process is killed from outside. Answers are somebody else's text, so what comes
back is JSON and never a pickle.

It consumes lines ``{ability, response, golds, finished, reasoning_open}`` and produces lines ``{kind, reason,
peak_bytes, last}``; ``last`` says that it ends after this one. If it dies, the parent notices the closed socket and
starts another.
"""

import json
import os
import resource
import signal
import socket
import sys
from typing import Any

from ..common.children import leave_with_parent
from ..common.types import VerdictKind
from .graders import judge_of
from .math.symbolic import warm_up
from .own_memory import address_space, forget_peak, peak_bytes


def main(socket_fd: int, parent: int, memory_bytes: int) -> None:
    """Serve the parent at the other end of ``socket_fd``. ``memory_bytes`` 0 means no limit."""
    leave_with_parent(signal.SIGKILL)  # on other systems than Linux the closed socket ends it
    if os.getppid() != parent:
        sys.exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(2, 1)  # a library that prints must not print into the parent's output
    warm_up()
    with socket.socket(fileno=socket_fd) as link, link.makefile("rb") as requests:
        link.sendall(b"ready\n")
        for line in requests:
            forget_peak()
            reply = _grade(json.loads(line))
            reply["peak_bytes"] = peak_bytes()
            # Caches grow. Inside Math-Verify a MemoryError would pass for "wrong", so end well before the limit.
            reply["last"] = bool(memory_bytes) and address_space() > memory_bytes // 2
            link.sendall(json.dumps(reply).encode() + b"\n")
            if reply["last"]:
                return


def _grade(item: dict[str, Any]) -> dict[str, Any]:
    try:
        kind, reason = judge_of(item["ability"]).grade(
            item["response"],
            tuple(item["golds"]),
            item["finished"],
            reasoning_open=item["reasoning_open"],
        )
    except MemoryError:
        kind, reason = VerdictKind.TIMEOUT, "grading ran out of memory"
    except Exception as error:  # the per-item boundary: one item's failure is one verdict
        kind, reason = VerdictKind.ERROR, f"{type(error).__name__}: {error}"[:200]
    return {"kind": kind.value, "reason": reason}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
