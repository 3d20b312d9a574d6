"""One warm process that runs environments, from the side that can kill it. All of it runs on the host's event loop."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...common.config import Environment
from ...common.errors import ConfigError
from ...common.user_code.processes import LOADING_S, Lost, OwnCodeChild, ending
from .calling import LINE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What the environment is, as a process that has loaded it says."""

    at_once: bool
    """Whether the calls of a group's environments may run side by side, or are made in turn."""
    places: dict[str, str]
    """Where its methods begin, as ``loading.Loaded`` has it."""
    digest: str | None
    """The digest of the user's code; None where there is none."""


class EnvironmentChild(OwnCodeChild):
    """A process that runs environments, and our end of its socket."""

    module = f"{__package__}.child"

    _writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        """Take the socket to the running loop. Replies are then read as they come."""
        self._link.setblocking(False)
        self._reader, self._writer = await asyncio.open_connection(sock=self._link, limit=LINE_BYTES)

    async def load(self, environment: Environment) -> Described:
        """Have it load the class. ``ConfigError`` if it cannot, ``Lost`` or ``TimeoutError`` if it does not answer."""
        self.write(environment.model_dump(mode="json"))
        async with asyncio.timeout(LOADING_S):
            said = await self.read()
        if "wrong" in said:
            raise ConfigError(said["wrong"])
        return Described(**said)

    def write(self, said: dict[str, Any]) -> None:
        """Say one line, which may still be on its way afterwards."""
        assert self._writer is not None
        self._writer.write(json.dumps(said).encode() + b"\n")

    async def read(self) -> dict[str, Any]:
        """The next line. ``Lost`` where there is none."""
        try:
            line = await self._reader.readline()
            said: dict[str, Any] = json.loads(line)
        except (OSError, ValueError):  # what ends in the middle of a line, or is no line of ours
            raise Lost from None
        return said

    def disconnect(self) -> None:
        """Take the socket from the loop, before ``bury``."""
        if self._writer is not None:
            self._writer.transport.abort()


class EnvironmentProcess:
    """Keeps one process warm, and asks it for one group at a time."""

    def __init__(self, environment: Environment, refuse: Callable[[Described], None]) -> None:
        """``refuse`` raises ``ConfigError`` where a process has loaded what this worker may not use."""
        self._environment, self._refuse = environment, refuse
        self._child: EnvironmentChild | None = None
        self._listening: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._numbers, self._waiting = itertools.count(), dict[int, asyncio.Future[dict[str, Any]]]()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process's id; None between two processes, which begins when the end of one is noticed."""
        gone = self._listening is not None and self._listening.done()
        return None if self._child is None or gone else self._child.pid

    async def started(self) -> Described | None:
        """Make sure that a process runs and has loaded the class; what that is, where it is a new process. Raises
        ``ConfigError``, ``Lost``, ``TimeoutError`` or ``OSError``."""
        async with self._starting:
            if self._child is not None and self._listening is not None and not self._listening.done():
                return None
            await self.discard()
            if self._closed:
                raise Lost
            self._child = child = EnvironmentChild(self._environment.memory_bytes)  # it dies with this thread
            try:
                await child.connect()
                described = await child.load(self._environment)
                self._refuse(described)
            except BaseException:
                child.disconnect()  # whoever closes this meanwhile has buried the child, but not its new connection
                await self.discard()
                raise
            self._listening = asyncio.create_task(self._listen(child))
            return described

    def begin(self, row: str, seed: int) -> None:
        """Start a group."""
        assert self._child is not None
        self._child.write({"begin": {"row": row, "seed": seed}})

    async def ask(self, request: dict[str, Any], clock_s: float) -> dict[str, Any]:
        """The reply to a request. ``TimeoutError`` if it takes longer, ``Lost`` if the process ends."""
        if self._child is None:
            raise Lost
        number = next(self._numbers)
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        self._child.write({"n": number, **request})
        try:
            async with asyncio.timeout(clock_s):
                return await waiting
        finally:
            del self._waiting[number]

    async def end(self, clock_s: float) -> None:
        """End a group of which nothing is under way. A process that is full ends with it."""
        assert self._child is not None
        assert not self._waiting
        self._waiting[-1] = ended = asyncio.get_running_loop().create_future()
        self._child.write({"end": True})
        try:
            async with asyncio.timeout(clock_s):
                last = (await ended)["last"]
        except (TimeoutError, Lost):
            last = True
        finally:
            del self._waiting[-1]
        if last:
            await self.discard()

    async def discard(self) -> str:
        """End the process, and whatever it has started. Returns how it ended."""
        child, self._child = self._child, None
        if child is None:
            return "it was not there"
        if self._listening is not None and self._listening is not asyncio.current_task():
            self._listening.cancel()
        self._fail_waiting()
        child.disconnect()
        return ending(await asyncio.to_thread(child.bury))

    async def how_it_ended(self) -> str:
        """How a process that has closed its socket ended by itself."""
        if self._child is not None:
            await asyncio.to_thread(self._child.ended_by_itself)
        return await self.discard()

    async def close(self) -> None:
        """End the process, and start none any more."""
        self._closed = True
        await self.discard()

    async def _listen(self, child: EnvironmentChild) -> None:
        try:
            while True:
                said = await child.read()
                waiting = self._waiting.get(said.get("n", -1))
                if waiting is not None and not waiting.done():
                    waiting.set_result(said)
        except Lost:
            self._fail_waiting()

    def _fail_waiting(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Lost())
