"""A TCP proxy on the loopback between the roles and Redis, whose connections can be cut and slowed."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

_CHUNK = 1 << 16


class Proxy:
    """A context manager: on entering, it begins to listen in a thread of its own."""

    def __init__(self, port: int) -> None:
        """Pass on what arrives at ``own_port`` of the loopback to its ``port``, and back."""
        self._upstream = port
        self.own_port = 0
        self.delay_s = 0.0
        """How many seconds every piece of data is held back, in either direction."""
        self.refusing = False
        """Whether a new connection is closed at once."""
        self._links: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None] | None] = set()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def cut(self) -> int:
        """Break every connection, and return how many there were."""
        return asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(5)

    async def _cut(self) -> int:
        links = list(self._links)
        for writer in links:
            writer.transport.abort()
        return len(links) // 2

    async def _listen(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.own_port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._over.wait()
        server.close()
        self.refusing = True
        await self._cut()
        await asyncio.gather(*[task for task in self._serving if task is not None])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(task := asyncio.current_task())
        try:
            if not self.refusing:
                # OSError: the server is away, so the client's connection is closed too.
                with suppress(OSError):
                    await self._join(reader, writer, *await asyncio.open_connection("127.0.0.1", self._upstream))
        finally:
            await _close(writer)
            self._serving.discard(task)

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back_reader: asyncio.StreamReader,
        back_writer: asyncio.StreamWriter,
    ) -> None:
        self._links |= {writer, back_writer}
        try:
            await asyncio.gather(self._pass(reader, back_writer), self._pass(back_reader, writer))
        finally:
            self._links -= {writer, back_writer}
            await _close(back_writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(_CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(piece)
                await writer.drain()
        writer.close()  # the other end notices, and its direction ends too


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
