"""Reads the text of an answer into its outer shape: several answers, a tuple, an interval, a matrix, an equation.

Only the shape is read here; what stands inside stays text (``Leaf``), for ``rules`` to compare. A text has one
reading, or two where custom allows two (``1,234`` is a number or a list). Reading is linear in the text.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial

from . import units
from .sets import REALS, RELATION, builder, interval, relations
from .shapes import COMMAND, NAME, Equation, Group, Leaf, Matrix, Reading, Several, Union, closing, has_letters, split
from .tidy import AND, OR, tidy
from .work import spend

MAX_CHARS = 1000
"""Longer texts have no shape: they are one leaf."""
MAX_ITEMS = 60
"""Longer lists have no shape either."""
_MAX_DEPTH = 6

_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:(?:,\d{3})++|(?: \d{3})++)(?:\.\d++)?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d++,\d++")
_GROUPED = re.compile(r"\d,\d{3}(?!\d)")
_SPACED_COMMA = re.compile(rf"[,;] |[{OR}{AND}]")
_LIST = f",{OR}{AND}"
_TIGHT_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


@lru_cache(maxsize=1024)
def read(text: str) -> tuple[Reading, ...]:
    """The readings of ``text``, the usual one first."""
    spend(50 + len(text) // 2)
    clean = tidy(text)
    if len(clean) > MAX_CHARS:
        return (_leaf(clean),)
    number = _THOUSANDS.fullmatch(clean)
    if number is not None:
        return Leaf(clean.replace(",", "").replace(" ", "")), _shape(clean)
    value, unit = units.split(clean) if "," in clean else (clean, "")
    if unit and _THOUSANDS.fullmatch(value):  # 1,000 dollars
        return Leaf(value.replace(",", "").replace(" ", "") + clean[len(value) :]), _shape(clean)
    if _DECIMAL_COMMA.fullmatch(clean):
        return _shape(clean), Leaf(clean.replace(",", "."))
    if _groups_digits(clean):
        clean = _TIGHT_COMMA.sub("", clean)
    return (_shape(clean),)


def _groups_digits(text: str) -> bool:
    """Whether tight commas group digits because other commas stand before a space, as in 1,234, 5,678."""
    if (grouped := _GROUPED.search(text)) is None:
        return False
    if _SPACED_COMMA.search(text, grouped.end()):
        return True
    spaced = _SPACED_COMMA.search(text)
    return spaced is not None and _GROUPED.search(text, spaced.end()) is not None


def _leaf(text: str) -> Leaf:
    """A text without a shape. Words between answers in it become commas."""
    return Leaf(text.replace(OR, ", ").replace(AND, ", "))


_MATRIX = re.compile(
    r"\s*+(?:[(\[]\s*+)?\\begin\s*+\{(?P<kind>[pbB]?matrix|smallmatrix|array)\}(?:\{[lcr|\s]*+\})?(?P<body>.*)"
    r"\\end\s*+\{(?P=kind)\}\s*+(?:[)\]]\s*+)?",
    re.DOTALL,
)
_ROW_END = re.compile(r"\\\\(?:\[[^\[\]\\]*+\])?")
_SPACES = re.compile(r"\\[,;:! ]|~|\s+")


def _shape(text: str, depth: int = 0) -> Reading:
    text = text.strip()
    if depth > _MAX_DEPTH:
        return _leaf(text)
    spend(len(text) // 8)
    matrix = _MATRIX.fullmatch(text)
    if matrix is not None and "\\begin" not in matrix["body"]:
        return _matrix(matrix["body"], depth)
    if (said := _relations(text, depth)) is not None:
        return said
    pieces = split(text, ";")
    if pieces is not None and len(pieces) == 1:
        pieces = split(text, _LIST)
    if pieces is None:
        return _leaf(text)  # its brackets do not match
    if len(pieces) > 1:
        if len(pieces) > MAX_ITEMS or not all(pieces):
            return _leaf(text)
        return _several(pieces, False, depth)
    joined = split(text, "∪")
    if joined is not None and len(joined) > 1 and all(joined):
        return Union(tuple(_shape(piece, depth + 1) for piece in joined))
    if REALS.fullmatch(text):
        return Group("(", ")", (Leaf(r"-\infty"), Leaf(r"\infty")))
    if "∈" in text and (parts := split(text, "∈")) is not None and len(parts) == 2 and NAME.fullmatch(parts[0]):
        return _shape(parts[1], depth + 1)
    if text.startswith("\\{") and closing(text, 1) == len(text) - 1:
        return _bracketed(text, depth)
    if RELATION.search(text):
        return interval(text) or _value_of_event(text, depth) or _leaf(text)
    if "=" in text or "≈" in text:
        return _equation(text, depth)
    if text and text[0] in "([{":
        return _bracketed(text, depth)
    if text.count("±") == 1 and "\\mp" not in text:
        return Several(tuple(Leaf(text.replace("±", sign).removeprefix("+")) for sign in "+-"), braces=False)
    return _leaf(text)


def _several(pieces: list[str], braces: bool, depth: int) -> Several:
    items: list[Reading] = []
    for piece in pieces:
        item = _shape(piece, depth + 1)
        # 1 ± √2 among others stands for two of them
        items += item.items if isinstance(item, Several) and "±" in piece and "," not in piece else [item]
    return Several(tuple(items), braces, ordered=any("…" in piece for piece in pieces))


def _bracketed(text: str, depth: int) -> Reading:
    start = 2 if text.startswith("\\{") else 1
    end = closing(text, start - 1)
    if end != len(text) - 1:
        return _leaf(text)
    inside = text[start : end - (text[end - 1] == "\\")]
    opening, ending = text[0], text[-1]
    if opening == "\\":
        pieces = split(inside, _LIST + ";")
        if not inside.strip():
            return Leaf("∅")
        if RELATION.search(inside) and ("|" in inside or ":" in inside):
            return builder(inside, partial(_shape, depth=depth + 1)) or _leaf(text)  # {x | x > 2}
        if pieces is None or len(pieces) > MAX_ITEMS or not all(pieces) or "|" in inside or ":" in inside:
            return _leaf(text)
        return _several(pieces, True, depth)
    if opening == "{":
        return _shape(inside, depth + 1) if ending == "}" else _leaf(text)
    pieces = split(inside, _LIST + ";")
    if pieces is None or len(pieces) > MAX_ITEMS or not all(pieces):
        return _leaf(text)
    if len(pieces) == 1 and opening + ending == "()":
        inner = _shape(inside, depth + 1)
        return inner if not isinstance(inner, Leaf) or _SIMPLE.fullmatch(inner.text) else _leaf(text)
    items = tuple(_shape(piece, depth + 1) for piece in pieces)
    return _rows(items) or Group(opening, ending, items)


def _relations(text: str, depth: int) -> Reading | None:
    """The reading of relations such as x < 2 or x > 3; x ∈ R, x ≠ 3. None if the text is something else."""
    if not (RELATION.search(text) or "∈" in text):
        return None
    if OR in text or AND in text or "\\lor" in text or "\\vee" in text or "\\land" in text or "\\wedge" in text:
        return relations(text, partial(_shape, depth=depth + 1))
    domain, comma, condition = text.partition(",")
    name, member, reals = domain.partition("∈")
    if comma and member and NAME.fullmatch(name.strip()) and REALS.fullmatch(reals.strip()):
        return interval(condition)
    return None


def _rows(items: tuple[Reading, ...]) -> Matrix | None:
    """The matrix that rows of the same length in square brackets are, as in [[1,2],[3,4]]; None if they are not."""
    rows = [item.items for item in items if isinstance(item, Group) and item.opening + item.closing == "[]"]
    if len(rows) < len(items) or len({len(row) for row in rows}) > 1:
        return None
    return Matrix(tuple(rows))


_SIMPLE = re.compile(r"[-+]?[\d.]++|[-+]?\\frac\{\d++\}\{\d++\}")


def _equation(text: str, depth: int) -> Reading:
    exact, *approximate = text.split("≈")
    parts = split(exact, "=")
    if parts is None:
        return _leaf(text)
    if len(parts) == 1:  # x ≈ 3
        if not approximate or label(parts[0]) is None:
            return _shape(exact, depth + 1) if approximate else _leaf(text)
        parts = [parts[0], approximate[-1].strip()]
    if not all(parts):
        return _leaf(text)
    left, right = parts[0], parts[-1]
    name = next(filter(None, map(label, parts[:-1])), None) if len(parts) > 2 else label(left)
    if name is None and len(parts) == 2 and NAME.fullmatch(right) and label(right) is not None:
        left, right, name = right, left, label(right)  # 5 = x
    return Equation(left, _shape(right, depth + 1), name)


def _value_of_event(text: str, depth: int) -> Reading | None:
    """The equation in a value of an event, such as P(X > 1) = 5; None if the text is something else."""
    parts = split(text, "=")
    if parts is None or len(parts) != 2 or not _is_call(parts[0]) or RELATION.search(parts[1]):
        return None
    return _equation(text, depth)


_ARGUMENTS = r"\((?:(?:[a-zA-Z]|\\[a-z]++)\s*+(?:,\s*+)?)++\)"
_UNNAMED = re.compile(_ARGUMENTS + r"|_\{[^{}]*+\}|_\w|\s|\\(?:frac|text|angle|overline|overrightarrow|triangle|vec)")
_BARE_NAME = re.compile(_ARGUMENTS + r"|\s|[{}]")
_NAME_SIGNS = re.compile(r"[a-zA-Z':|{}°/]+")
_CALLED = re.compile(
    r"(?:\\(?:text|mathbb|mathcal)\s*+\{?)?\s*+(?P<name>Pr|Var|Cov|[fghpqFGHPEAQRSTNVWC]|\\(?:phi|varphi|psi|Pr|sigma|tau|gcd)(?![a-z]))"
    r"\s*+\}?(?:_(?:\w|\{\w++\})|'|\^\{\(?-?\w\)?\}|\s)*+(?=[(\[])"
)
_OF_EVENTS = frozenset(["P", "E", "Pr", "Var", "Cov", "\\Pr"])
_INNER_CALL = re.compile(r"[fghFGH](?=\()")
_EVENT = re.compile(r"[A-Z=|<>≤≥≠]")


def label(left: str) -> str | None:
    """The name on the left side of an equation; None if that side is an expression."""
    bare = COMMAND.sub("a", _UNNAMED.sub("", left))
    if not bare:  # (p, q)
        return "".join(left.split()) if left else None
    if not _NAME_SIGNS.fullmatch(bare):
        return "".join(left.split()) if _is_call(left) else None
    return _BARE_NAME.sub("", left)


def _is_call(left: str) -> bool:
    """Whether the left side is a function at a value: f(2), P(X = 1), E[X]. Not f(x + 1), nor the product a(b + 1)."""
    head = _CALLED.match(left)
    if head is None or closing(left, head.end()) != len(left) - 1:
        return False
    argument = left[head.end() + 1 : -1].strip()
    if head["name"] in _OF_EVENTS and _EVENT.search(argument):
        return True
    return argument != "" and not has_letters(_INNER_CALL.sub("", argument))


def _matrix(body: str, depth: int) -> Reading:
    lines = [line for line in _ROW_END.split(body.replace(r"\hline", "")) if line.strip()]
    rows = tuple(tuple(_shape(_SPACES.sub(" ", cell), depth + 1) for cell in line.split("&")) for line in lines)
    if sum(map(len, rows)) > MAX_ITEMS:
        return _leaf(body)
    return Matrix(rows)
