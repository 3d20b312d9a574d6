"""The process that runs reward functions: it loads them once, then judges one group after the other.

``seats`` starts it as ``python -m leeway_rl.verifier.rewards.child SOCKET_FD PARENT_PID MEMORY_BYTES``. It keeps a
clock for ``async`` functions alone: what hangs is killed from outside.

It consumes a first line, the functions as in ``[[rewards]]``, and answers with what they are (``described``), or with
``{"wrong": …}``. Then it consumes lines ``{responses, row, calls}`` and produces a line for each call
(``calling.Reply``) and one ``{"done": true, peak_bytes, last}``; ``last`` says that it ends after this one. If it dies,
the parent notices the closed socket and starts another.
"""

import json
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from ...common.children import leave_with_parent
from ...common.config import Reward
from ...common.errors import ConfigError
from ..own_memory import address_space, forget_peak, peak_bytes
from .calling import Caller, Reply
from .loading import Loaded, Loader
from .secrets import Secrets


def main(socket_fd: int, parent: int, memory_bytes: int) -> None:
    """Serve the parent at the other end of ``socket_fd``. ``memory_bytes`` 0 means no limit."""
    leave_with_parent(signal.SIGKILL)  # on other systems than Linux the closed socket ends it
    if os.getppid() != parent:
        sys.exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(2, 1)  # what a function prints goes to the worker's log
    os.register_at_fork(after_in_child=lambda: _be_a_fork(socket_fd))
    with socket.socket(fileno=socket_fd) as link, link.makefile("rb") as requests:
        _serve(link, requests, memory_bytes)


def _be_a_fork(socket_fd: int) -> None:
    """What a function has forked cannot speak for us, and does not outlive us."""
    with suppress(OSError):  # a copy of a copy has closed it already
        os.close(socket_fd)
    leave_with_parent(signal.SIGKILL)


def _serve(link: socket.socket, requests: Any, memory_bytes: int) -> None:
    def say(line: dict[str, Any]) -> None:
        link.sendall(json.dumps(line).encode() + b"\n")

    secrets = Secrets()
    loader = Loader(secrets)
    try:
        functions = loader.load([Reward(**each) for each in json.loads(requests.readline())])
    except ConfigError as error:
        say({"wrong": str(error)})
        return
    say({"functions": [described(function) for function in functions], "digest": loader.digest()})
    caller = Caller(functions, secrets)
    for line in requests:
        forget_peak()
        request, failed = json.loads(line), False

        def reply(found: Reply) -> None:
            nonlocal failed
            failed = failed or found["values"] is None
            say(found)

        caller.call(request["responses"], request["row"], [(r, i) for r, i in request["calls"]], reply)
        # What failed for want of memory must not find the process as full as it left it.
        last = bool(memory_bytes) and address_space() > memory_bytes * (0.5 if failed else 0.9)
        say({"done": True, "peak_bytes": peak_bytes(), "last": last})
        if last:
            return


def described(function: Loaded) -> dict[str, Any]:
    """What the parent has to know of a function."""
    return {
        "name": function.name,
        "asks_correct": "correct" in function.asks,
        "asks_turns": "turns" in function.asks,
        "is_async": function.is_async,
        "whole_group": function.whole_group,
        "scores_truncated": function.scores_truncated,
        "timeout_s": function.timeout_s,
    }


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
