"""Texts from outside: what nobody writes on purpose. Pure."""

from __future__ import annotations

import re
import unicodedata

_NOBODY_MEANS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def defect(text: str) -> str | None:
    """What is wrong with a text that goes into a prompt or is a gold, or None. A control character is a slip of
    escaping (in JSON, and in TOML's double quotes, one backslash and ``frac`` is a form feed and ``rac``); half a
    character cannot be tokenized."""
    found = _NOBODY_MEANS.search(text)
    if found is None:
        return None
    around = text[max(found.start() - 20, 0) : found.end() + 20]
    if found[0] >= "\ud800":
        return f"half a character, {found[0]!r}, in {around!r}"
    return f"the control character {found[0]!r} in {around!r}; where a backslash is meant, write it twice"


_TURNS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that make a terminal show letters in another order than they stand in."""


def visible(text: str) -> str:
    """``text`` as a terminal may be given it: what would steer the terminal, or cannot be encoded, is written out as
    Python does, ``\\x1b``. Line ends and tabs stay."""
    return "".join(char if char in "\n\t" or not _steers(char) else _written_out(char) for char in text)


def _steers(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _TURNS


def _written_out(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def middle_cut(text: str, longest: int) -> tuple[str, int, str]:
    """``text`` as (its beginning, characters left out, its end): of one longer than ``longest`` characters, as many of
    both ends as make that; of another one, all of it, 0 and nothing."""
    if len(text) <= longest:
        return text, 0, ""
    head, end = (longest + 1) // 2, longest // 2
    return text[:head], len(text) - head - end, text[len(text) - end :] if end else ""
