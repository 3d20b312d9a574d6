"""Texts from outside: what nobody writes on purpose. Pure."""

from __future__ import annotations

import re

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
