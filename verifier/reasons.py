"""Reasons of verdicts, part of which may be somebody else's words."""

from __future__ import annotations

MAX_CHARS = 200


def printable(reason: str) -> str:
    """At most ``MAX_CHARS`` characters that any terminal and any codec can take."""
    plain = "".join(char if char.isprintable() else " " for char in reason[:MAX_CHARS])
    return plain.encode("utf-8", "replace").decode()
