"""Compares what stands inside a shape: words, choices, bases, values with their units. Three-valued, as ``rules``
is."""

import re
from functools import lru_cache

from . import choices, exact, polynomials, units
from .logic import LeafTest, Truth, any_of
from .symbolic import CLOSE
from .tidy import tex
from .work import spend

_REPEATING = re.compile(
    r"(?<![\d.])(\d{0,300}+)\.(\d{0,300}+)"
    r"(?:\\(?:overline|bar|dot)\s*+\{(\d{1,300}+)\}|\\(?:dot|bar)\s*+(\d)|\((\d{1,300}+)\))"
)
_MIXED = re.compile(r"([-+]?)(?<!\d)(\d++)\s++(?:(\d++)\s*+/\s*+(\d++)|\\frac\{(\d++)\}\{(\d++)\})")
_WORDS = re.compile(r"(?<![a-zA-Z\\])(pi|sqrt|exp|infinity|inf|oo)(?![a-zA-Z])")
_POWER = re.compile(r"(\^|(?<![a-zA-Z])(?:\\?sqrt|\\?exp))\s*+\(([^()]*+)\)")
_ANGLE = re.compile(r"(?<!\d)(\d++(?:\.\d++)?)\s*+\^\s*+\{?\s*+\\circ\s*+\}?")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_TEXT = re.compile(r"\\text\s*+\{([^{}]*+)\}")
_TWO_LETTERS = re.compile(r"[A-Za-z]{2}")
_ALPHANUMERIC = re.compile(r"(?:\\text\s*+\{[\w\s.:]*+\}|[\w\s.:])++")
_UPRIGHT = re.compile(r"\\text\s*+\{\s*+([ei])\s*+\}")
_LETTER = re.compile("[a-zA-Z]")
_SMALL_LETTER = re.compile("[a-z]")
_DIGIT = re.compile(r"\d")
_LOOSE_STOP = re.compile(r"\s|(?<!\d)\.|\.(?!\d)")
_PUNCTUATION = re.compile(r"[\s.,;:'\"!?\-()]+")
_HEDGE = re.compile(r"(?:^|\W)(?:or|and|not)(?:\W|$)")
_BLANK = re.compile(r"\s|\\[,;!]")
_BASE = re.compile(r"([0-9A-Za-z]++)_\{?(\d++)\}?")
_EMPTY = frozenset(["∅", "nosolution", "nosolutions", "emptyset", "theemptyset", "therearenosolutions"])
_RELATION = re.compile("[<>≤≥≠]")
_SCIENTIFIC = re.compile(r"([-+]?\d++(?:\.\d++)?)[eE]([-+]?\d{1,3})")
_STATEMENT = re.compile(
    r"\\(?:to|gets|[rR]ightarrow|[lL]eftarrow|[lL]ongrightarrow|implies|iff|mapsto|land|lor|wedge|vee|lnot|neg|not"
    r"|cancel|sout|xcancel|bcancel|phantom|hphantom|vphantom|sim|because|therefore|mod|bmod|pmod|equiv)(?![a-zA-Z])"
    r"|→|⇒"
)
_ADJACENT_UNIT = re.compile(r"([-+]?[\d.]++)[mshg]")
_OPPOSED = frozenset(["am", "pm", "a.m.", "p.m.", "north", "south", "east", "west", "left", "right", "ad", "bc"])
"""Words after a number that say which of several it is."""


def exactly(answer: str, gold: str) -> Truth:
    """Compare two expressions by exact arithmetic; None if one cannot be read, or if decimals are merely close."""
    left, right = exact.read(answer), exact.read(gold)
    if left is None or right is None:
        return None
    found = polynomials.same(left, right)
    if found is not False:
        return found
    if left.letters != right.letters and {x.lower() for x in left.letters} == {x.lower() for x in right.letters}:
        return None  # X for x
    if left.decimals or right.decimals:
        mine, theirs = left.value(), right.value()
        if mine is None or theirs is None or abs(mine - theirs) <= CLOSE * max(abs(mine), abs(theirs)):
            return None
    return False


def same_leaf(answer: str, gold: str, leaf: LeafTest) -> Truth:
    """Whether two texts without a shape are the same."""
    if answer == gold:
        return True
    spend(40 + (len(answer) + len(gold)) // 4)
    if "…" in answer or "…" in gold or _STATEMENT.search(answer) or _STATEMENT.search(gold):
        return squeezed(answer) == squeezed(gold)  # no value: a sequence, a step from one thing to another
    if bool(_RELATION.search(answer)) != bool(_RELATION.search(gold)):
        return False  # > 5 for 5
    found = _chosen(answer, gold, leaf)
    return _same_value(answer, gold, leaf) if found is None else found


def _same_value(answer: str, gold: str, leaf: LeafTest) -> Truth:
    for rule in (_based, _worded):
        found = rule(answer, gold, leaf)
        if found is not None:
            return found
    return _quantities(answer, gold, leaf)


def _based(answer: str, gold: str, leaf: LeafTest) -> Truth:
    """Compare numbers with a base, such as 204_5. With a base on both sides, the values decide."""
    mine, theirs = _BASE.fullmatch(answer), _BASE.fullmatch(gold)
    if mine is None or theirs is None or not (mine[1][0].isdigit() and theirs[1][0].isdigit()):
        return None
    try:
        return int(mine[1], int(mine[2])) == int(theirs[1], int(theirs[2]))
    except ValueError:
        return False


def _chosen(answer: str, gold: str, leaf: LeafTest) -> Truth:
    """Compare choices such as (A), A., Option A, (A) 12. The letter decides, and so do the texts after both letters."""
    theirs = choices.one(gold)
    if theirs is None:
        return None
    mine = choices.one(answer)
    if mine is None:
        return leaf(answer, theirs.rest) if theirs.rest else None
    if mine.names_another:
        return False  # (A) or (B)
    if mine.letter != theirs.letter:
        return None if mine.letter.lower() == theirs.letter.lower() else False
    return _same_value(mine.rest, theirs.rest, leaf) if mine.rest and theirs.rest else True


def _worded(answer: str, gold: str, leaf: LeafTest) -> Truth:
    """Compare words as words, without regard to case, spaces and punctuation."""
    if _TWO_LETTERS.search(gold) and _ALPHANUMERIC.fullmatch(gold) and _spelled(answer) == _spelled(gold):
        return True  # June 20
    mine, theirs = _word(answer), _word(gold)
    if mine is None or theirs is None:
        if theirs is not None and len(theirs) > 3 and mine is None and not _LETTER.search(answer):
            return False  # a number for a word
        return None
    if mine == theirs or (mine in _EMPTY and theirs in _EMPTY):
        return True
    if "\\text" not in answer + gold and sorted(mine) == sorted(theirs) and len(mine) < 5:
        return None  # abc and cab may be products
    return False if len(mine) > 1 and len(theirs) > 1 else None


def _spelled(text: str) -> str:
    return _LOOSE_STOP.sub("", _TEXT.sub(r"\1", text)).lower()


def _word(text: str) -> str | None:
    """The letters of a text that is words and nothing else, in lower case; None where it is mathematics."""
    if text == "∅":
        return text
    bare = _TEXT.sub(r"\1", text)
    letters = _PUNCTUATION.sub("", bare).lower()
    if not letters.isalpha() or letters in ("pi", "infinity", "inf", "oo") or (bare == text and len(letters) < 3):
        return None
    return letters if "\\" not in bare else None


def _quantities(answer: str, gold: str, leaf: LeafTest) -> Truth:
    """Compare values with a unit or percent sign. A unit on one side alone is left out; two known units must agree."""
    answer, gold = (_UPRIGHT.sub(r"\1", side) for side in (answer, gold))  # \mathrm{e} is no unit
    (mine, my_unit), (theirs, their_unit) = units.split(answer), units.split(gold)
    if _HEDGE.search(my_unit) or (_DIGIT.search(my_unit) and not units.unit(my_unit)):
        return False  # 4 \text{ (or 5)}
    if my_unit.lower() != their_unit.lower() and {my_unit.lower(), their_unit.lower()} <= _OPPOSED:
        return False
    adjacent = _ADJACENT_UNIT.fullmatch(mine)
    if adjacent is not None and not _SMALL_LETTER.search(theirs):
        mine = adjacent[1]  # 15m for 15, but not 2 for 2m
    my_percent, their_percent = mine.endswith(("%", "percent")), theirs.endswith(("%", "percent"))
    mine, theirs = (_plain(value.removesuffix("%").removesuffix("percent").rstrip()) for value in (mine, theirs))
    if mine == theirs and my_unit == their_unit:
        return True
    if my_percent != their_percent:
        if units.unit(their_unit if my_percent else my_unit):
            return False  # 50 cm for 50 %
        value, other = (mine, theirs) if my_percent else (theirs, mine)
        return any_of([leaf(value, other), leaf(rf"\frac{{{value}}}{{100}}", other)])
    if (my_unit == "°") != (their_unit == "°"):
        angle, other = (mine, theirs) if my_unit == "°" else (theirs, mine)
        if r"\pi" in other:
            return leaf(rf"\frac{{({angle})\pi}}{{180}}", other)
    my_size, their_size = units.unit(my_unit), units.unit(their_unit)
    if my_unit and their_unit and my_size and their_size and my_size != their_size:
        if my_size.dimension != their_size.dimension:
            return False
        return exactly(_scaled(mine, my_size), _scaled(theirs, their_size)) or False
    return leaf(mine, theirs)


def _scaled(value: str, unit: units.Unit) -> str:
    return rf"({value})\cdot\frac{{{unit.size.numerator}}}{{{unit.size.denominator}}}"


@lru_cache(maxsize=2048)
def _plain(text: str) -> str:
    """One value in the spelling that exact arithmetic and Math-Verify read."""
    if (scientific := _SCIENTIFIC.fullmatch(text)) is not None:
        text = rf"{scientific[1]}\cdot 10^{{{scientific[2]}}}"
    text = _REPEATING.sub(_repeating, text)
    text = _MIXED.sub(
        lambda found: rf"{found[1]}{found[2]}\frac{{{found[3] or found[5]}}}{{{found[4] or found[6]}}}", text
    )
    for _ in range(3):
        text = _POWER.sub(_braced, text)
    text = _WORDS.sub(lambda word: {"pi": r"\pi ", "sqrt": r"\sqrt", "exp": "exp"}.get(word[1], r"\infty"), text)
    if _TRIGONOMETRY.search(text):
        text = _ANGLE.sub(r"(\\frac{\1\\pi}{180})", text)
    return tex(text).strip().removeprefix("+").strip()


def _braced(found: re.Match[str]) -> str:
    operator = found[1].removeprefix("\\")
    return {"^": "^", "sqrt": r"\sqrt", "exp": "e^"}[operator] + "{" + found[2] + "}"


def _repeating(found: re.Match[str]) -> str:
    """0.1\\overline{6} is 16 - 1 over 90."""
    whole, fixed, cycle = found[1] or "0", found[2], found[3] or found[4] or found[5]
    top = int(whole + fixed + cycle) - int(whole + fixed)
    return rf"\frac{{{top}}}{{{(10 ** len(cycle) - 1) * 10 ** len(fixed)}}}"


def squeezed(text: str) -> str:
    """The text without any space."""
    return _BLANK.sub("", text)
