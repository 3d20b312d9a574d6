"""Is what came out what was due? Pure, outside the sandbox, on text and on tables of nodes (``sandboxed.plain``).

Nothing here builds a hashed container out of what a solution sent: keys can be made to collide, and a dictionary of
such keys never ends.
"""

from __future__ import annotations

import math
from typing import Any

_MAX_NUMBER_CHARS = 400


def same_output(actual: str, expected: str, tolerance: float | None) -> bool:
    """Line by line. Blanks around a line and empty lines around the whole do not count; everything else does.

    With a ``tolerance``, two words that are both numbers may differ by it.
    """
    mine, due = _lines(actual), _lines(expected)
    if mine == due:
        return True
    if tolerance is None or len(mine) != len(due):
        return False
    return all(a == b or _same_words(a.split(), b.split(), tolerance) for a, b in zip(mine, due, strict=True))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _same_words(mine: list[str], due: list[str], tolerance: float) -> bool:
    return len(mine) == len(due) and all(
        a == b or _close(_number(a), _number(b), tolerance) for a, b in zip(mine, due, strict=True)
    )


def _number(word: str) -> float | None:
    if len(word) > _MAX_NUMBER_CHARS or "_" in word:
        return None
    try:
        return float(word)
    except ValueError:
        return None


def _close(mine: float | None, due: float | None, tolerance: float) -> bool:
    return mine is not None and due is not None and math.isclose(mine, due, rel_tol=tolerance, abs_tol=tolerance)


def same_value(nodes: list[Any], ref: Any, expected: Any, tolerance: float | None) -> bool:
    """Whether a returned value, as a node table, is the ``expected`` one, which came from JSON.

    JSON has no tuples, and its keys are texts: a tuple is compared as a list, a key by its JSON form. Numbers compare
    as in Python. Iterative, because a value may be nested as deep as a solution likes.
    """
    waiting = [(ref, expected)]
    budget = 50_000_000
    while waiting:
        mine, due = waiting.pop()
        budget -= 1
        if budget < 0:
            return False
        tag, body = _opened(nodes, mine)
        if isinstance(due, list):
            if tag not in ("list", "tuple") or len(body) != len(due):
                return False
            waiting.extend(zip(body, due, strict=True))
        elif isinstance(due, dict):
            if tag not in ("dict", "OrderedDict", "defaultdict", "Counter") or len(body) != len(due):
                return False
            mine_by_key = {_key(nodes, key): value for key, value in body}
            if mine_by_key.keys() != due.keys():
                return False
            waiting.extend((mine_by_key[key], value) for key, value in due.items())
        elif tag != "scalar" or not _same_scalar(body, due, tolerance):
            return False
    return True


def _opened(nodes: list[Any], ref: Any) -> tuple[str, Any]:
    """(tag, body) of what ``ref`` stands for; ``scalar`` for what JSON could hold by itself."""
    for _ in range(3):
        if type(ref) is not list:
            return "scalar", ref
        (index,) = ref
        if type(index) is not int or not 0 <= index < len(nodes):
            break
        tag, body = nodes[index]
        if tag == "int":
            return "scalar", int(body, 16)
        if tag == "float":
            return "scalar", float(body)
        if tag != "same":
            return str(tag), body
        ref = body
    return "nothing", None


def _key(nodes: list[Any], ref: Any) -> str | None:
    tag, body = _opened(nodes, ref)
    if tag != "scalar" or type(body) is float:
        return None
    if body is None or type(body) is bool:
        return {None: "null", True: "true", False: "false"}[body]
    return str(body) if type(body) is str or abs(body) < 1 << 64 else None


def _same_scalar(mine: Any, due: Any, tolerance: float | None) -> bool:
    if isinstance(mine, str) or isinstance(due, str) or mine is None or due is None:
        return type(mine) is type(due) and mine == due
    if mine == due:
        return True
    if tolerance is None or isinstance(mine, bool) or isinstance(due, bool):
        return False
    try:
        return _close(float(mine), float(due), tolerance)
    except OverflowError:
        return False
