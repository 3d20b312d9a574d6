"""JSON whose integers are longer than Python reads from text (4,300 digits; its conversion is quadratic).

They are no numbers yet: whoever needs their value pays for it, within bounds of his own. Until then they travel as
``{"leeway:int": "their digits"}``, which JSON, Parquet and a message carry as they do anything else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

MARK = "leeway:int"


def marked(digits: str) -> dict[str, str]:
    """What stands for the integer."""
    return {MARK: digits}


def loads(text: str | bytes, *, long: Callable[[str], Any] = marked, **options: Any) -> Any:
    """``json.loads``; an integer that is too long becomes what ``long`` makes of its digits. Raises as that does."""

    def integer(digits: str) -> Any:
        try:
            return int(digits)
        except ValueError:
            return long(digits)

    try:
        return json.loads(text, **options)  # a hook would cost a call a number
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(text, parse_int=integer, **options)
