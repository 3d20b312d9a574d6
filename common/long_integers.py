"""Reads JSON whose integers are longer than Python reads from text (4,300 digits; its conversion is quadratic).

Such integers stay texts at first. Whoever needs the value pays for it, within bounds of their own. Until then they
travel as ``{"leeway:int": "their digits"}``, which JSON, Parquet and a message carry like anything else.
"""

import json
from collections.abc import Callable
from typing import Any

MARK = "leeway:int"


def marked(digits: str) -> dict[str, str]:
    """The object that stands for the integer with these digits."""
    return {MARK: digits}


def loads(text: str | bytes, *, long: Callable[[str], Any] = marked, **options: Any) -> Any:
    """``json.loads``, except that an integer that is too long becomes what ``long`` makes of its digits. Raises as
    ``json.loads`` does."""

    def integer(digits: str) -> Any:
        try:
            return int(digits)
        except ValueError:
            return long(digits)

    try:
        return json.loads(text, **options)  # a hook would cost one call for each number
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(text, parse_int=integer, **options)
