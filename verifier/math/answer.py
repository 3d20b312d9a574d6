"""Grades a mathematical answer by the report's four steps (7.1). Pure: text in, verdict kind and reason out.

1. Take the answer after the reasoning; a truncated response, or reasoning that never closes, has none.
2. Parse it with Math-Verify and take its string form.
3. If that equals the gold, it is correct.
4. Otherwise Math-Verify's ``verify`` decides, against the gold wrapped in ``\\boxed{}`` (parsing a bare gold can
   change it). Several golds are alternatives.

Before it come equal text and the rules of ``rules`` with exact arithmetic: most answers end there (``quickly``),
and what Math-Verify reads poorly is decided there. What plainly differs in number does not come before it either
(``symbolic``): it would prove the difference at length, or round it away.

Math-Verify is only ever given what stands in the box, never the prose around it: on whole responses it prefers
"the final answer is $7$" to the box, and grades the reasoning when there is no box.

``quickly`` runs where nothing may be slow: its texts are bounded in length, its patterns are linear, and its work is
counted (``work``). What is left is for a process that can be killed.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType

from ...common.types import VerdictKind
from .. import boxes
from . import leaves, prose, rules, symbolic
from .reading import MAX_CHARS as MAX_RULED_CHARS
from .work import QUICK_STEPS, SLOW_STEPS, OutOfWork, allowance

MAX_ANSWER_CHARS = 10_000
"""No gold is this long; comparing something that is only costs time."""
MAX_QUICK_CHARS = 200_000
"""Longer responses are not even searched for the end of their reasoning outside a process that can be killed."""
MAX_SCANNED_CHARS = 50_000
"""Longer texts after the reasoning are not scanned for a box there."""

_PLAIN_INTEGER = re.compile(r"([+-]?)([0-9]{1,1000})")


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
    so it may run in a process that must not be killed: what takes more than ``QUICK_STEPS`` is None as well."""
    if len(response_text) > MAX_QUICK_CHARS or sum(map(len, golds)) > 4 * MAX_RULED_CHARS:
        return None
    if not any(gold.strip() for gold in golds):
        return None
    text = boxes.after_reasoning(response_text, reasoning_open) if finished else ""
    if text is not None and len(text) > MAX_SCANNED_CHARS:
        return None
    answer, _, no_answer = _found(response_text, finished, reasoning_open, True)
    if no_answer or len(answer) + max(map(len, golds)) > MAX_RULED_CHARS:
        return no_answer
    try:
        with allowance(QUICK_STEPS):
            return _judge_exactly(prose.said(answer), golds)[0]
    except OutOfWork:
        return None


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
        with _clock(clock_s), allowance(SLOW_STEPS):
            for gold in filter(str.strip, golds):
                if symbolic.equal(answer, _plain_gold(gold), False):
                    return VerdictKind.CORRECT, "equal to Math-Verify"
    except _Overrun:
        return VerdictKind.TIMEOUT, f"still comparing after {clock_s:g} s"
    except OutOfWork:
        pass
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
    text, why_not = boxes.behind_reasoning(response_text, finished=finished, reasoning_open=reasoning_open)
    if text is None:
        return "", False, (VerdictKind.NO_ANSWER, why_not)
    boxed = boxes.boxed(text)
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
    text = boxes.after_reasoning(response, reasoning_open) if finished else None
    if text is None:
        return None
    answer = boxes.boxed(text)
    if answer is None and not require_boxed:
        answer = text.strip()
    return answer or None


def warm_up() -> None:
    """Pay for the import of Math-Verify, and for what it builds on first use, before the first clock starts."""
    symbolic.warm_up()


def _judge(answer: str, golds: tuple[str, ...], boxed: bool, clock_s: float | None) -> tuple[VerdictKind, str]:
    answer = prose.said(answer)
    try:
        with _clock(clock_s), allowance(SLOW_STEPS):
            found, undecided = _judge_exactly(answer, golds)
            if found is not None:
                return found
            for gold in undecided:
                if boxed and (truth := rules.equal(answer, gold, _leaf_equal)) is not None:
                    if truth:
                        return VerdictKind.CORRECT, "equal by rule"
                elif symbolic.equal(answer, gold, boxed):
                    return VerdictKind.CORRECT, "equal to Math-Verify"
    except _Overrun:
        return VerdictKind.TIMEOUT, f"still comparing after {clock_s:g} s"
    except OutOfWork:
        return VerdictKind.WRONG, f"too much to compare in {answer[:80]}"
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
            truth = rules.equal(answer, gold, leaves.exactly)
        if truth:
            return (VerdictKind.CORRECT, "equal by rule"), []
        if truth is None:
            undecided.append(gold)
    return (None if undecided else (VerdictKind.WRONG, f"answered {answer[:80]}")), undecided


@lru_cache(maxsize=1024)
def _plain_gold(gold: str) -> str:
    """A gold as an answer is given: what its box holds, where it comes as a response with one."""
    gold = gold.replace("\\\\boxed", "\\boxed")
    boxed = (boxes.boxed(gold, trusted=True) or boxes.boxed(gold + "}", trusted=True)) if "boxed" in gold else None
    return boxed or prose.said(gold.strip())


def _same_integer(answer: str, gold: str) -> bool | None:
    """Plain integers, of any length and at once; None for everything else."""
    left, right = _PLAIN_INTEGER.fullmatch(answer), _PLAIN_INTEGER.fullmatch(gold)
    return None if left is None or right is None else _canonical(left) == _canonical(right)


def _canonical(integer: re.Match[str]) -> tuple[bool, str]:
    digits = integer[2].lstrip("0")
    return integer[1] == "-" and digits != "", digits


def _leaf_equal(answer: str, gold: str) -> bool:
    """What stands inside a shape: exactly where that can be said, else by Math-Verify."""
    truth = leaves.exactly(answer, gold)
    return symbolic.equal(answer, gold, True) if truth is None else truth


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
