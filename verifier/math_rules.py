"""The documented rules (docs/verifiers.md): whether an answer is a gold, shape by shape.

Pure, and three-valued: True and False are the rules' own word, None leaves it to Math-Verify. Shapes are compared here;
what stands inside them goes to ``leaf``, which may be exact arithmetic alone (``exactly``: cheap, often None) or that
and Math-Verify (``math_answer``). Where a rule must choose, it chooses the false negative.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeAlias

from . import math_exact, math_units
from .math_reading import Equation, Group, Leaf, Matrix, Reading, Several, Union, read, tex

Truth: TypeAlias = bool | None
LeafTest: TypeAlias = Callable[[str, str], Truth]
"""(answer, gold) -> equal, different, or not decided."""

CLOSE = 1e-5
"""Decimals nearer than this, relatively, may be the same number rounded: Math-Verify decides (six decimals)."""


def equal(answer: str, gold: str, leaf: LeafTest) -> Truth:
    """Whether ``answer`` is ``gold``; None where no rule says."""
    if _is_prose(answer) or _is_prose(gold):
        if _squeezed(answer).lower() == _squeezed(gold).lower():
            return True
        return False if _is_prose(answer) and _hedges(answer) else None
    return _any(_same(mine, theirs, leaf) for theirs in read(gold) for mine in read(answer))


def exactly(answer: str, gold: str) -> Truth:
    """Two expressions by exact arithmetic; None where one cannot be read, or where decimals are merely close."""
    left, right = math_exact.read(answer), math_exact.read(gold)
    if left is None or right is None:
        return None
    found = math_exact.same(left, right)
    if found is not False:
        return found
    if left.letters != right.letters and {x.lower() for x in left.letters} == {x.lower() for x in right.letters}:
        return None  # X for x
    if left.decimals or right.decimals:
        mine, theirs = left.value(), right.value()
        if mine is None or theirs is None or abs(mine - theirs) <= CLOSE * max(abs(mine), abs(theirs)):
            return None
    return False


# --- prose -----------------------------------------------------------------------------------------------------------

_OUTSIDE = re.compile(r"\\(?:text|mbox|mathrm|textbf|operatorname)\s*\{[^{}]*\}|\\[a-zA-Z]+|\$[^$]*\$|\{[^{}]*\}")
_WHOLE_TEXT = re.compile(r"\\(?:text|mbox|mathrm|textbf)\s*\{([^{}]*)\}")
_FORMULA = re.compile(
    r"(?<!\\)\$\$((?:[^$\\]|\\.)+)\$\$|(?<!\\)\$((?:[^$\\\n]|\\.)+)\$|\\\(([^\n]+?)\\\)|\\\[(.+?)\\\]", re.DOTALL
)
_VALUE = re.compile(r"\$[^$]+\$|\([^()]*\d[^()]*\)|\\frac\{[^{}]*\}\{[^{}]*\}|\d[\d.,/]*(?:\^\{?\d+\}?)?")
_DOUBT = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|could|might|not|than|least|most|between|about)\b", re.IGNORECASE
)


def said(text: str) -> str:
    """The one formula of a short sentence that says nothing but that it is the answer; else the text as it is."""
    if len(text) > 300 or not ("$" in text or "\\(" in text or "\\[" in text):
        return text
    formulas = list(_FORMULA.finditer(text))
    if len(formulas) != 1:
        return text
    before, after = text[: formulas[0].start()].strip(), text[formulas[0].end() :].strip(" .\n")
    if not before or not re.fullmatch(r"[A-Za-z ,:]+", before) or _DOUBT.search(before) or len(after.split()) > 1:
        return text
    return f"{next(filter(None, formulas[0].groups()))} {after}".strip()


def _is_prose(text: str) -> bool:
    """Sentences rather than an answer: three words outside of formulas, and something to compute with."""
    whole = _WHOLE_TEXT.fullmatch(text.strip())
    words = re.findall(r"[A-Za-z]{2,}", whole[1] if whole else _OUTSIDE.sub(" ", text))
    return len(words) - words.count("and") - words.count("or") >= 3 and ("$" in text or any(map(str.isdigit, text)))


def _hedges(prose: str) -> bool:
    """Whether the last sentence that holds a value holds several, or says that it may be another one."""
    said = _FORMULA.sub(lambda formula: formula[0] if any(map(str.isdigit, formula[0])) else "", prose)
    for sentence in reversed(re.split(r"(?<=[.!?])\$*\s", said)):
        if _VALUE.search(sentence):
            claims = re.split(r"\bis\b|\bare\b|\bit's\b|=|:", sentence)
            last = next((claim for claim in reversed(claims) if _VALUE.search(claim)), sentence)
            values = {value.strip(".,") for value in _VALUE.findall(last)}
            return len(values) > 1 or _DOUBT.search(last) is not None
    return False


# --- three-valued logic ----------------------------------------------------------------------------------------------


def _all(truths: Iterable[Truth]) -> Truth:
    found: Truth = True
    for truth in truths:
        if truth is False:
            return False
        if truth is None:
            found = None
    return found


def _any(truths: Iterable[Truth]) -> Truth:
    found: Truth = False
    for truth in truths:
        if truth:
            return True
        if truth is None:
            found = None
    return found


# --- shapes ----------------------------------------------------------------------------------------------------------


def _same(answer: Reading, gold: Reading, leaf: LeafTest) -> Truth:
    match answer, gold:
        case (Equation(), _) | (_, Equation()):
            return _equations(answer, gold, leaf)
        case Leaf(), Leaf():
            return _leaves(answer.text, gold.text, leaf)
        case Several(), Several():
            return _several(answer, gold, leaf)
        case Several(braces=False), Group(opening="(", closing=")"):
            return _in_order(_values(answer), gold.items, leaf)  # 1, 2 for (1,2)
        case Group(opening="(", closing=")"), Several(braces=False):
            return _in_order(answer.items, _values(gold), leaf)
        case (Several(braces=True), Group()) | (Group(), Several(braces=True)):
            return False  # {1,2} is not (1,2)
        case Group(), Group():
            if (answer.opening, answer.closing) != (gold.opening, gold.closing):
                return False if len(answer.items) == len(gold.items) == 2 else None
            if answer.name and gold.name and answer.name != gold.name:
                return False
            return _in_order(answer.items, gold.items, leaf)
        case Union(), Union():
            return _as_sets(answer.items, gold.items, leaf) or (len(answer.items) != len(gold.items) and None)
        case Matrix(), Matrix():
            if [len(row) for row in answer.rows] != [len(row) for row in gold.rows]:
                return False
            return _in_order([cell for row in answer.rows for cell in row], [c for row in gold.rows for c in row], leaf)
        case Several(), Leaf():
            return None if "±" in gold.text else _all(_same(item, gold, leaf) for item in answer.items)
        case Leaf(), Several():
            return None if "±" in answer.text else _all(_same(answer, item, leaf) for item in gold.items)
        case _:
            return None


def _several(answer: Several, gold: Several, leaf: LeafTest) -> Truth:
    """Any order, and twice the same is once. In order where the items are named and the others are not, or dotted."""
    if answer.ordered or gold.ordered:
        return len(answer.items) == len(gold.items) and _in_order(answer.items, gold.items, leaf)
    mine, theirs = _names(answer), _names(gold)
    if (len(mine) > 1) != (len(theirs) > 1) and not (answer.braces or gold.braces):
        return _in_order(_values(answer), _values(gold), leaf)  # x = 3, y = 5 for 3, 5
    if len(mine) <= 1 and len(theirs) <= 1:
        if mine and theirs and not all(isinstance(item, Equation) for item in (*answer.items, *gold.items)):
            return _as_sets(answer.items, gold.items, leaf) if mine == theirs else False
        if not (mine and theirs):
            return _as_sets(_values(answer), _values(gold), leaf)
        if mine != theirs and not (_is_call(answer) and _is_call(gold)):
            return False
        return _as_sets(_values(answer), _values(gold), leaf)
    return _as_sets(answer.items, gold.items, leaf)


def _names(several: Several) -> set[str]:
    """The different names of its equations; x_1 and x_2 are two values of x."""
    labels = [item.label for item in several.items if isinstance(item, Equation)]
    return {re.sub(r"_\{?\d+\}?$|_\d+$", "", name) if name else f"?{at}" for at, name in enumerate(labels)}


def _is_call(several: Several) -> bool:
    return all(isinstance(item, Equation) and "(" in item.left for item in several.items)


def _values(several: Several) -> tuple[Reading, ...]:
    return tuple(item.right if isinstance(item, Equation) and item.label else item for item in several.items)


def _in_order(answers: Iterable[Reading], golds: Iterable[Reading], leaf: LeafTest) -> Truth:
    mine, theirs = list(answers), list(golds)
    return len(mine) == len(theirs) and _all(_same(a, g, leaf) for a, g in zip(mine, theirs, strict=True))


def _as_sets(answers: tuple[Reading, ...], golds: tuple[Reading, ...], leaf: LeafTest) -> Truth:
    """Each of the answers is a gold and each of the golds is answered."""
    if set(answers) == set(golds):
        return True
    return _all(
        [
            *(_any(_same(answer, gold, leaf) for gold in golds) for answer in answers),
            *(_any(_same(answer, gold, leaf) for answer in answers) for gold in golds),
        ]
    )


def _equations(answer: Reading, gold: Reading, leaf: LeafTest) -> Truth:
    if not isinstance(answer, Equation):
        assert isinstance(gold, Equation)
        return _same(answer, gold.right, leaf) if gold.label else False  # 0 does not answer a + 3z = 0
    if not isinstance(gold, Equation):
        named = answer.label or re.fullmatch(r"[a-zA-Z+\-\\{}()|_ ]+", answer.left)
        if named or math_units.split(answer.left)[1]:
            return _same(answer.right, gold, leaf)  # x = 3, a + b = 3, 1/2 hour = 30
        if _has_letters(answer.left):
            return None if isinstance(gold, Leaf) and "=" in gold.text else False
        # 2 + 3 = 5, but not 4 = 5
        return _all([_same(Leaf(answer.left), answer.right, leaf), _same(answer.right, gold, leaf)])
    if answer.label and gold.label:
        if answer.label == gold.label:
            return _same(answer.right, gold.right, leaf)
        letters = len(answer.label) == len(gold.label) == 1
        if letters and isinstance(answer.right, Leaf) and not _has_letters(answer.right.text):
            return False  # y = 3 is not x = 3
    if answer.left == gold.left and (same := _same(answer.right, gold.right, leaf)):
        return same
    return _same_curve(answer, gold)


def _has_letters(text: str) -> bool:
    return re.search(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", text)) is not None


def _same_curve(answer: Equation, gold: Equation) -> Truth:
    """Two equations say the same where left minus right is the same but for a constant factor."""
    if not (isinstance(answer.right, Leaf) and isinstance(gold.right, Leaf)):
        return None
    mine, theirs = _zero_side(answer.left, answer.right.text), _zero_side(gold.left, gold.right.text)
    if mine is None or theirs is None:
        return None
    return math_exact.proportional(mine, theirs) or (None if mine.decimals or theirs.decimals else False)


def _zero_side(left: str, right: str) -> math_exact.Exact | None:
    first, second = math_exact.read(left), math_exact.read(right)
    return None if first is None or second is None else math_exact.difference(first, second)


# --- leaves ----------------------------------------------------------------------------------------------------------

_REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*\{(\d+)\}|\\(?:dot|bar)\s*(\d)|\((\d+)\))")
_MIXED = re.compile(r"([-+]?)(\d+)\s+(?:(\d+)\s*/\s*(\d+)|\\frac\{(\d+)\}\{(\d+)\})")
_WORDS = re.compile(r"(?<![a-zA-Z\\])(pi|sqrt|exp|infinity|inf|oo)(?![a-zA-Z])")
_POWER = re.compile(r"(\^|(?<![a-zA-Z])(?:\\?sqrt|\\?exp))\s*\(([^()]*)\)")
_ANGLE = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*\{?\s*\\circ\s*\}?")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_ALPHANUMERIC = re.compile(r"(?=.*[A-Za-z]{2})(?:\\text\s*\{[\w\s.:]*\}|[\w\s.:])+")
_UPRIGHT = re.compile(r"\\text\s*\{\s*([ei])\s*\}")
_BASE = re.compile(r"([0-9A-Za-z]+)_\{?(\d+)\}?")
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)[\s:]*)?(?:\(([A-J])\)|([A-J])(?=$|[).:]))[).:]*\s*(?P<rest>.*)",
    re.DOTALL | re.IGNORECASE,
)
_EMPTY = frozenset(["∅", "nosolution", "nosolutions", "emptyset", "theemptyset", "therearenosolutions"])
_RELATION = re.compile("[<>≤≥≠]")
_SCIENTIFIC = re.compile(r"([-+]?\d+(?:\.\d+)?)[eE]([-+]?\d{1,3})")
_STATEMENT = re.compile(
    r"\\(?:to|gets|[rR]ightarrow|[lL]eftarrow|[lL]ongrightarrow|implies|iff|mapsto|land|lor|wedge|vee|lnot|neg|not|cancel|sout|xcancel"
    r"|bcancel|phantom|hphantom|vphantom|sim|because|therefore|mod|bmod|pmod|equiv)(?![a-zA-Z])|→|⇒"
)
_ADJACENT_UNIT = re.compile(r"([-+]?[\d.]+)[mshg]")


def _leaves(answer: str, gold: str, leaf: LeafTest) -> Truth:
    if answer == gold:
        return True
    if "…" in answer or "…" in gold or _STATEMENT.search(answer) or _STATEMENT.search(gold):
        return _squeezed(answer) == _squeezed(gold)  # no value: a sequence, a step from one thing to another
    if bool(_RELATION.search(answer)) != bool(_RELATION.search(gold)):
        return False  # > 5 for 5
    for rule in (_based, _chosen, _worded):
        found = rule(answer, gold, leaf)
        if found is not None:
            return found
    return _quantities(answer, gold, leaf)


def _based(answer: str, gold: str, leaf: LeafTest) -> Truth:
    """204_5: with a base on both sides, the values decide."""
    mine, theirs = _BASE.fullmatch(answer), _BASE.fullmatch(gold)
    if mine is None or theirs is None or not (mine[1][0].isdigit() and theirs[1][0].isdigit()):
        return None
    try:
        return int(mine[1], int(mine[2])) == int(theirs[1], int(theirs[2]))
    except ValueError:
        return False


def _chosen(answer: str, gold: str, leaf: LeafTest) -> Truth:
    """(A), A., Option A, (A) 12: the letter decides, and what stands behind both letters too."""
    theirs = _CHOICE.fullmatch(_TEXT.sub(r"\1", gold).strip())
    if theirs is None or theirs.start("rest") == 0:
        return None
    mine = _CHOICE.fullmatch(_TEXT.sub(r"\1", answer).strip())
    if mine is None:
        return leaf(answer, theirs["rest"]) if theirs["rest"] else None
    if re.search(r"\([A-J]\)|(?<![\w\\])[A-J](?![\w'])", mine["rest"]):
        return False  # (A) or (B)
    letters = [(found[1] or found[2]) for found in (mine, theirs)]
    if letters[0] != letters[1]:
        return None if letters[0].lower() == letters[1].lower() else False
    return _leaves(mine["rest"], theirs["rest"], leaf) if mine["rest"] and theirs["rest"] else True


def _worded(answer: str, gold: str, leaf: LeafTest) -> Truth:
    """Words are compared as words, without regard to case, spaces and punctuation."""
    if _ALPHANUMERIC.fullmatch(gold) and _spelled(answer) == _spelled(gold):
        return True  # June 20
    mine, theirs = _word(answer), _word(gold)
    if mine is None or theirs is None:
        if theirs is not None and len(theirs) > 3 and mine is None and not re.search(r"[a-zA-Z]", answer):
            return False  # a number for a word
        return None
    if mine == theirs or (mine in _EMPTY and theirs in _EMPTY):
        return True
    if "\\text" not in answer + gold and sorted(mine) == sorted(theirs) and len(mine) < 5:
        return None  # abc and cab may be products
    return False if len(mine) > 1 and len(theirs) > 1 else None


def _spelled(text: str) -> str:
    return re.sub(r"\s|(?<!\d)\.|\.(?!\d)", "", _TEXT.sub(r"\1", text)).lower()


def _word(text: str) -> str | None:
    """The letters of a text that is words and nothing else, in lower case; None where it is mathematics."""
    if text == "∅":
        return text
    bare = _TEXT.sub(r"\1", text)
    letters = re.sub(r"[\s.,;:'\"!?\-()]+", "", bare).lower()
    if not letters.isalpha() or letters in ("pi", "infinity", "inf", "oo") or (bare == text and len(letters) < 3):
        return None
    return letters if "\\" not in bare else None


def _quantities(answer: str, gold: str, leaf: LeafTest) -> Truth:
    """A value with its unit or percent sign. A unit on one side alone is left out; two known ones must agree."""
    answer, gold = (_UPRIGHT.sub(r"\1", side) for side in (answer, gold))  # \mathrm{e} is no unit
    (mine, my_unit), (theirs, their_unit) = math_units.split(answer), math_units.split(gold)
    if re.search(r"(?:^|\W)(?:or|and|not)(?:\W|$)", my_unit) or (
        re.search(r"\d", my_unit) and not math_units.unit(my_unit)
    ):
        return False  # 4 \text{ (or 5)}
    adjacent = _ADJACENT_UNIT.fullmatch(mine)
    if adjacent is not None and not re.search("[a-z]", theirs):
        mine = adjacent[1]  # 15m for 15, but not 2 for 2m
    my_percent, their_percent = mine.endswith(("%", "percent")), theirs.endswith(("%", "percent"))
    mine, theirs = (_plain(re.sub(r"\s*(?:%|percent)$", "", value)) for value in (mine, theirs))
    if mine == theirs and my_unit == their_unit:
        return True
    if my_percent != their_percent:
        value, other = (mine, theirs) if my_percent else (theirs, mine)
        return _any([leaf(value, other), leaf(rf"\frac{{{value}}}{{100}}", other)])
    if (my_unit == "°") != (their_unit == "°"):
        angle, other = (mine, theirs) if my_unit == "°" else (theirs, mine)
        if r"\pi" in other:
            return leaf(rf"\frac{{({angle})\pi}}{{180}}", other)
    my_size, their_size = math_units.unit(my_unit), math_units.unit(their_unit)
    if my_unit and their_unit and my_size and their_size and my_size != their_size:
        if my_size.dimension != their_size.dimension:
            return False
        return exactly(_scaled(mine, my_size), _scaled(theirs, their_size)) or False
    return leaf(mine, theirs)


def _scaled(value: str, unit: math_units.Unit) -> str:
    return rf"({value})\cdot\frac{{{unit.size.numerator}}}{{{unit.size.denominator}}}"


@lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    """One value in the spelling that exact arithmetic and Math-Verify read."""
    text = _SCIENTIFIC.sub(r"\1\\cdot 10^{\2}", text) if _SCIENTIFIC.fullmatch(text) else text
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


def _squeezed(text: str) -> str:
    return re.sub(r"\s|\\[,;!]", "", text)
