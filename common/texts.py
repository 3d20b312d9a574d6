"""Checks texts and values from outside for what nobody writes on purpose and what cannot be written again. Pure."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from .json_text import DEEP

_NOBODY_MEANS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def defect(text: str) -> str | None:
    """What is wrong with a text that goes into a prompt or is a gold; None if nothing is. A control character is a slip
    of escaping: in JSON and in TOML's double quotes, one backslash and ``frac`` is a form feed and ``rac``. Half a
    character cannot be tokenized."""
    found = _NOBODY_MEANS.search(text)
    if found is None:
        return None
    around = text[max(found.start() - 20, 0) : found.end() + 20]
    if found[0] >= "\ud800":
        return f"half a character, {found[0]!r}, in {around!r}"
    return f"the control character {found[0]!r} in {around!r}; where a backslash is meant, write it twice"


_TURNS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that make a terminal show letters in an order other than their own."""


def visible(text: str) -> str:
    """``text`` made safe for a terminal: characters that would steer the terminal, or cannot be encoded, are written
    out as in Python, ``\\x1b``. Line ends and tabs stay."""
    return "".join(
        char if char in "\n\t" or not _steers(char) else char.encode("unicode_escape").decode() for char in text
    )


def _steers(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _TURNS


def middle_cut(text: str, longest: int) -> tuple[str, int, str]:
    """(beginning, number of characters left out, end) of ``text``. A text of more than ``longest`` characters keeps so
    many of its two ends together. A shorter one is all beginning."""
    if len(text) <= longest:
        return text, 0, ""
    head, end = (longest + 1) // 2, longest // 2
    return text[:head], len(text) - head - end, text[len(text) - end :] if end else ""


_HALF = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Unread:
    """Stands in a row for a value that could not be read out of a table. Whoever needs the value says why."""

    why: str

    def __str__(self) -> str:
        return self.why


def flaw(value: Any, level: int = 0) -> tuple[str, str] | None:
    """(where inside, what) of the first thing in a value that JSON, Redis or a tokenizer cannot take; None if there is
    none. Half a character comes from a ``\\ud800`` in JSON; bytes, dates and decimals come from Parquet."""
    match value:
        case str():
            found = None if value.isascii() else _HALF.search(value)
            return None if found is None else ("", f"half a character, {found[0]!r}")
        case None | bool() | int() | float():
            return None
        case Unread():
            return "", value.why
        case dict() | list() | tuple() if level == DEEP:
            return "", f"more than {DEEP} lists and objects inside one another"
        case dict():
            inner = ((f".{key}", part) for key, part in value.items())
            if any(not isinstance(key, str) or flaw(key) for key in value):
                return "", "a key that is no text"
        case list() | tuple():
            inner = ((f"[{number}]", part) for number, part in enumerate(value))
        case _:
            return "", f"{type(value).__name__}, expected a text, a number, a list or an object"
    for place, part in inner:
        if (found_inside := flaw(part, level + 1)) is not None:
            return place + found_inside[0], found_inside[1]
    return None
