"""Reads JSON that somebody else wrote, and says clearly what Python would pass over or give up at. Pure."""

import json
from typing import Any

from .long_integers import loads

DEEP = 100
"""Most levels of lists and objects inside one another. No real rows have more. Python gives up at some hundreds; where
exactly depends on the caller."""


def parsed(text: bytes | str, **options: Any) -> Any:
    """The value in a JSON text, by ``loads`` with its ``options``. Raises ``ValueError``, which says why there is none,
    or why it cannot be used: an object with a key twice says two things, and Python would silently take the last."""
    try:
        value = loads(text.decode() if isinstance(text, bytes) else text, object_pairs_hook=_once_each, **options)
    except UnicodeDecodeError as error:
        raise NotUtf8(f"byte {error.object[error.start]:#04x} at position {error.start + 1}") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    brackets = (b"[", b"{") if isinstance(text, bytes) else ("[", "{")
    if sum(map(text.count, brackets)) > DEEP and _too_deep(value):  # type: ignore[arg-type]
        raise ValueError(_TOO_DEEP)
    return value


class NotUtf8(ValueError):
    """The bytes are not UTF-8; the message says which and where."""


_TOO_DEEP = f"more than {DEEP} lists and objects inside one another"


def line_of_ours(text: bytes | str) -> Any:
    """The value in a line of a file that Leeway writes. ``ValueError`` if it is not JSON, not UTF-8, or nested so deep
    that Python gives up."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return found


def _too_deep(value: Any) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(DEEP):
        level = [
            part
            for holder in level
            for part in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(part, (dict, list))
        ]
        if not level:
            return False
    return True
