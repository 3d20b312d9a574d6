"""The process that grades: one response at a time, one JSON line in, one JSON line out, until the parent is gone.

``process_seat`` starts it as ``python -m leeway_rl.verifier.grading_child SOCKET_FD PARENT_PID MEMORY_BYTES``. It keeps
no clock: if grading takes too long, the process is killed from outside. Answers are somebody else's text, so what comes
back is JSON and never a pickle.

It consumes lines ``{ability, response, golds, finished, reasoning_open}`` and produces lines ``{kind, reason,
peak_bytes, last}``; ``last`` says that it ends after this one. If it dies, the parent notices the closed socket and
starts another.
"""

import json
import socket
import sys
from typing import Any

from ..common.resident import begin_peak, peak_bytes
from ..common.types import VerdictKind
from ..common.user_code.serving import is_full, under_limits
from .graders import judge_of
from .math.symbolic import warm_up


def main(socket_fd: int, parent: int, memory_bytes: int) -> None:
    """Serve the parent at the other end of ``socket_fd``. ``memory_bytes`` 0 means no limit."""
    under_limits(parent, memory_bytes)
    warm_up()
    with socket.socket(fileno=socket_fd) as link, link.makefile("rb") as requests:
        link.sendall(b"ready\n")
        for line in requests:
            begin_peak()
            reply = _grade(json.loads(line))
            reply["peak_bytes"] = peak_bytes()
            # Caches grow. Inside Math-Verify a MemoryError would pass for "wrong", so end well before the limit.
            reply["last"] = is_full(memory_bytes, failed=True)
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
