"""Asks Math-Verify whether an answer is a gold (report 7.1, steps 2 to 4), if it can be asked at all.

Math-Verify parses with a grammar that looks far ahead and hands the rest to a computer algebra system: nested brackets,
towers of powers, factorials of factorials take it minutes. ``readable`` refuses those by their shape, before the parse;
its bounds are far above what an answer needs. What is left is for a process that can be killed.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from .prose import is_prose, without
from .work import SYMBOLIC_STEPS, spend

CLOSE = 1e-5
"""Decimals nearer than this, relatively, may be the same number rounded: Math-Verify decides (six decimals)."""

MAX_CHARS = 1_500
MAX_PROSE_CHARS = 10_000
_MAX_DEPTH = 9
_MAX_TOWER = 4
_MAX_FUNCTIONS_IN_TERM = 5
_MAX_SLASHES_IN_TERM = 6
_MAX_OPERAND = 80
"""Most tokens after such a function, or after a sum or an integral."""
_MAX_OF = {
    "command": 250,
    "bracket": 150,
    "product of brackets": 25,
    "function": 25,
    "big operator": 6,
    "union": 20,
    "percent": 20,
    "equality": 25,
    "relation": 10,
    "factorial": 25,
    "bar": 16,
    "letter": 120,
}
"""How many of each kind a text may hold."""
_TOKEN = re.compile(
    r"(?P<function>\\(?:sin|cos|tan|cot|sec|csc|arc[a-z]{3}|log|ln|exp|floor|lfloor|lceil|gcd|max|min))"
    r"|(?P<big_operator>\\(?:sum|prod|i?i?int|lim)(?![a-z]))|(?P<union>\\(?:cup|cap|setminus)(?![a-z]))"
    r"|(?P<relation>\\(?:leq?|geq?|neq?|in)(?![a-z])|[<>])"
    r"|(?P<open>\\\{|[(\[{])|(?P<close>\\\}|[)\]}])|(?P<percent>\\?%)|(?P<bar>\\\||\|)|(?P<command>\\(?:[a-zA-Z]++|.))"
    r"|(?P<equality>=)|(?P<factorial>!)|(?P<raised>[\^_])|(?P<letter>[a-zA-Z])|\S",
    re.DOTALL,
)
_WORD = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]{2,}+")
_ATOM = r"(?:\{[^{}]{0,40}+\}|\\[a-zA-Z]{1,12}+|\d[\d,]*+|[^{}\\\s])"
_RAISED_RUN = re.compile(rf"(?:[\^_]\s*+{_ATOM}\s*+){{4}}")
_RUN = re.compile(
    r"(\\[a-zA-Z]{1,30}+)\s*+(?:\1(?![a-zA-Z])\s*+){3}"  # \log\log\log\log
    r"|!\s*+!\s*+!|(?<![\d,.])\d[\d,.]{5,}+\s*+[!}]?\s*+!"
    rf"|(?:[\^_]\s*+{_ATOM}\s*+){{4}}"  # 2^2^2^2^2, which is an error to TeX
    r"|(?:[-+]\s*+){6}|(?:[|_^]\s*+){5}|(?:[<>=]\s*+){5}"
)


@lru_cache(maxsize=1024)
def readable(text: str) -> bool:
    """Whether Math-Verify comes to an end with ``text`` in time, by its length, its nesting and what it repeats."""
    return len(text) <= MAX_CHARS and _simple(text)


def _readable_prose(text: str) -> bool:
    """``readable`` for the text around formulas, which Math-Verify takes one by one and ``text`` does not hold."""
    return len(text) <= MAX_PROSE_CHARS and _simple(_WORD.sub("", text))


def _simple(text: str) -> bool:
    if _RUN.search(text):
        return False
    met: Counter[str] = Counter()
    towers: list[bool] = []  # for each open bracket, whether it is raised or lowered
    slashes = functions = operand = 0  # in one term: functions without brackets, which may take all that follows
    before = ""
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup or ""
        if kind == "open":
            met["bracket"] += 1
            met["product of brackets"] += before == "close"
            towers.append(before == "raised")
            if len(towers) > _MAX_DEPTH or sum(towers) > _MAX_TOWER:
                return False
        elif kind == "close" and towers:
            towers.pop()
        elif kind:
            functions += kind == "function" and not text.startswith(("(", "{", "\\left("), token.end())
            met[kind.replace("_", " ")] += 1
        slashes += token[0] == "/"
        operand += functions > 0 or met["big operator"] > 0
        if slashes > _MAX_SLASHES_IN_TERM or functions > _MAX_FUNCTIONS_IN_TERM or operand > _MAX_OPERAND:
            return False
        if token[0] in "+-=,;&<>" and not met["big operator"]:
            slashes = functions = operand = 0
        before = kind
    return all(met[kind] <= most for kind, most in _MAX_OF.items())


@lru_cache(maxsize=4096)  # the responses of a group tend to repeat a few answers
def equal(answer: str, gold: str, boxed: bool) -> bool:
    """Steps 2 to 4 for one gold. An answer Math-Verify cannot read differs from every gold, as with Math-Verify.

    If ``boxed`` is false, the answer is prose, and Math-Verify looks for a formula in it.
    """
    mine, theirs = _askable(answer, prose=not boxed), _askable(gold)
    if mine is None or theirs is None:
        return False
    spend(SYMBOLIC_STEPS + 100 * len(mine))
    return _asked(mine, theirs, boxed)


def _askable(text: str, *, prose: bool = False) -> str | None:
    """The part of ``text`` that Math-Verify may be asked about: all of it, or sentences without unreadable formulas.

    In ``prose``, which no box holds, Math-Verify takes formulas and numbers only; in a box it takes words as well.
    """
    if prose:
        text = _RAISED_RUN.sub("", text[-MAX_PROSE_CHARS:])
        return without(text, lambda formula: not readable(formula))
    if not is_prose(text):
        return text if readable(text) else None
    return without(text, lambda formula: not readable(formula)) if _readable_prose(without(text, bool)) else None


def _asked(answer: str, gold: str, boxed: bool) -> bool:
    parse, verify = math_verify_functions()
    parsed = parse(f"\\boxed{{{answer}}}" if boxed else answer, parsing_timeout=None)
    if parsed and isinstance(parsed[-1], str) and parsed[-1].strip() == gold:
        return True
    theirs = _parsed_gold(gold)
    if "%" not in answer + gold and theirs and parsed and _apart(theirs[0], parsed[0]):
        return False
    return verify(theirs, parsed, timeout_seconds=None)


def _apart(gold: Any, answer: Any) -> bool:
    """Whether two parsed expressions plainly differ once numbers are put in: relatively, at 30 digits.

    Most differences are found here, at a fraction of what proving them costs Math-Verify. Its "same" cannot be trusted
    for them, since it rounds to six decimals and drops what is small. Two equations differ if they do not vanish
    together: to Math-Verify all equations without a real solution are equal.
    """
    from sympy import Eq, Expr, Float, N, Rational, Symbol

    def at(expression: Any, letters: list[Any], point: int) -> Any:
        values = {letter: Rational(7 * number + 5 * point + 2, 13) for number, letter in enumerate(letters, start=1)}
        return N(expression.doit().subs(values), 30)

    def side_by_side(equation: Any, point: int) -> Any:
        return at(equation.lhs - equation.rhs, sorted(equation.free_symbols, key=str), point)

    try:
        if isinstance(gold, Eq) and isinstance(answer, Eq):
            (a, b), (c, d) = [(side_by_side(gold, point), side_by_side(answer, point)) for point in (1, 2)]
            return not abs(a * d - b * c) <= 1e-9 * abs(a * d)
        if not (isinstance(gold, Expr) and isinstance(answer, Expr)):
            return False
        if gold.free_symbols != answer.free_symbols and (isinstance(gold, Symbol) or isinstance(answer, Symbol)):
            return False  # to Math-Verify the letter "even" is e*v*e*n
        letters = sorted(gold.free_symbols | answer.free_symbols, key=str)
        theirs, mine = at(gold, letters, 1), at(answer, letters, 1)
        tolerance = CLOSE if gold.has(Float) or answer.has(Float) else 1e-12
        return bool(abs(theirs - mine) > tolerance * max(abs(theirs), abs(mine)))
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        return isinstance(gold, Eq) and isinstance(answer, Eq)  # no number to look at: ∞, sets, matrices


@lru_cache(maxsize=1024)
def _parsed_gold(gold: str) -> list[Any]:
    parse, _ = math_verify_functions()
    return parse(f"\\boxed{{{gold}}}", parsing_timeout=None)


@cache
def math_verify_functions() -> tuple[Callable[..., list[Any]], Callable[..., bool]]:
    """``parse`` and ``verify``. Importing them takes most of a second, and the parent of a pool never needs them."""
    import math_verify

    # Its own timeouts stay off: they look like "wrong", apply to each of N x M comparisons, and cancel any alarm
    # already set. It warns about that once.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return math_verify.parse, math_verify.verify


def warm_up() -> None:
    """Import Math-Verify, and have it build what it builds on first use, before the first clock starts. The processes
    that grade call this before they say that they are ready."""
    equal(r"\frac{1}{2}", "0.5", True)
