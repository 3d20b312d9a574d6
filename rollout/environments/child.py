"""The process that runs environments: it loads their class once, then answers for one group after the other.

``process`` starts it as ``python -m leeway_rl.rollout.environments.child SOCKET_FD PARENT_PID MEMORY_BYTES``. It keeps
no clock: what hangs is killed from outside.

It consumes a first line, the section ``[environment]``, and answers with ``{at_once, places, digest}`` or with
``{"wrong": …}``. Then it consumes lines: ``{"begin": {row, seed}}``, which starts a group and has no answer,
``calling.Request``, each of which is answered by a ``calling.Reply``, and ``{"end": true}``, which is answered by
``{"last": …}``; ``last`` says that the process ends after this group. If it dies, the parent notices the closed socket
and starts another.
"""

import asyncio
import json
import socket
import sys
from typing import Any, BinaryIO

from ...common.config import Environment
from ...common.errors import ConfigError
from ...common.user_code.secrets import Secrets
from ...common.user_code.serving import is_full, mute_forks, under_limits
from .calling import LINE_BYTES, Environments
from .loading import KIND, Loader


def main(socket_fd: int, parent: int, memory_bytes: int) -> None:
    """Serve the parent at the other end of ``socket_fd``. ``memory_bytes`` 0 means no limit."""
    under_limits(parent, memory_bytes)
    mute_forks(socket_fd)
    with socket.socket(fileno=socket_fd) as link, link.makefile("rb") as requests:
        secrets = Secrets(KIND.worker)
        loader = Loader(secrets)
        try:
            loaded = loader.load(Environment(**json.loads(requests.readline())))
        except ConfigError as error:
            link.sendall(_line({"wrong": str(error)}))
            return
        link.sendall(_line({"at_once": loaded.at_once, "places": loaded.places, "digest": loader.digest()}))
        environments = Environments(loaded, secrets)
        if loaded.at_once:
            asyncio.run(_serve_at_once(link, environments, memory_bytes))
        else:
            _serve_in_turn(link, requests, environments, memory_bytes)


def _serve_in_turn(link: socket.socket, requests: BinaryIO, environments: Environments, memory_bytes: int) -> None:
    """Answer each request before the next is read. No event loop runs, so a user's code may run one of its own."""
    runner: asyncio.Runner | None = None
    for line in requests:
        request = json.loads(line)
        if "n" in request:
            reply = environments.called(request)
            if not isinstance(reply, dict):  # one of reset and step is async
                runner = runner or asyncio.Runner()
                reply = runner.run(_of(reply))
            link.sendall(_line(reply))
        elif (said := _between_calls(request, environments, memory_bytes)) is not None:
            link.sendall(_line(said))


async def _of(reply: Any) -> Any:
    return await reply


async def _serve_at_once(link: socket.socket, environments: Environments, memory_bytes: int) -> None:
    """Answer requests as their answers come."""
    link.setblocking(False)
    requests, replies = await asyncio.open_connection(sock=link, limit=LINE_BYTES)
    under_way = set[asyncio.Task[None]]()

    async def one(request: dict[str, Any]) -> None:
        reply = environments.called(request)
        replies.write(_line(reply if isinstance(reply, dict) else await reply))

    while line := await requests.readline():
        request = json.loads(line)
        if "n" in request:
            task = asyncio.create_task(one(request))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        elif (said := _between_calls(request, environments, memory_bytes)) is not None:
            replies.write(_line(said))


def _between_calls(request: dict[str, Any], environments: Environments, memory_bytes: int) -> dict[str, Any] | None:
    """The answer to what begins or ends a group, if there is one."""
    if "begin" in request:
        environments.begin(**request["begin"])
        return None
    environments.begin("", 0)
    return {"last": is_full(memory_bytes, failed=False)}


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
