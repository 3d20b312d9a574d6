"""The web server of ``leeway watch``: the page, its events, texts of samples and, where it is allowed, the dial."""

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ...common.controls import CONTROLS, name_of
from ...common.errors import BrokerError, LeewayError
from ...common.queue.connection import RedisError, refused_or_lost
from ..running.controls import turned
from .board import Board
from .charts import as_data
from .source import Source

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
LOOK_S = 1.0
"""Seconds between two looks at the run."""
LONGEST = 1000
"""Bytes of a turn of the dial, at most."""
HEADERS = (
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     b"img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)  # fmt: skip
"""The browser itself sees to it that nothing is loaded from elsewhere, and nothing sent there."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]


class Watching:
    """The page of one run. ``token`` is what a turn of the dial must bring along; without one nothing can be turned."""

    def __init__(self, source: Source, *, token: str | None = None, look_s: float = LOOK_S) -> None:
        self.board = Board([] if token is None else [*map(name_of, CONTROLS)])
        self._source, self._token, self._look_s = source, token, look_s
        self._asking = asyncio.Lock()
        """Held while the source is in use: it is one connection, and one place in each file."""

    def application(self, hosts: list[str]) -> Starlette:
        """The ASGI application. It answers to the names ``hosts`` alone, so that no page of another site can read it by
        giving its own name this machine's address."""
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/charts.json", self._charts),
                Route("/events", self._events),
                Route("/samples/{name}", self._texts),
                Route("/control", self._control, methods=["POST"]),
                Mount("/page", StaticFiles(directory=PAGE)),
            ],
            middleware=[
                Middleware(_Headers),
                Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _application: Starlette) -> Any:
        looking = asyncio.create_task(self._look_loop())
        yield
        self.board.end()
        await looking
        self._source.close()

    async def _look_loop(self) -> None:
        """Consumes what the run publishes and produces the board, while somebody looks at it. A look that fails
        is told, and the next one comes; the run knows nothing of it."""
        while not self.board.over.is_set():
            try:
                async with self._asking:
                    found = await asyncio.to_thread(self._source.read)
                self.board.take(found)
            except Exception:  # at the boundary of one look
                log.exception("a look at the run failed")
            with suppress(TimeoutError):
                await asyncio.wait_for(self.board.over.wait(), self._look_s)
            await self.board.watched.wait()

    async def _page(self, _request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def _charts(self, _request: Request) -> Response:
        return JSONResponse(as_data())

    async def _events(self, _request: Request) -> Response:
        return StreamingResponse(self.board.events(), media_type="text/event-stream")

    async def _texts(self, request: Request) -> Response:
        found = self.board.answers.texts(request.path_params["name"])
        if found is None:
            return JSONResponse({"error": "this group is no longer listed"}, 404)
        return JSONResponse(found)

    async def _control(self, request: Request) -> Response:
        """Turn the dial: ``{"name": …, "value": …}``, with the token as a bearer. A page of another site cannot send
        that header without asking first, and it is not allowed to."""
        if self._token is None:
            return JSONResponse({"error": "this page is read-only; leeway watch --allow-control turns the dial"}, 403)
        said = request.headers.get("authorization", "")
        if not hmac.compare_digest(said.encode(), f"Bearer {self._token}".encode()):
            return JSONResponse(
                {"error": "the token is missing or wrong: open the address that leeway watch printed"}, 401
            )
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LONGEST:
                return JSONResponse({"error": f"more than {LONGEST} bytes"}, 413)
        try:
            asked = json.loads(body)
            name, value = str(asked["name"]), str(asked["value"])
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": 'expected {"name": …, "value": …}'}, 400)
        try:
            async with self._asking:
                told = await asyncio.to_thread(lambda: turned(self._source.connected(), name, value))
        except (LeewayError, RedisError) as error:
            what = f"Redis {refused_or_lost(error)}" if isinstance(error, RedisError) else str(error)
            return JSONResponse({"error": what}, 502 if isinstance(error, RedisError | BrokerError) else 400)
        return JSONResponse({"told": told})


class _Headers:
    """Adds ``HEADERS`` to every answer."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Scope) -> None:
            if message["type"] == "http.response.start":
                ours = {name for name, _ in HEADERS}
                message["headers"] = [*(each for each in message["headers"] if each[0] not in ours), *HEADERS]
            await send(message)

        await self._app(scope, receive, with_headers)
