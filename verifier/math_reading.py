"""Reads the text of an answer into its outer shape: several answers, a tuple, an interval, a matrix, an equation.

Only the shape is read here; what stands inside stays text (``Leaf``), for ``math_rules`` to compare. A text has one
reading, or two where custom allows two (``1,234`` is a number or a list). Reading is linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

MAX_CHARS = 2000
"""Longer texts have no shape: they are one leaf."""
MAX_ITEMS = 60
"""Longer lists have none either."""

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
    """The letter that a relation confines to this interval; empty where the interval is written as one."""


@dataclass(frozen=True, slots=True)
class Several:
    """Several answers: a set in braces, or a list without any."""

    items: tuple[Reading, ...]
    braces: bool
    ordered: bool = False
    """The order matters: a sequence with dots in it."""


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
    """What the left side names (``x``, ``f(x)``, ``AB``, ``(p,q)``), None where it is an expression."""


@lru_cache(maxsize=4096)
def read(text: str) -> tuple[Reading, ...]:
    """The readings of ``text``, the usual one first."""
    clean = tidy(text)
    if len(clean) > MAX_CHARS:
        return (Leaf(clean),)
    number = _THOUSANDS.fullmatch(clean)
    if number is not None:
        return Leaf(clean.replace(",", "").replace(" ", "")), _shape(clean)
    if _DECIMAL_COMMA.fullmatch(clean):
        return _shape(clean), Leaf(clean.replace(",", "."))
    if _SPACED_LIST.search(clean):  # 1,234, 5,678: the tight commas group digits
        clean = _TIGHT_COMMA.sub("", clean)
    return (_shape(clean),)


def tex(text: str) -> str:
    """Tidied text as LaTeX again, for a reader that does not know our signs."""
    return text.translate(_TEX)


# --- tidying ---------------------------------------------------------------------------------------------------------

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ",
        "°": r"^\circ ", "²": "^2", "³": "^3", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
        "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "，": ",",
        "（": "(", "）": ")", "：": ":", "∖": r"\setminus ", "ℝ": r"\mathbb{R}", "％": "%", "\t": " ", "\n": " ",
    }
)  # fmt: skip
_TEX = str.maketrans(
    {"≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset ", "±": r"\pm ",
     "…": r"\ldots ", "≈": r"\approx "}
)  # fmt: skip
_SIGNS = {
    "≤": ("le", "leq", "leqslant", "leqq"), "≥": ("ge", "geq", "geqslant", "geqq"), "≠": ("ne", "neq"), "∪": ("cup",),
    "∈": ("in",), "∅": ("emptyset", "varnothing"), "±": ("pm",), "…": ("ldots", "dots", "cdots", "dotsc"),
    "≈": ("approx",), "<": ("lt",), ">": ("gt",), "(": ("langle", "lparen"), ")": ("rangle", "rparen"),
    r"\{": ("lbrace",), r"\}": ("rbrace",), "[": ("lbrack",), "]": ("rbrack",), r"\frac": ("dfrac", "tfrac", "cfrac"),
    "|": ("vert", "lvert", "rvert", "mid"), " ": ("quad", "qquad", "displaystyle", "limits", "thinspace", "space"),
    r"\text": ("mbox", "textbf", "textit", "textrm", "textnormal", "textup", "textsf", "mathrm", "mathbf", "mathit",
               "operatorname", "mathsf", "hbox", "textsc", "texttt"),
    "": ("left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "bigg", "Bigg", "boldsymbol", "bm"),
}  # fmt: skip
_BY_COMMAND = {f"\\{name}": sign for sign, names in _SIGNS.items() for name in names}
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_DOUBLED = re.compile(r"\\\\(?=[a-zA-Z])")
_DIGIT_GROUP = re.compile(r"(?<=\d)(?:\\[,;:! ]|~|\{,\}(?:\\!)?|,\\!\s*)(?=\d{3}(?!\d))")
_SPACE = re.compile(r"\\[,;:! ]|~|\s+")
_AND_OR = re.compile(
    r"[,;]?\s*(?:\\text\s*\{[\s,]*(?:and|or)[\s,]*\}|(?<![a-zA-Z\\{])(?:and|or)(?![a-zA-Z}])|(?<=[\d)\]])or(?=[A-Z]))\s*,?"
)
_CHOOSE = re.compile(r"\{([^{}]*)\\choose\b([^{}]*)\}")
_DOLLARS = re.compile(r"(?<=[\d}])\s*\\\$(?!\d)")
_ASCII = re.compile(r"<=|>=|!=|=<|\.\.\.+|\*\*")
_ASCII_SIGNS = {"<=": "≤", "=<": "≤", ">=": "≥", "!=": "≠", "**": "^"}
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:(?:,\d{3})+|(?: \d{3})+)(?:\.\d+)?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_SPACED_LIST = re.compile(r"\d,\d{3}(?!\d).*[,;] |[,;] .*\d,\d{3}(?!\d)")
_TIGHT_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def tidy(text: str) -> str:
    """One spelling for what is written in several ways; spaces, delimiters and a final full stop gone."""
    text = _unwrapped(text.translate(_UNICODE).strip())
    if "matrix" not in text and "array" not in text:
        text = _DOUBLED.sub(r"\\", text)
    if "\\" in text or "~" in text or "{" in text:
        text = _DIGIT_GROUP.sub("", text)
        text = _COMMAND.sub(lambda command: _BY_COMMAND.get(command[0], command[0]), text)
        text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
        text = _DOLLARS.sub(r"\\text{dollar}", text).replace(r"\$", "").replace(r"\#", "").replace(r"\%", "%")
    text = text.replace("$", "")
    text = _ASCII.sub(lambda sign: _ASCII_SIGNS.get(sign[0], "…"), text)
    text = _AND_OR.sub(", ", text) if "and" in text or "or" in text else text
    text = text if "matrix" in text or "array" in text else _SPACE.sub(" ", text)
    return text.strip(" ,;").removesuffix(".").strip(" ,;")


def _unwrapped(text: str) -> str:
    """Without the math delimiters and boxes around the whole."""
    for _ in range(4):
        before = text
        for opening, closing in _DELIMITERS:
            if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening) + len(closing):
                inside = text[len(opening) : len(text) - len(closing)]
                if opening not in inside and closing not in inside:
                    text = inside.strip()
        if text.startswith(r"\boxed{") and _closing(text, len(r"\boxed")) == len(text) - 1:
            text = text[len(r"\boxed{") : -1].strip()
        if text == before:
            break
    return text.rstrip(".").rstrip() if text.endswith("$.") else text


# --- shapes ----------------------------------------------------------------------------------------------------------

_RELATION = re.compile("[<>≤≥≠]")
_NAME = re.compile(r"\|?(?:[a-zA-Z]|\\[a-z]+)(?:_(?:\w|\{\w+\}))?'*(?:\([a-z](?:,[a-z])*\))?\|?")
_MATRIX = re.compile(
    r"\s*([(\[]?)\s*\\begin\s*\{(?P<kind>[pbB]?matrix|smallmatrix|array)\}(?:\{[lcr|\s]*\})?(?P<body>.*)"
    r"\\end\s*\{(?P=kind)\}\s*([)\]]?)\s*",
    re.DOTALL,
)
_REALS = re.compile(
    r"\\mathbb\s*\{?R\}?|\\R|\\Re|(?:\\text\{)?\s*(?:the set of )?all real(?:s| numbers)\s*\}?", re.IGNORECASE
)
_FLIPPED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "≠": "≠"}


def _shape(text: str, depth: int = 0) -> Reading:
    text = text.strip()
    if depth > 6:
        return Leaf(text)
    matrix = _MATRIX.fullmatch(text)
    if matrix is not None and "\\begin" not in matrix["body"]:
        return _matrix(matrix["body"], depth)
    pieces = _split(text, ";")
    if pieces is not None and len(pieces) == 1:
        pieces = _split(text, ",")
    if pieces is None:
        return Leaf(text)  # its brackets do not match
    if len(pieces) > 1:
        if len(pieces) > MAX_ITEMS or not all(pieces):
            return Leaf(text)
        return _several(pieces, False, depth)
    joined = _split(text, "∪")
    if joined is not None and len(joined) > 1 and all(joined):
        return Union(tuple(_shape(piece, depth + 1) for piece in joined))
    if _REALS.fullmatch(text):
        return Group("(", ")", (Leaf(r"-\infty"), Leaf(r"\infty")))
    if "∈" in text and (parts := _split(text, "∈")) is not None and len(parts) == 2 and _NAME.fullmatch(parts[0]):
        return _shape(parts[1], depth + 1)
    if text.startswith("\\{") and _closing(text, 1) == len(text) - 1:
        return _bracketed(text, depth)
    if _RELATION.search(text):
        return _interval(text) or Leaf(text)
    if "=" in text or "≈" in text:
        return _equation(text, depth)
    if text and text[0] in "([{":
        return _bracketed(text, depth)
    if text.count("±") == 1 and "\\mp" not in text:
        return Several(tuple(Leaf(text.replace("±", sign).removeprefix("+")) for sign in "+-"), braces=False)
    return Leaf(text)


def _several(pieces: list[str], braces: bool, depth: int) -> Several:
    items: list[Reading] = []
    for piece in pieces:
        item = _shape(piece, depth + 1)
        # 1 ± √2 among others stands for two of them
        items += item.items if isinstance(item, Several) and "±" in piece and "," not in piece else [item]
    return Several(tuple(items), braces, ordered=any("…" in piece for piece in pieces))


def _bracketed(text: str, depth: int) -> Reading:
    start = 2 if text.startswith("\\{") else 1
    end = _closing(text, start - 1)
    if end != len(text) - 1:
        return Leaf(text)
    inside = text[start : end - (text[end - 1] == "\\")]
    opening, closing = text[0], text[-1]
    if opening == "\\":
        pieces = _split(inside, ",;")
        if not inside.strip():
            return Leaf("∅")
        builder = re.fullmatch(r"(?P<name>[^|:]+)[|:](?P<condition>[^|:]+)", inside)
        if builder is not None and _NAME.fullmatch(builder["name"].strip()):
            return _interval(builder["condition"]) or Leaf(text)  # {x | x > 2}
        if pieces is None or len(pieces) > MAX_ITEMS or not all(pieces) or "|" in inside or ":" in inside:
            return Leaf(text)
        return _several(pieces, True, depth)
    if opening == "{":
        return _shape(inside, depth + 1) if closing == "}" else Leaf(text)
    pieces = _split(inside, ",;")
    if pieces is None or len(pieces) > MAX_ITEMS or not all(pieces):
        return Leaf(text)
    if len(pieces) == 1 and (opening, closing) == ("(", ")"):
        inner = _shape(inside, depth + 1)
        return inner if not isinstance(inner, Leaf) or _SIMPLE.fullmatch(inner.text) else Leaf(text)
    return Group(opening, closing, tuple(_shape(piece, depth + 1) for piece in pieces))


_SIMPLE = re.compile(r"[-+]?[\d.]+|[-+]?\\frac\{\d+\}\{\d+\}")


def _interval(text: str) -> Reading | None:
    """A relation that confines one letter between constants, as the set it says."""
    signs = _RELATION.findall(text)
    parts = [part.strip() for part in _RELATION.split(text)]
    if len(signs) == 2 and signs[0] in "<≤>≥" and signs[1] in "<≤>≥" and (signs[0] in "<≤") == (signs[1] in "<≤"):
        low, name, high = parts
        if signs[0] in ">≥":
            low, high, signs = high, low, [_FLIPPED[signs[1]], _FLIPPED[signs[0]]]
        if _NAME.fullmatch(name) and not name.startswith("|"):
            brackets = "[" if signs[0] == "≤" else "(", "]" if signs[1] == "≤" else ")"
            return Group(*brackets, (Leaf(low), Leaf(high)), name)
    if len(signs) != 1:
        return None
    (sign,), (left, right) = signs, parts
    if not _NAME.fullmatch(left):
        left, right, sign = right, left, _FLIPPED[sign]
    if (
        not _NAME.fullmatch(left)
        or left.startswith("|")
        or not right
        or re.search(r"[a-zA-Z]", _COMMAND.sub("", right))
    ):
        return None
    below = Group("(", "]" if sign == "≤" else ")", (Leaf(r"-\infty"), Leaf(right)), left)
    above = Group("[" if sign == "≥" else "(", ")", (Leaf(right), Leaf(r"\infty")), left)
    if sign == "≠":
        return Union((below, above))
    return below if sign in "<≤" else above


def _equation(text: str, depth: int) -> Reading:
    exact, *approximate = text.split("≈")
    parts = _split(exact, "=")
    if parts is None:
        return Leaf(text)
    if len(parts) == 1:  # x ≈ 3
        if not approximate or label(parts[0]) is None:
            return _shape(exact, depth + 1) if approximate else Leaf(text)
        parts = [parts[0], approximate[-1].strip()]
    if not all(parts):
        return Leaf(text)
    left, right = parts[0], parts[-1]
    name = next(filter(None, map(label, parts[:-1])), None) if len(parts) > 2 else label(left)
    if name is None and len(parts) == 2 and _NAME.fullmatch(right) and label(right) is not None:
        left, right, name = right, left, label(right)  # 5 = x
    return Equation(left, _shape(right, depth + 1), name)


_ARGUMENTS = r"\((?:(?:[a-zA-Z]|\\[a-z]+)\s*,?\s*)+\)"


def label(left: str) -> str | None:
    """The name that the left side of an equation is, without arguments; None where it is an expression."""
    bare = re.sub(
        _ARGUMENTS + r"|_\{[^{}]*\}|_\w|\s|\\(?:frac|text|angle|overline|overrightarrow|triangle|vec)", "", left
    )
    bare = _COMMAND.sub("a", bare)
    if not bare:  # (p, q)
        return re.sub(r"\s", "", left) if left else None
    if not re.fullmatch(r"[a-zA-Z':|{}°/]+", bare):
        return None
    return re.sub(_ARGUMENTS + r"|\s|[{}]", "", left)


def _matrix(body: str, depth: int) -> Reading:
    lines = [line for line in re.split(r"\\\\(?:\[[^\]]*\])?", body.replace(r"\hline", "")) if line.strip()]
    rows = tuple(tuple(_shape(_SPACE.sub(" ", cell), depth + 1) for cell in line.split("&")) for line in lines)
    if sum(map(len, rows)) > MAX_ITEMS:
        return Leaf(body)
    return Matrix(rows)


def _split(text: str, separators: str) -> list[str] | None:
    """``text`` at its outermost separators; None where its brackets do not match in number."""
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


def _closing(text: str, opening: int) -> int:
    """Where the bracket at ``opening`` closes (any kind closes any kind, as in half-open intervals); -1 if nowhere."""
    depth = 0
    for at in range(opening, len(text)):
        depth += text[at] in "([{"
        depth -= text[at] in ")]}"
        if depth == 0:
            return at
    return -1
