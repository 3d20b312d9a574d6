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

HEAD = struct.Struct(">cII")
"""What a frame begins with: its kind, the number of JSON bytes, the number of raw bytes."""


def send(link: socket.socket, kind: bytes, body: Any, blob: bytes = b"") -> None:
    """Write one frame. A JSON body never holds NaN as a word, because ``plain`` spells it out."""
    link.sendall(pack(kind, body, blob))


def pack(kind: bytes, body: Any, blob: bytes = b"") -> bytes:
    """One frame as bytes. Several frames that are written together wake the other end only once."""
    text = json.dumps(body).encode()
    return HEAD.pack(kind, len(text), len(blob)) + text + blob


def receive(link: socket.socket) -> tuple[bytes, Any, bytes] | None:
    """The next frame from a trusted end; None once that has closed."""
    head = _exactly(link, HEAD.size)
    if head is None:
        return None
    kind, text_bytes, blob_bytes = HEAD.unpack(head)
    text, blob = _exactly(link, text_bytes), _exactly(link, blob_bytes)
    return None if text is None or blob is None else (kind, json.loads(text), blob)


def _exactly(link: socket.socket, size: int) -> bytes | None:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        count = link.recv_into(view[at:])
        if not count:
            return None
        at += count
    return bytes(data)
