"""Grades a mathematical answer by the report's four steps (7.1). Pure: text in, verdict kind and reason out.

1. Take the answer after the reasoning; a truncated response, or reasoning that never closes, has none.
2. Parse it with Math-Verify and take its string form.
3. If that equals the gold, it is correct.
4. Otherwise Math-Verify's ``verify`` decides, against the gold wrapped in ``\\boxed{}`` (parsing a bare gold can
   change it). Several golds are alternatives.

Two cheap comparisons come first, because most answers end there: equal text, and plain integers.

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

MAX_ANSWER_CHARS = 10_000
"""No gold is this long; parsing something that is only costs time."""

_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_PLAIN_INTEGER = re.compile(r"([+-]?)([0-9]{1,1000})")
_VARIABLE = r"[A-Za-z](?:_\{?\w+\}?)?\s*="
_BETWEEN_BOXES = re.compile(
    rf"(?:[\s$,;&]|\\[()\[\],;:!\\]|\\q?quad|and|or|\\(?:text|mathrm)\{{[\s,]*(?:and|or)\s*\}}|{_VARIABLE})*"
)
_MAX_BETWEEN_BOXES = 70


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
    if not finished:
        return VerdictKind.NO_ANSWER, "truncated"
    text = _after_reasoning(response_text, reasoning_open)
    if text is None:
        return VerdictKind.NO_ANSWER, "the reasoning never closes"
    boxed = _boxed(text)
    if boxed is None and require_boxed:
        return VerdictKind.NO_ANSWER, "nothing boxed"
    answer = text.strip()[-MAX_ANSWER_CHARS:] if boxed is None else boxed
    if not answer:
        return VerdictKind.NO_ANSWER, "empty"
    return _judge(answer, golds, boxed is not None, clock_s)


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
    return answer


def _boxed(text: str) -> str | None:
    """Contents of the last box and of those joined to it. One pass, so a megabyte of braces stays a linear matter."""
    boxes = _outermost_boxes(text)
    if not boxes:
        return None
    run: list[str] = []
    joined_to = len(text)
    for start, content_start, content_end in reversed(boxes):
        content = text[content_start:content_end].strip()
        between = text[content_end + 1 : joined_to]
        if run and (len(between) > _MAX_BETWEEN_BOXES or not _BETWEEN_BOXES.fullmatch(between)):
            break
        if not run or content != run[-1]:
            run.append(content)
        joined_to = start
    return ",".join(reversed(run))


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
    undecided = []
    for gold in filter(None, (gold.strip() for gold in golds)):
        match _quickly_equal(answer, gold):
            case True:
                return VerdictKind.CORRECT, "equal as written"
            case None:
                undecided.append(gold)
    if len(answer) > MAX_ANSWER_CHARS:
        return VerdictKind.WRONG, f"the answer has {len(answer)} characters"
    try:
        with _clock(clock_s):
            if any(_math_verify_equal(answer, gold, boxed) for gold in undecided):
                return VerdictKind.CORRECT, "equal to Math-Verify"
    except _Overrun:
        return VerdictKind.TIMEOUT, f"still comparing after {clock_s:g} s"
    return VerdictKind.WRONG, f"answered {answer[:80]}"


def _quickly_equal(answer: str, gold: str) -> bool | None:
    """Whether they are equal, where text alone settles it; None where it does not."""
    if answer == gold:
        return True
    left, right = _PLAIN_INTEGER.fullmatch(answer), _PLAIN_INTEGER.fullmatch(gold)
    if left is None or right is None:
        return None
    return _canonical(left) == _canonical(right)


def _canonical(integer: re.Match[str]) -> tuple[bool, str]:
    digits = integer[2].lstrip("0")
    return integer[1] == "-" and digits != "", digits


@lru_cache(maxsize=1024)  # the responses of a group tend to repeat a few answers
def _math_verify_equal(answer: str, gold: str, boxed: bool) -> bool:
    """Steps 2 to 4 for one gold. An answer Math-Verify cannot read differs from every gold, as with Math-Verify."""
    parse, verify = _math_verify()
    parsed = parse(f"\\boxed{{{answer}}}" if boxed else answer, parsing_timeout=None)
    if parsed and isinstance(parsed[-1], str) and parsed[-1].strip() == gold:
        return True
    return verify(_parsed_gold(gold), parsed, timeout_seconds=None)


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
