"""Sets of real numbers: intervals, relations and their combinations, in one form if their ends can be put in order.

``x < 2 or x > 3`` is a union, ``-1 < x and x < 2`` an intersection; both come out as the intervals they leave. Ends are
ordered only where that is certain: exact constants that are the same, or floating-point values that are well apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from . import exact, polynomials
from .shapes import NAME, Group, Leaf, Reading, Several, Union, has_letters, split
from .tidy import AND, OR, tex
from .work import spend

Shape = Callable[[str], Reading]
"""Reads the text behind ``x ∈``."""

MAX_PIECES = 60
"""More intervals are not put in order."""
RELATION = re.compile("[<>≤≥≠]")
REALS = re.compile(
    r"\\mathbb\s*+\{?R\}?|\\R|\\Re|(?:\\text\{)?\s*+(?:the set of )?all real(?:s| numbers)\s*+\}?", re.IGNORECASE
)
_FLIPPED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "≠": "≠"}
_OR_COMMAND = re.compile(r"\\(?:lor|vee)(?![a-zA-Z])")
_AND_COMMAND = re.compile(r"\\(?:land|wedge)(?![a-zA-Z])")
_BUILDER = re.compile(r"(?P<name>[^|:∈]++)(?:∈(?P<domain>[^|:]++))?[|:](?P<condition>[^|:]++)")


def interval(text: str) -> Reading | None:
    """The set that a relation describes which confines one letter between constants; None for other texts."""
    signs = RELATION.findall(text)
    parts = [part.strip() for part in RELATION.split(text)]
    if len(signs) == 2 and signs[0] in "<≤>≥" and signs[1] in "<≤>≥" and (signs[0] in "<≤") == (signs[1] in "<≤"):
        low, name, high = parts
        if signs[0] in ">≥":
            low, high, signs = high, low, [_FLIPPED[signs[1]], _FLIPPED[signs[0]]]
        if NAME.fullmatch(name) and not name.startswith("|"):
            brackets = "[" if signs[0] == "≤" else "(", "]" if signs[1] == "≤" else ")"
            return Group(*brackets, (Leaf(low), Leaf(high)), name)
    if len(signs) != 1:
        return None
    (sign,), (left, right) = signs, parts
    if not NAME.fullmatch(left):
        left, right, sign = right, left, _FLIPPED[sign]
    if not NAME.fullmatch(left) or left.startswith("|") or not right or has_letters(right):
        return None
    below = Group("(", "]" if sign == "≤" else ")", (Leaf(r"-\infty"), Leaf(right)), left)
    above = Group("[" if sign == "≥" else "(", ")", (Leaf(right), Leaf(r"\infty")), left)
    if sign == "≠":
        return Union((below, above))
    return below if sign in "<≤" else above


def builder(inside: str, shape: Shape) -> Reading | None:
    """The set in the braces of ``{x ∈ R | x > 2}``; None for another domain, or another kind of condition."""
    found = _BUILDER.fullmatch(inside)
    if found is None or NAME.fullmatch(found["name"].strip()) is None:
        return None
    if found["domain"] is not None and REALS.fullmatch(found["domain"].strip()) is None:
        return None
    condition = interval(found["condition"]) or relations(found["condition"], shape)
    named = condition is not None and found["name"].strip() in {group.name for group in _groups(condition) or []}
    return condition if named else None


def relations(text: str, shape: Shape) -> Reading | None:
    """The set that relations in one letter, joined by words, describe; None if something else is joined."""
    text = _AND_COMMAND.sub(AND, _OR_COMMAND.sub(OR, text))
    if RELATION.search(text) is None and "∈" not in text:
        return None
    chosen: list[list[Group]] = []
    if len(split(text, OR + AND) or []) < 2:
        return None
    for alternative in split(text, OR) or []:
        conditions = [_condition(part, shape) for part in split(alternative, AND) or []]
        known = [condition for condition in conditions if condition is not None]
        if not known or len(known) < len(conditions):
            return None
        try:
            chosen.append(known[0] if len(known) == 1 else _intersection(known))
        except _Unordered:
            return None
    groups = [group for pieces in chosen for group in pieces]
    if len({group.name for group in groups}) != 1 or len(groups) > MAX_PIECES:
        return None
    groups = list(in_order(tuple(groups)) or groups)
    return groups[0] if len(groups) == 1 else Union(tuple(groups))


def _condition(text: str, shape: Shape) -> list[Group] | None:
    """One relation as intervals with their letter."""
    text = text.strip()
    found: Reading | None
    if text[:1] == "(" and text[-1:] == ")" and RELATION.search(text):
        text = text[1:-1].strip()
        if OR in text or AND in text:
            found = relations(text, shape)
            return None if found is None else _groups(found)
    name, _, value = (part.strip() for part in text.partition("∈"))
    if value and NAME.fullmatch(name):
        found = shape(value)
    elif "=" in text and RELATION.search(text) is None:
        name, _, value = (part.strip() for part in text.partition("="))
        if not value or not NAME.fullmatch(name) or has_letters(value):
            return None
        found = Group("[", "]", (Leaf(value), Leaf(value)))
    else:
        found, name = interval(text), ""
    groups = _groups(found) if isinstance(found, (Group, Union)) else None
    return groups and [Group(g.opening, g.closing, g.items, g.name or name) for g in groups]


def _groups(reading: Reading) -> list[Group] | None:
    """The intervals of a set; points are closed intervals. None if it is not a set of reals."""
    if isinstance(reading, Group):
        return [reading] if len(reading.items) == 2 and reading.opening in "([" and reading.closing in ")]" else None
    if isinstance(reading, Several) and reading.braces:
        return [Group("[", "]", (item, item)) for item in reading.items]
    if isinstance(reading, Union):
        found = [_groups(item) for item in reading.items]
        return None if None in found else [group for groups in found for group in groups or []]
    return None


# --- order -----------------------------------------------------------------------------------------------------------


class _Unordered(Exception):
    """Two ends that are too close to tell apart, or an end that is no known constant."""


@dataclass(frozen=True, slots=True)
class _End:
    value: float
    exact: polynomials.Exact | None


def _end(reading: Reading) -> _End:
    if not isinstance(reading, Leaf):
        raise _Unordered
    text = tex(reading.text).strip()
    if text.lstrip("+-") == r"\infty":
        return _End(-math.inf if text[0] == "-" else math.inf, None)
    end = exact.read(text)
    value = None if end is None else end.value()
    if value is None or value.imag:
        raise _Unordered
    return _End(value.real, end)


def _compare(left: _End, right: _End) -> int:
    """-1, 0 or 1 for less, the same, greater."""
    if left.exact is None or right.exact is None:
        return (left.value > right.value) - (left.value < right.value)
    if polynomials.same(left.exact, right.exact):
        return 0
    if abs(left.value - right.value) <= 1e-9 * max(abs(left.value), abs(right.value)):
        raise _Unordered
    return 1 if left.value > right.value else -1


def _intersection(sets: list[list[Group]]) -> list[Group]:
    """What lies in all of the sets."""
    common = sets[0]
    for other in sets[1:]:
        common = [both for left in common for right in other if (both := _overlap(left, right)) is not None]
    return common


def _overlap(left: Group, right: Group) -> Group | None:
    if left.name != right.name:
        raise _Unordered
    spend(60)
    lower = _compare(_end(left.items[0]), _end(right.items[0]))
    upper = _compare(_end(left.items[1]), _end(right.items[1]))
    low, high = left if lower > 0 else right, left if upper < 0 else right
    opening = "(" if lower == 0 and "(" in (left.opening, right.opening) else low.opening
    ending = ")" if upper == 0 and ")" in (left.closing, right.closing) else high.closing
    size = _compare(_end(low.items[0]), _end(high.items[1]))
    if size == 0 and opening + ending == "[]":
        raise _Unordered  # a value, and a relation never answers one
    if size >= 0:
        return None
    return Group(opening, ending, (low.items[0], high.items[1]), left.name)


def in_order(items: tuple[Reading, ...]) -> tuple[Group, ...] | None:
    """The intervals from left to right, with touching ones joined; None if their ends cannot be put in order."""
    groups = _groups(Union(items))
    if groups is None or len(groups) > MAX_PIECES:
        return None
    try:
        return _merged(groups)
    except _Unordered:
        return None


def _merged(groups: list[Group]) -> tuple[Group, ...]:
    merged: list[Group] = []
    for group in sorted(groups, key=lambda one: (_end(one.items[0]).value, one.opening != "[")):
        if _compare(_end(group.items[0]), _end(group.items[1])) > (0 if group.opening + group.closing == "[]" else -1):
            raise _Unordered  # (3, 1) is a point, or a mistake
        if not merged:
            merged.append(group)
            continue
        last = merged[-1]
        gap = _compare(_end(last.items[1]), _end(group.items[0]))
        if gap < 0 or (gap == 0 and last.closing == ")" and group.opening == "("):
            merged.append(group)
            continue
        further = _compare(_end(last.items[1]), _end(group.items[1]))
        closed = "]" in (last.closing, group.closing) if further == 0 else False
        ends = last if further > 0 else group
        ending = "]" if closed else ends.closing
        merged[-1] = Group(last.opening, ending, (last.items[0], ends.items[1]), last.name)
    return tuple(merged)
