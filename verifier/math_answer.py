"""Grades a mathematical answer by the report's four steps (7.1). Pure: text in, verdict kind and reason out.

1. Take the answer after the reasoning; a truncated response, or reasoning that never closes, has none.
2. Parse it with Math-Verify and take its string form.
3. If that equals the gold, it is correct.
4. Otherwise Math-Verify's ``verify`` decides, against the gold wrapped in ``\\boxed{}`` (parsing a bare gold can
   change it). Several golds are alternatives.

Before it come equal text and the rules of ``math_rules`` with exact arithmetic: most answers end there (``quickly``),
and what Math-Verify reads poorly is decided there. What plainly differs in number (``_apart``) does not come before it
either: it would prove the difference at length, or round it away.

Math-Verify is only ever given what stands in the box, never the prose around it: on whole responses it prefers
"the final answer is $7$" to the box, and grades the reasoning when there is no box.
"""

from __future__ import annotations

import logging
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from types import FrameType
from typing import Any

from ..common.types import VerdictKind
from . import math_rules

MAX_ANSWER_CHARS = 10_000
"""No gold is this long; parsing something that is only costs time."""
MAX_RULED_CHARS = 1_000
"""Longer answers go to Math-Verify as they are."""
MAX_QUICK_CHARS = 200_000
"""Longer responses are not even scanned for a box outside a process that can be killed."""

_OTHER_BOX = re.compile(r"\\fbox\s*(?=\{)|\\boxed(?:\s+|(?=[\d+-]))([+-]?\d+(?:[./]\d+)*|[A-Z])(?![\w{])")
"""Boxes in other words: \\fbox{5}, and \\boxed with a number or a choice's letter but no braces."""
_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_PLAIN_INTEGER = re.compile(r"([+-]?)([0-9]{1,1000})")
_VARIABLE = r"[A-Za-z](?:_\{?\w+\}?)?\s*="
_BETWEEN_BOXES = re.compile(
    rf"(?:[\s$,;&]|\\[()\[\],;:!\\]|\\q?quad|and|or|\\(?:text|mathrm)\{{[\s,]*(?:and|or)\s*\}}|{_VARIABLE})*"
)
_MAX_BETWEEN_BOXES = 70
_PROSE_AND = re.compile(
    r"[\s$)]*(?:\\text\{)?(?!.*\b(?:not|no|but|wrong|instead|so|if|then)\b)[^.;:!?{}\\]*\b(?:and|or)[\s}$(]*"
)
"""\\boxed{3} papers and \\boxed{2} bins."""


def grade_math(
    response_text: str,
    golds: tuple[str, ...],
    finished: bool,
    *,
    reasoning_open: bool = False,
    require_boxed: bool = True,
    clock_s: float | None = 10.0,
) -> tuple[VerdictKind, str]:
    """What the response is worth against any one of ``golds``, and why.

    ``reasoning_open`` says that the prompt itself ended inside ``<think>``. ``clock_s`` rings SIGALRM, so it needs the
    main thread; it stops Python code only. ``None`` leaves the clock to a caller who can kill this process, which is
    the one clock that always works (see ``pool.GraderPool``).
    """
    if not any(gold.strip() for gold in golds):
        raise ValueError("there is no gold to compare with")
    answer, boxed, no_answer = _found(response_text, finished, reasoning_open, require_boxed)
    return no_answer or _judge(answer, golds, boxed, clock_s)


def quickly(
    response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool = False
) -> tuple[VerdictKind, str] | None:
    """``grade_math``'s verdict where it takes no Math-Verify, else None. Microseconds, and nothing in it can be slow,
    so it may run in a process that must not be killed."""
    if len(response_text) > MAX_QUICK_CHARS or not any(gold.strip() for gold in golds):
        return None
    answer, _, no_answer = _found(response_text, finished, reasoning_open, True)
    if no_answer or len(answer) + max(map(len, golds)) > MAX_RULED_CHARS:
        return no_answer
    return _judge_exactly(math_rules.said(answer), golds)[0]


def grade_solution(
    response_text: str,
    golds: tuple[str, ...],
    finished: bool,
    *,
    reasoning_open: bool = False,
    clock_s: float | None = 10.0,
) -> tuple[VerdictKind, str]:
    """Whether a written solution ends in one of ``golds`` (report 6.1): by its box, or by what Math-Verify finds in
    prose that boxes nothing. For preparing data, where nobody gains by writing two answers; never for rewards."""
    answer, boxed, no_answer = _found(response_text, finished, reasoning_open, False)
    if no_answer or boxed:
        return no_answer or _judge(answer, golds, boxed, clock_s)
    try:
        with _clock(clock_s):
            for gold in filter(str.strip, golds):
                if _math_verify_equal(answer, _plain_gold(gold), boxed=False):
                    return VerdictKind.CORRECT, "equal to Math-Verify"
    except _Overrun:
        return VerdictKind.TIMEOUT, f"still comparing after {clock_s:g} s"
    return VerdictKind.WRONG, f"ends in {answer[-80:]}"


def quickly_solution(
    response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool = False
) -> tuple[VerdictKind, str] | None:
    """``grade_solution``'s verdict where its box settles it, else None."""
    found = quickly(response_text, golds, finished, reasoning_open=reasoning_open)
    return None if found is not None and found[0] is VerdictKind.NO_ANSWER and finished else found


def _found(
    response_text: str, finished: bool, reasoning_open: bool, require_boxed: bool
) -> tuple[str, bool, tuple[VerdictKind, str] | None]:
    """The answer, whether it stood in a box, and the verdict where there is no answer."""
    if not finished:
        return "", False, (VerdictKind.NO_ANSWER, "truncated")
    text = _after_reasoning(response_text, reasoning_open)
    if text is None:
        return "", False, (VerdictKind.NO_ANSWER, "the reasoning never closes")
    boxed = _boxed(text)
    if boxed is None and require_boxed:
        return "", False, (VerdictKind.NO_ANSWER, "nothing boxed")
    answer = text.strip()[-MAX_ANSWER_CHARS:] if boxed is None else boxed
    return answer, boxed is not None, None if answer else (VerdictKind.NO_ANSWER, "empty")


def extract_answer(
    response: str, *, finished: bool, reasoning_open: bool = False, require_boxed: bool = True
) -> str | None:
    """What stands in the last box after the reasoning, or None where there is no answer.

    Boxes with nothing but "and", "or" or punctuation between them are one answer, joined by commas. Without
    ``require_boxed`` a response that boxes nothing answers with all its text after the reasoning.
    """
    text = _after_reasoning(response, reasoning_open) if finished else None
    if text is None:
        return None
    answer = _boxed(text)
    if answer is None and not require_boxed:
        answer = text.strip()
    return answer or None


def warm_up() -> None:
    """Pay for the import of Math-Verify, and for what it builds on first use, before the first clock starts."""
    _math_verify_equal(r"\frac{1}{2}", "0.5", boxed=True)


def _after_reasoning(response: str, reasoning_open: bool) -> str | None:
    """The text after the last ``</think>``; all of it where nobody opened a think block; None inside an open one."""
    _, closed, answer = response.rpartition("</think>")
    # What follows the last close may open again; without any close, the prompt's opening still stands.
    if "<think>" in answer or (reasoning_open and not closed):
        return None
    return _OTHER_BOX.sub(lambda box: "\\boxed" + ("" if box[1] is None else f"{{{box[1]}}}"), answer)


def _boxed(text: str, *, trusted: bool = False) -> str | None:
    """Contents of the last box and of those joined to it. One pass, so a megabyte of braces stays a linear matter.

    A ``trusted`` text, a gold, joins them as Math-Verify does: whatever is close together.
    """
    boxes = _outermost_boxes(text)
    if not boxes:
        return None
    run: list[str] = []
    joined_to = len(text)
    for start, content_start, content_end in reversed(boxes):
        content = text[content_start:content_end].strip()
        between = text[content_end + 1 : joined_to]
        if run and not (_joined(between) or (trusted and _close(between))):
            break
        if not run or content != run[-1]:
            run.append(content)
        joined_to = start
    return ",".join(reversed(run))


def _joined(between: str) -> bool:
    """Whether two boxes with this between them are one answer."""
    return len(between) <= _MAX_BETWEEN_BOXES and bool(
        _BETWEEN_BOXES.fullmatch(between) or _PROSE_AND.fullmatch(between)
    )


def _close(between: str) -> bool:
    return len(between) < 10 or (
        len(between) < _MAX_BETWEEN_BOXES and re.search(r"\b(?:and|or)\b|[,;]", between) is not None
    )


def _outermost_boxes(text: str) -> list[tuple[int, int, int]]:
    """(start, start of its content, end of its content) of every closed box that is not inside another, in order.

    A box that never closes is none, as in TeX. Escaped braces do not count. Offsets, not text: slicing each of many
    nested boxes would be quadratic.
    """
    first = text.find("\\boxed")
    if first < 0:
        return []
    boxes: list[tuple[int, int, int]] = []
    open_braces: list[tuple[int, int] | None] = []  # (start, content start) of a box, None for a plain brace
    for token in _BRACES.finditer(text, first):
        if token[0] == "{":
            open_braces.append(None)
        elif token[0] == "}":
            box = open_braces.pop() if open_braces else None
            if box is not None:
                while boxes and boxes[-1][0] > box[0]:
                    boxes.pop()  # it was inside this one
                boxes.append((*box, token.start()))
        elif token[0].endswith("{") and token[0] != "\\{":
            open_braces.append((token.start(), token.end()))
    return boxes


def _judge(answer: str, golds: tuple[str, ...], boxed: bool, clock_s: float | None) -> tuple[VerdictKind, str]:
    answer = math_rules.said(answer)
    found, undecided = _judge_exactly(answer, golds)
    if found is not None:
        return found
    try:
        with _clock(clock_s):
            for gold in undecided:
                if boxed and (truth := math_rules.equal(answer, gold, _leaf_equal)) is not None:
                    if truth:
                        return VerdictKind.CORRECT, "equal by rule"
                elif _math_verify_equal(answer, gold, boxed):
                    return VerdictKind.CORRECT, "equal to Math-Verify"
    except _Overrun:
        return VerdictKind.TIMEOUT, f"still comparing after {clock_s:g} s"
    return VerdictKind.WRONG, f"answered {answer[:80]}"


def _judge_exactly(answer: str, golds: tuple[str, ...]) -> tuple[tuple[VerdictKind, str] | None, list[str]]:
    """The verdict where text, rules and exact arithmetic settle it, and the golds they do not settle."""
    candidates = [_plain_gold(gold) for gold in golds if gold.strip()]
    if answer in candidates:
        return (VerdictKind.CORRECT, "equal as written"), []
    if len(answer) > MAX_ANSWER_CHARS:
        return (VerdictKind.WRONG, f"the answer has {len(answer)} characters"), []
    undecided = []
    for gold in candidates:
        truth = _same_integer(answer, gold)
        if truth is None and len(answer) < MAX_RULED_CHARS:
            truth = math_rules.equal(answer, gold, math_rules.exactly)
        if truth:
            return (VerdictKind.CORRECT, "equal by rule"), []
        if truth is None:
            undecided.append(gold)
    return (None if undecided else (VerdictKind.WRONG, f"answered {answer[:80]}")), undecided


@lru_cache(maxsize=1024)
def _plain_gold(gold: str) -> str:
    """A gold as an answer is given: what its box holds, where it comes as a response with one."""
    gold = gold.replace("\\\\boxed", "\\boxed")
    boxed = (_boxed(gold, trusted=True) or _boxed(gold + "}", trusted=True)) if "boxed" in gold else None
    return boxed or math_rules.said(gold.strip())


def _same_integer(answer: str, gold: str) -> bool | None:
    """Plain integers, of any length and at once; None for everything else."""
    left, right = _PLAIN_INTEGER.fullmatch(answer), _PLAIN_INTEGER.fullmatch(gold)
    return None if left is None or right is None else _canonical(left) == _canonical(right)


def _canonical(integer: re.Match[str]) -> tuple[bool, str]:
    digits = integer[2].lstrip("0")
    return integer[1] == "-" and digits != "", digits


def _leaf_equal(answer: str, gold: str) -> bool:
    """What stands inside a shape: exactly where that can be said, else by Math-Verify."""
    truth = math_rules.exactly(answer, gold)
    return _math_verify_equal(answer, gold, True) if truth is None else truth


@lru_cache(maxsize=4096)  # the responses of a group tend to repeat a few answers
def _math_verify_equal(answer: str, gold: str, boxed: bool) -> bool:
    """Steps 2 to 4 for one gold. An answer Math-Verify cannot read differs from every gold, as with Math-Verify."""
    parse, verify = _math_verify()
    parsed = parse(f"\\boxed{{{answer}}}" if boxed else answer, parsing_timeout=None)
    if parsed and isinstance(parsed[-1], str) and parsed[-1].strip() == gold:
        return True
    theirs = _parsed_gold(gold)
    if "%" not in answer + gold and theirs and parsed and _apart(theirs[0], parsed[0]):
        return False
    return verify(theirs, parsed, timeout_seconds=None)


def _apart(gold: Any, answer: Any) -> bool:
    """Whether two parsed expressions plainly differ where one can put numbers in: relatively, at 30 digits.

    Most differences are found here, at a fraction of what proving them costs Math-Verify; and its "same" is not to be
    had where they differ, for it rounds to six decimals and chops what is small. Two equations differ where they do not
    vanish together: to Math-Verify all equations without a real solution are equal.
    """
    from sympy import Eq, Expr, Float, N, Rational

    def at(expression: Any, point: int) -> Any:
        letters = sorted(expression.free_symbols, key=str)
        values = {letter: Rational(7 * number + 5 * point + 2, 13) for number, letter in enumerate(letters, start=1)}
        return N(expression.doit().subs(values), 30)

    try:
        if isinstance(gold, Eq) and isinstance(answer, Eq):
            (a, b), (c, d) = [(at(gold.lhs - gold.rhs, point), at(answer.lhs - answer.rhs, point)) for point in (1, 2)]
            return not abs(a * d - b * c) <= 1e-9 * abs(a * d)
        if not (isinstance(gold, Expr) and isinstance(answer, Expr)) or gold.free_symbols != answer.free_symbols:
            return False
        theirs, mine = at(gold, 1), at(answer, 1)
        tolerance = math_rules.CLOSE if gold.has(Float) or answer.has(Float) else 1e-12
        return bool(abs(theirs - mine) > tolerance * max(abs(theirs), abs(mine)))
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        return isinstance(gold, Eq) and isinstance(answer, Eq)  # no number to look at: ∞, sets, matrices


@lru_cache(maxsize=1024)
def _parsed_gold(gold: str) -> list[Any]:
    parse, _ = _math_verify()
    return parse(f"\\boxed{{{gold}}}", parsing_timeout=None)


@cache
def _math_verify() -> tuple[Callable[..., list[Any]], Callable[..., bool]]:
    """Math-Verify's two functions: most of a second to import, and the parent of a pool never needs them."""
    import math_verify

    # Its own timeouts stay off: they look like "wrong", apply to each of N x M comparisons, and cancel any alarm
    # already set. It warns about that once.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return math_verify.parse, math_verify.verify


class _Overrun(BaseException):
    """Not an ``Exception``: Math-Verify and sympy swallow those and would return "different"."""


@contextmanager
def _clock(seconds: float | None) -> Iterator[None]:
    """Raise ``_Overrun`` inside the block after ``seconds``, and give back an alarm somebody else had set."""
    if seconds is None:
        yield
        return

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise _Overrun

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    # It rings again each second: an exception raised inside a finalizer is dropped by Python.
    outer_s, outer_interval_s = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer_s:
            left_s = outer_s - (time.monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left_s, 0.001), outer_interval_s)
