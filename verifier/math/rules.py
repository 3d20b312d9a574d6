"""The documented rules (docs/reference/math-rules.md): whether an answer is a gold, shape by shape.

Pure, and three-valued: True and False are the rules' decision, and None leaves it to Math-Verify. Shapes are compared
here. What stands inside them goes to ``leaf``, which may be exact arithmetic alone (``leaves.exactly``: cheap, often
None), or that and Math-Verify (``answer``). If a rule must choose, it chooses the false negative.

Comparisons are counted (``work``): lists of n and m answers take n × m of them.
"""

import re
from collections.abc import Iterable
from itertools import chain

from . import choices, exact, polynomials, prose, sets, units
from .leaves import same_leaf, squeezed
from .logic import LeafTest, Truth, all_of, any_of
from .reading import MAX_CHARS, read
from .shapes import Equation, Group, Leaf, Matrix, Reading, Several, Union, has_letters
from .work import spend

_PLAIN_NAME = re.compile(r"[a-zA-Z+\-\\{}()|_ ]+")
_INDEX = re.compile(r"_(?:\d++|\{\d++\})$")


def equal(answer: str, gold: str, leaf: LeafTest) -> Truth:
    """Whether ``answer`` is ``gold``; None if no rule says. ``OutOfWork`` if it would take too long to say."""
    if max(len(answer), len(gold)) > MAX_CHARS:
        return None
    spend(100 + len(answer) + len(gold))
    if prose.is_prose(answer) or prose.is_prose(gold):
        if squeezed(answer).lower() == squeezed(gold).lower():
            return True
        return False if prose.is_prose(answer) and prose.hedges(answer) else None
    letters = choices.several(answer, gold)
    if letters is not None:
        return letters
    return any_of(_same(mine, theirs, leaf) for theirs in read(gold) for mine in read(answer))


def _same(answer: Reading, gold: Reading, leaf: LeafTest) -> Truth:
    spend(5)
    match answer, gold:
        case (Equation(), _) | (_, Equation()):
            return _equations(answer, gold, leaf)
        case Leaf(), Leaf():
            return same_leaf(answer.text, gold.text, leaf)
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
        case (Union(), Union()) | (Union(), Group()) | (Group(), Union()):
            return _unions(answer, gold, leaf)
        case Matrix(), Matrix():
            if [len(row) for row in answer.rows] != [len(row) for row in gold.rows]:
                return False
            return _in_order([cell for row in answer.rows for cell in row], [c for row in gold.rows for c in row], leaf)
        case (Matrix(), Several() | Union()) | (Several() | Union(), Matrix()):
            return False
        case Several(), Leaf():
            return None if "±" in gold.text else all_of(_same(item, gold, leaf) for item in answer.items)
        case Leaf(), Several():
            return None if "±" in answer.text else all_of(_same(answer, item, leaf) for item in gold.items)
        case _:
            return None


def _unions(answer: Reading, gold: Reading, leaf: LeafTest) -> Truth:
    """Compare unions interval by interval: from left to right if the ends can be put in order, else in any order."""
    mine = answer.items if isinstance(answer, Union) else (answer,)
    theirs = gold.items if isinstance(gold, Union) else (gold,)
    ordered, golds = sets.in_order(mine), sets.in_order(theirs)
    if ordered is not None and golds is not None:
        return _in_order(ordered, golds, leaf)
    return _as_sets(mine, theirs, leaf) or (len(mine) != len(theirs) and None)


def _several(answer: Several, gold: Several, leaf: LeafTest) -> Truth:
    """Compare lists in any order, without repetitions. Order counts if the items have dots, or names on one side
    only."""
    if answer.ordered or gold.ordered:
        return len(answer.items) == len(gold.items) and _in_order(answer.items, gold.items, leaf)
    mine, theirs = _names(answer), _names(gold)
    if (len(mine) > 1) != (len(theirs) > 1) and not (answer.braces or gold.braces):
        return _in_order(_values(answer), _values(gold), leaf)  # x = 3, y = 5 for 3, 5
    if len(mine) <= 1 and len(theirs) <= 1:
        if mine and theirs:
            if not all(isinstance(item, Equation) for item in (*answer.items, *gold.items)):
                return _as_sets(answer.items, gold.items, leaf) if mine == theirs else False
            if mine != theirs and not (_is_call(answer) and _is_call(gold)):
                return False
        return _as_sets(_values(answer), _values(gold), leaf)
    return _as_sets(answer.items, gold.items, leaf)


def _names(several: Several) -> set[str]:
    """The different names in the equations of a list; x_1 and x_2 are two values of x."""
    labels = [item.label for item in several.items if isinstance(item, Equation)]
    return {_INDEX.sub("", name) if name else f"?{at}" for at, name in enumerate(labels)}


def _is_call(several: Several) -> bool:
    return all(isinstance(item, Equation) and "(" in item.left for item in several.items)


def _values(several: Several) -> tuple[Reading, ...]:
    return tuple(item.right if isinstance(item, Equation) and item.label else item for item in several.items)


def _in_order(answers: Iterable[Reading], golds: Iterable[Reading], leaf: LeafTest) -> Truth:
    mine, theirs = list(answers), list(golds)
    return len(mine) == len(theirs) and all_of(_same(a, g, leaf) for a, g in zip(mine, theirs, strict=True))


def _as_sets(answers: tuple[Reading, ...], golds: tuple[Reading, ...], leaf: LeafTest) -> Truth:
    """Whether each answer is a gold and each gold is answered. No pair is compared twice."""
    mine, theirs = dict.fromkeys(answers), dict.fromkeys(golds)
    known: dict[tuple[Reading, Reading], Truth] = {}

    def same(answer: Reading, gold: Reading) -> Truth:
        if (answer, gold) not in known:
            known[answer, gold] = _same(answer, gold, leaf)
        return known[answer, gold]

    return all_of(
        chain(
            (True if answer in theirs else any_of(same(answer, gold) for gold in theirs) for answer in mine),
            (True if gold in mine else any_of(same(answer, gold) for answer in mine) for gold in theirs),
        )
    )


def _equations(answer: Reading, gold: Reading, leaf: LeafTest) -> Truth:
    if not isinstance(answer, Equation):
        assert isinstance(gold, Equation)
        return _same(answer, gold.right, leaf) if gold.label else False  # 0 does not answer a + 3z = 0
    if not isinstance(gold, Equation):
        named = answer.label or _PLAIN_NAME.fullmatch(answer.left)
        if named or units.split(answer.left)[1]:
            return _same(answer.right, gold, leaf)  # x = 3, a + b = 3, 1/2 hour = 30
        if has_letters(answer.left):
            return None if isinstance(gold, Leaf) and "=" in gold.text else False
        # 2 + 3 = 5, but not 4 = 5
        return all_of([_same(Leaf(answer.left), answer.right, leaf), _same(answer.right, gold, leaf)])
    if answer.label and gold.label:
        if answer.label == gold.label:
            return _same(answer.right, gold.right, leaf)
        letters = len(answer.label) == len(gold.label) == 1
        if letters and isinstance(answer.right, Leaf) and not has_letters(answer.right.text):
            return False  # y = 3 is not x = 3
        if _is_value_of_call(answer) and _is_value_of_call(gold):
            return False  # f(2) = 5 is not f(3) = 5
    if answer.left == gold.left and (same := _same(answer.right, gold.right, leaf)):
        return same
    return _same_curve(answer, gold)


def _is_value_of_call(equation: Equation) -> bool:
    return equation.left[-1] in ")]" and any(map(str.isdigit, equation.left))


def _same_curve(answer: Equation, gold: Equation) -> Truth:
    """Whether two equations say the same: left minus right is the same except for a constant factor."""
    if not (isinstance(answer.right, Leaf) and isinstance(gold.right, Leaf)):
        return None
    mine, theirs = _zero_side(answer.left, answer.right.text), _zero_side(gold.left, gold.right.text)
    if mine is None or theirs is None:
        return None
    unsure = mine.decimals or theirs.decimals or mine.opaque or theirs.opaque
    return polynomials.proportional(mine, theirs) or (None if unsure else False)


def _zero_side(left: str, right: str) -> polynomials.Exact | None:
    first, second = exact.read(left), exact.read(right)
    return None if first is None or second is None else polynomials.difference(first, second)
