"""The process that runs reward functions: it loads them once, then judges one group after the other.

``seats`` starts it as ``python -m leeway_rl.verifier.rewards.child SOCKET_FD PARENT_PID MEMORY_BYTES``. It keeps a
clock for ``async`` functions alone: what hangs is killed from outside.

It consumes a first line, the functions as in ``[[rewards]]``, and answers with what they are (``described``), or with
``{"wrong": …}``. Then it consumes lines ``{responses, row, calls}`` and produces a line for each call
(``calling.Reply``) and one ``{"done": true, peak_bytes, last}``; ``last`` says that it ends after this one. If it dies,
the parent notices the closed socket and starts another.
"""

import json
import socket
import sys
from typing import Any

from ...common.config import Reward
from ...common.errors import ConfigError
from ...common.resident import begin_peak, peak_bytes
from ...common.user_code.secrets import Secrets
from ...common.user_code.serving import is_full, mute_forks, under_limits
from .calling import Caller, Reply
from .loading import KIND, Loaded, Loader


def main(socket_fd: int, parent: int, memory_bytes: int) -> None:
    """Serve the parent at the other end of ``socket_fd``. ``memory_bytes`` 0 means no limit."""
    under_limits(parent, memory_bytes)
    mute_forks(socket_fd)
    with socket.socket(fileno=socket_fd) as link, link.makefile("rb") as requests:
        _serve(link, requests, memory_bytes)


def _serve(link: socket.socket, requests: Any, memory_bytes: int) -> None:
    def say(line: dict[str, Any]) -> None:
        link.sendall(json.dumps(line).encode() + b"\n")

    secrets = Secrets(KIND.worker)
    loader = Loader(secrets)
    try:
        functions = loader.load([Reward(**each) for each in json.loads(requests.readline())])
    except ConfigError as error:
        say({"wrong": str(error)})
        return
    say({"functions": [described(function) for function in functions], "digest": loader.digest()})
    caller = Caller(functions, secrets)
    for line in requests:
        begin_peak()
        request, failed = json.loads(line), False

        def reply(found: Reply) -> None:
            nonlocal failed
            failed = failed or found["values"] is None
            say(found)

        caller.call(request["responses"], request["row"], [(r, i) for r, i in request["calls"]], reply)
        last = is_full(memory_bytes, failed=failed)
        say({"done": True, "peak_bytes": peak_bytes(), "last": last})
        if last:
            return


def described(function: Loaded) -> dict[str, Any]:
    """What the parent has to know of a function."""
    return {
        "name": function.name,
        "place": function.place,
        "asks_correct": "correct" in function.asks,
        "asks_turns": "turns" in function.asks,
        "is_async": function.is_async,
        "whole_group": function.whole_group,
        "scores_truncated": function.scores_truncated,
        "timeout_s": function.timeout_s,
    }


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
