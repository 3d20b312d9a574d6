"""The outer shapes an answer can have, and how a text is cut at its outermost separators."""

import re
from dataclasses import dataclass
from typing import TypeAlias

Reading: TypeAlias = "Leaf | Group | Several | Union | Matrix | Equation"


@dataclass(frozen=True, slots=True)
class Leaf:
    """Text without an outer shape."""

    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """Items between brackets that may differ: a tuple, a vector, or an interval of two ends."""

    opening: str
    closing: str
    items: tuple[Reading, ...]
    name: str = ""
    """The letter that a relation confines to this interval; empty if it is written as an interval."""


@dataclass(frozen=True, slots=True)
class Several:
    """Several answers: a set in braces, or a list without any."""

    items: tuple[Reading, ...]
    braces: bool
    ordered: bool = False
    """Whether the order matters: it is a sequence with dots in it."""


@dataclass(frozen=True, slots=True)
class Union:
    """Intervals joined by ∪."""

    items: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of cells."""

    rows: tuple[tuple[Reading, ...], ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """A chain of equal things, by its ends."""

    left: str
    right: Reading
    label: str | None
    """The name on the left side (``x``, ``f(x)``, ``AB``, ``(p,q)``, ``f(2)``); None if that side is an expression."""


NAME = re.compile(r"\|?(?:[a-zA-Z]|\\[a-z]++)(?:_(?:\w|\{\w++\}))?'*+(?:\([a-z](?:,[a-z])*+\))?\|?")
"""What a relation may be about: x, x_1, f(x), |z|."""


COMMAND = re.compile(r"\\[a-zA-Z]+")
_LETTER = re.compile(r"[a-zA-Z]")


def has_letters(text: str) -> bool:
    """Whether letters stand in it beside its commands."""
    return _LETTER.search(COMMAND.sub("", text)) is not None


def split(text: str, separators: str) -> list[str] | None:
    """``text`` split at its outermost separators; None if its brackets do not match in number."""
    pieces, depth, start = [], 0, 0
    for at, sign in enumerate(text):
        if sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
            if depth < 0:
                return None
        elif depth == 0 and sign in separators:
            pieces.append(text[start:at].strip())
            start = at + 1
    pieces.append(text[start:].strip())
    return pieces if depth == 0 else None


def closing(text: str, opening: int) -> int:
    """Where the bracket at ``opening`` closes (any kind closes any kind, as in half-open intervals); -1 if nowhere."""
    depth = 0
    for at in range(opening, len(text)):
        depth += text[at] in "([{"
        depth -= text[at] in ")]}"
        if depth == 0:
            return at
    return -1
