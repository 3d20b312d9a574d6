"""Compares what came out with what was expected, as text or as tables of nodes (``sandboxed.plain``). Pure.

Four rules have names. ``livecodebench`` is what LiveCodeBench's public harness does (checkout 28fef95), so that rewards
and scores can be compared with published ones; ``exact`` takes printed text as it stands; ``tolerance`` lets numbers
differ; ``checker`` asks a program, which happens elsewhere.

This runs outside the sandbox, in a process that nobody kills. So the work is linear in what came out, no more pieces
are made of it than are expected, and nothing builds a hashed container of a solution's numbers, which can be made to
collide.
"""

import math
import re
from decimal import Decimal
from enum import StrEnum
from typing import Any

_MAX_NUMBER_CHARS = 400
_FRACTION = re.compile(r"(-?[0-9]{1,4000})(?:/([1-9][0-9]{0,3999}))?")
_MAX_RARE_BITS = 20_000
"""Most digits of integers that are compared with such numbers: making a ``Decimal`` takes quadratic time."""
_MAPPINGS = ("dict", "OrderedDict", "defaultdict", "Counter")


class Comparison(StrEnum):
    """The rule by which outputs and returned values are judged."""

    LIVECODEBENCH = "livecodebench"
    EXACT = "exact"
    TOLERANCE = "tolerance"
    CHECKER = "checker"
    ASSERTIONS = "assertions"
    """Test programs judge by themselves; no row asks for this by name."""


def same_output(actual: str, expected: str, rule: Comparison, tolerance: float | None = None) -> bool:
    """Whether two outputs agree, line by line. Blanks around a line and empty lines around the whole do not count.

    A line is right if it is the same text. By ``livecodebench`` also if both lines are decimal numbers from end to
    end, as many, each equal to its partner (``0.50 7`` is ``0.5  007``). With ``tolerance`` also if the words of both
    are equal one by one, or numbers that differ by no more than it.
    """
    mine, due = actual.strip(), expected.strip()
    if mine.count("\n") != due.count("\n"):
        return False
    lines = zip(mine.split("\n"), due.split("\n"), strict=True)
    return all(_same_line(a.strip(), b.strip(), rule, tolerance) for a, b in lines)


def _same_line(mine: str, due: str, rule: Comparison, tolerance: float | None) -> bool:
    if mine == due:
        return True
    if rule is Comparison.EXACT:
        return False
    due_words = due.split()
    words = mine.split(None, len(due_words))
    if len(words) != len(due_words):
        return False
    if all(_same_decimal(a, b) for a, b in zip(words, due_words, strict=True)):
        return True
    return tolerance is not None and all(
        a == b or _close(_number(a), _number(b), tolerance) for a, b in zip(words, due_words, strict=True)
    )


def _same_decimal(mine: str, due: str) -> bool:
    """Whether two decimal numbers are equal without rounding. ``nan`` equals nothing, not even itself."""
    try:
        a, b = Decimal(mine), Decimal(due)
    except (ArithmeticError, ValueError):
        return False
    return not a.is_nan() and not b.is_nan() and a == b


def _number(word: str) -> float | None:
    if len(word) > _MAX_NUMBER_CHARS or "_" in word:
        return None
    try:
        return float(word)
    except ValueError:
        return None


def _close(mine: float | None, due: float | None, tolerance: float) -> bool:
    return mine is not None and due is not None and math.isclose(mine, due, rel_tol=tolerance, abs_tol=tolerance)


def same_value(nodes: list[Any], ref: Any, expected: Any, rule: Comparison, tolerance: float | None = None) -> bool:
    """Whether a returned value, as a node table, is the ``expected`` one, which came from JSON.

    ``livecodebench`` compares as Python's ``==`` does, except that a tuple at the top counts as a list: further in, a
    tuple equals no list, and a key equals only a text. The other rules compare JSON forms: JSON has no tuples, and its
    keys are texts. The work is iterative, because a value may be nested as deep as a solution likes.
    """
    as_python = rule is Comparison.LIVECODEBENCH
    lists: tuple[str, ...] = ("list", "tuple")
    waiting = [(ref, expected)]
    budget = 50_000_000
    while waiting:
        mine, due = waiting.pop()
        budget -= 1
        if budget < 0:
            return False
        tag, body = _opened(nodes, mine)
        if isinstance(due, list):
            if tag not in lists or len(body) != len(due):
                return False
            waiting.extend(zip(body, due, strict=True))
        elif isinstance(due, dict):
            if tag not in _MAPPINGS or len(body) != len(due):
                return False
            mine_by_key = {_key(nodes, key, as_python): value for key, value in body}
            if mine_by_key.keys() != due.keys():
                return False
            waiting.extend((mine_by_key[key], value) for key, value in due.items())
        elif tag == "scalar":
            if not _same_scalar(body, due, tolerance):
                return False
        elif not as_python or not _same_rare_number(tag, body, due):
            return False
        lists = ("list",) if as_python else lists
    return True


def _opened(nodes: list[Any], ref: Any) -> tuple[str, Any]:
    """(tag, body) of what ``ref`` stands for; ``scalar`` for what JSON could hold by itself."""
    for _ in range(3):
        if type(ref) is not list:
            return "scalar", ref
        (index,) = ref
        if type(index) is not int or not 0 <= index < len(nodes):
            break
        tag, body = nodes[index]
        if tag == "int":
            return "scalar", int(body, 16)
        if tag == "float":
            return "scalar", float(body)
        if tag not in ("same", "named"):
            return str(tag), body
        ref = body if tag == "same" else body[0]
    return "nothing", None


def _key(nodes: list[Any], ref: Any, as_python: bool) -> str | None:
    tag, body = _opened(nodes, ref)
    if tag != "scalar" or type(body) is float or (as_python and type(body) is not str):
        return None
    if body is None or type(body) is bool:
        return {None: "null", True: "true", False: "false"}[body]
    return str(body) if type(body) is str or abs(body) < 1 << 64 else None


def _same_scalar(mine: Any, due: Any, tolerance: float | None) -> bool:
    if isinstance(mine, str) or isinstance(due, str) or mine is None or due is None:
        return type(mine) is type(due) and mine == due
    if mine == due:
        return True
    if tolerance is None or isinstance(mine, bool) or isinstance(due, bool):
        return False
    try:
        return _close(float(mine), float(due), tolerance)
    except OverflowError:
        return False


def _same_rare_number(tag: str, body: Any, due: Any) -> bool:
    """Compare numbers that JSON does not have but that Python's ``==`` compares with those that it has."""
    if not isinstance(due, (int, float)) or (isinstance(due, int) and due.bit_length() > _MAX_RARE_BITS):
        return False
    match tag:
        case "Decimal":
            mine = Decimal(str(body))
            return not mine.is_nan() and mine == due
        case "complex":
            real, imaginary = map(float, body)
            return imaginary == 0 and real == due
        case "Fraction":
            parts = _FRACTION.fullmatch(body)  # ``Fraction`` itself would expand 1e999999999
            if parts is None or (isinstance(due, float) and not math.isfinite(due)):
                return False
            numerator, denominator = due.as_integer_ratio()
            return int(parts[1]) * denominator == numerator * int(parts[2] or 1)
    return False
