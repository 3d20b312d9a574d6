"""Frames on a socket: one byte of kind, two lengths, a JSON text, raw bytes. Both ends of a sandbox speak this."""

import json
import socket
import struct
from typing import Any

PROGRAM, SERVE, CASE = b"P", b"S", b"C"
"""Frames from the judge: run this on that input; load this and serve; begin or end a case in a fork."""
SETTLED, ENDED, GONE, FAILED = b"T", b"E", b"G", b"F"
"""Frames from a keeper: it is ready; how a program ended; the serving child is gone; it could not do its work."""
ASK, ANSWER, VERDICT = b"A", b"B", b"V"
"""Frames between peers, in both directions, and a test program's verdict."""

_HEAD = struct.Struct(">cII")


def send(link: socket.socket, kind: bytes, body: Any, blob: bytes = b"") -> None:
    """Write one frame. A JSON body never holds NaN as a word, because ``plain`` spells it out."""
    link.sendall(pack(kind, body, blob))


def pack(kind: bytes, body: Any, blob: bytes = b"") -> bytes:
    """One frame as bytes. Several frames that are written together wake the other end only once."""
    text = json.dumps(body).encode()
    return _HEAD.pack(kind, len(text), len(blob)) + text + blob


def receive(link: socket.socket) -> tuple[bytes, Any, bytes] | None:
    """The next frame from a trusted end; None once that has closed."""
    head = _exactly(link, _HEAD.size)
    if head is None:
        return None
    kind, text_bytes, blob_bytes = _HEAD.unpack(head)
    text, blob = _exactly(link, text_bytes), _exactly(link, blob_bytes)
    return None if text is None or blob is None else (kind, json.loads(text), blob)


def head_size() -> int:
    """Bytes before a frame's body."""
    return _HEAD.size


def read_head(head: bytes) -> tuple[bytes, int, int]:
    """(kind, number of JSON bytes, number of blob bytes) in a frame's head."""
    return _HEAD.unpack(head)


def _exactly(link: socket.socket, size: int) -> bytes | None:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        count = link.recv_into(view[at:])
        if not count:
            return None
        at += count
    return bytes(data)
