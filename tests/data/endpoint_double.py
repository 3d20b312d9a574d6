"""A server on the loopback that speaks as much of the chat-completions protocol as is needed, and can misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.http_double import HttpDouble

CUT = object()
"""In place of an answer: the connection breaks in the middle of one."""


class EndpointDouble(HttpDouble):
    """``behave(request, times)`` says what comes of a request that was made ``times`` times before: a text (an answer),
    an int (a status), a dict (that JSON), bytes (those, as HTML) or ``CUT``."""

    def __init__(self, behave: Callable[[dict[str, Any], int], Any]) -> None:
        super().__init__()
        self.url += "/v1"
        self.behave, self.requests = behave, list[dict[str, Any]]()
        self.most_at_once = 0
        self.at_once, self.lock = 0, threading.Lock()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        asked = json.loads(body)
        with self.lock:
            times = self.requests.count(asked)
            self.requests.append(asked)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            what = self.behave(asked, times)
        finally:
            with self.lock:  # who has its answer may ask again before this thread goes on
                self.at_once -= 1
        self.tell(request, what)

    def tell(self, request: BaseHTTPRequestHandler, what: Any) -> None:
        """Answer with ``what``."""
        if isinstance(what, int):
            self.say(request, what, {"error": {"message": f"no: {what}"}}, **{"retry-after-ms": "1"})
        elif isinstance(what, bytes):
            self.say(request, 200, what, **{"Content-Type": "text/html"})
        elif what is CUT:
            self.say(request, 200, b'{"id": "never finished', **{"Content-Length": "122"})
        else:
            self.say(request, 200, completion(what) if isinstance(what, str) else what)


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
