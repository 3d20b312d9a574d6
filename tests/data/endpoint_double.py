"""A server on the loopback that speaks as much of the chat-completions protocol as is needed, and can misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CUT = object()
"""In place of an answer: the connection breaks in the middle of one."""


class EndpointDouble:
    """``behave(request, times)`` says what comes of a request that was made ``times`` times before: a text (an answer),
    an int (a status), a dict (that JSON), bytes (those, as HTML) or ``CUT``. Use it as a context manager."""

    def __init__(self, behave: Callable[[dict[str, Any], int], Any]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.most_at_once = 0
        self.at_once, self.lock = 0, threading.Lock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = json.loads(body)
                with double.lock:
                    times = double.requests.count(request)
                    double.requests.append(request)
                    double.at_once += 1
                    double.most_at_once = max(double.most_at_once, double.at_once)
                try:
                    double.answer(self, behave(request, times))
                finally:
                    with double.lock:
                        double.at_once -= 1

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # all of a step's requests come at once
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> EndpointDouble:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @staticmethod
    def answer(handler: BaseHTTPRequestHandler, what: Any) -> None:
        kind, status, body = "application/json", 200, b""
        if isinstance(what, str):
            what = completion(what)
        if isinstance(what, int):
            status, body = what, json.dumps({"error": {"message": f"no: {what}"}}).encode()
        elif isinstance(what, bytes):
            kind, body = "text/html", what
        elif what is CUT:
            body = b'{"id": "never finished'
        else:
            body = json.dumps(what).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body) + (100 if what is CUT else 0)))
        handler.send_header("Connection", "close")
        if status != 200:
            handler.send_header("retry-after-ms", "1")
        handler.end_headers()
        handler.wfile.write(body)


def completion(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """The JSON of an answer."""
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 0,
        "model": "double",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }


def asked(request: dict[str, Any]) -> str:
    """What the request asks."""
    return request["messages"][-1]["content"]
