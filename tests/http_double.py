"""A server on the loopback that stands in for one on the net."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class HttpDouble:
    """Has ``answer`` answer every request. Use it as a context manager; ``url`` is its address."""

    def __init__(self) -> None:
        double = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                double.answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            do_GET = do_POST = do_PUT = handle_one

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # many may come at once
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request by ``say``."""
        raise NotImplementedError

    @staticmethod
    def say(request: BaseHTTPRequestHandler, status: int, body: Any, **headers: str) -> None:
        """Answer with ``body``, as JSON unless it is bytes. ``headers`` go before those that follow from the body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = {"Content-Type": "application/json", "Content-Length": str(len(content)), "Connection": "close"}
        request.send_response(status)
        for name, value in (own | headers).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)
