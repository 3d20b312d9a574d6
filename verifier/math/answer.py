"""Grades a mathematical answer by the report's four steps (7.1). Pure: text in, verdict kind and reason out.

1. Take the answer after the reasoning; a truncated response, or reasoning that never closes, has none.
2. Parse it with Math-Verify and take its string form.
3. If that equals the gold, it is correct.
4. Otherwise Math-Verify's ``verify`` decides, against the gold wrapped in ``\\boxed{}`` (parsing a bare gold can
   change it). Several golds are alternatives.

Equal text and the rules of ``rules`` with exact arithmetic come before Math-Verify: they decide most answers
(``quickly``), and those that Math-Verify reads poorly. Answers that plainly differ in number do not reach Math-Verify
either (``symbolic``): it would prove the difference at length, or round it away.

Math-Verify is only ever given what stands in the box, never the prose around it: on whole responses it prefers
"the final answer is $7$" to the box, and grades the reasoning when there is no box.

``quickly`` runs where nothing may be slow: its texts are bounded in length, its patterns are linear, and its work is
counted (``work``). What is left is for a process that can be killed.
"""

import re
from contextlib import suppress
from functools import lru_cache

from ...common.types import VerdictKind
from .. import boxes
from . import leaves, prose, rules, symbolic
from .reading import MAX_CHARS as MAX_RULED_CHARS
from .work import QUICK_STEPS, SLOW_STEPS, OutOfWork, allowance

MAX_ANSWER_CHARS = 10_000
"""No gold is this long, so comparing longer answers only costs time."""
MAX_QUICK_CHARS = 200_000
"""Longer responses are not even searched for the end of their reasoning outside a process that can be killed."""
MAX_SCANNED_CHARS = 50_000
"""Longer texts after the reasoning are not scanned for a box there."""

_PLAIN_INTEGER = re.compile(r"([+-]?)([0-9]{1,1000})")


def grade_math(
    response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool = False
) -> tuple[VerdictKind, str]:
    """(kind, reason): the verdict on a response against any one of ``golds``.

    ``reasoning_open`` says that the prompt itself ended inside ``<think>``. The caller keeps the clock: only a
    clock that can kill this process always works (see ``pool.GraderPool``).
    """
    if not any(gold.strip() for gold in golds):
        raise ValueError("there is no gold to compare with")
    answer, why_not = boxes.answer_in(response_text, finished=finished, reasoning_open=reasoning_open, read=boxes.boxed)
    return (VerdictKind.NO_ANSWER, why_not) if answer is None else _judge(answer, golds)


def quickly(
    response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool = False
) -> tuple[VerdictKind, str] | None:
    """``grade_math``'s verdict if it takes no Math-Verify, else None. It takes microseconds and nothing in it can be
    slow, so it may run in a process that must not be killed. It is also None if it would take more than
    ``QUICK_STEPS``."""
    too_long = len(response_text) > MAX_QUICK_CHARS or sum(map(len, golds)) > 4 * MAX_RULED_CHARS
    if too_long or not any(gold.strip() for gold in golds):
        return None
    text = boxes.after_reasoning(response_text, reasoning_open) if finished else ""
    if text is not None and len(text) > MAX_SCANNED_CHARS:
        return None
    answer, why_not = boxes.answer_in(response_text, finished=finished, reasoning_open=reasoning_open, read=boxes.boxed)
    if answer is None:
        return VerdictKind.NO_ANSWER, why_not
    if len(answer) + max(map(len, golds)) > MAX_RULED_CHARS:
        return None
    try:
        with allowance(QUICK_STEPS):
            return _judge_exactly(prose.said(answer), golds)[0]
    except OutOfWork:
        return None


def grade_solution(
    response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool = False
) -> tuple[VerdictKind, str]:
    """Whether a written solution ends in one of ``golds`` (report 6.1): by its box, or by what Math-Verify finds in
    prose that boxes nothing. It is for preparing data, where nobody gains by writing two answers, never for rewards."""
    text, why_not = boxes.behind_reasoning(response_text, finished=finished, reasoning_open=reasoning_open)
    boxed = None if text is None else boxes.boxed(text)
    if boxed:
        return _judge(boxed, golds)
    if text is None or boxed is not None or not text.strip():
        return VerdictKind.NO_ANSWER, why_not or "empty"
    answer = text.strip()[-MAX_ANSWER_CHARS:]
    with suppress(OutOfWork), allowance(SLOW_STEPS):
        if any(symbolic.equal(answer, _plain_gold(gold), False) for gold in filter(str.strip, golds)):
            return VerdictKind.CORRECT, "equal to Math-Verify"
    return VerdictKind.WRONG, f"ends in {answer[-80:]}"


def quickly_solution(
    response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool = False
) -> tuple[VerdictKind, str] | None:
    """``grade_solution``'s verdict if the box settles it, else None."""
    found = quickly(response_text, golds, finished, reasoning_open=reasoning_open)
    return None if found is not None and found[0] is VerdictKind.NO_ANSWER and finished else found


def _judge(answer: str, golds: tuple[str, ...]) -> tuple[VerdictKind, str]:
    answer = prose.said(answer)
    try:
        with allowance(SLOW_STEPS):
            found, undecided = _judge_exactly(answer, golds)
            if found is not None:
                return found
            for gold in undecided:
                truth = rules.equal(answer, gold, _leaf_equal)
                if truth:
                    return VerdictKind.CORRECT, "equal by rule"
                if truth is None and symbolic.equal(answer, gold, True):
                    return VerdictKind.CORRECT, "equal to Math-Verify"
    except OutOfWork:
        return VerdictKind.WRONG, f"too much to compare in {answer[:80]}"
    return VerdictKind.WRONG, f"answered {answer[:80]}"


def _judge_exactly(answer: str, golds: tuple[str, ...]) -> tuple[tuple[VerdictKind, str] | None, list[str]]:
    """(the verdict if text, rules and exact arithmetic settle it, else None; the golds that they do not settle)."""
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
    """A gold in the form of an answer: the contents of its box if it has one."""
    gold = gold.replace("\\\\boxed", "\\boxed")
    boxed = (boxes.boxed(gold, trusted=True) or boxes.boxed(gold + "}", trusted=True)) if "boxed" in gold else None
    return boxed or prose.said(gold.strip())


def _same_integer(answer: str, gold: str) -> bool | None:
    """Whether two plain integers of any length are equal; None for everything else."""
    left, right = _PLAIN_INTEGER.fullmatch(answer), _PLAIN_INTEGER.fullmatch(gold)
    return None if left is None or right is None else _canonical(left) == _canonical(right)


def _canonical(integer: re.Match[str]) -> tuple[bool, str]:
    digits = integer[2].lstrip("0")
    return integer[1] == "-" and digits != "", digits


def _leaf_equal(answer: str, gold: str) -> bool:
    """Compare what stands inside a shape: exactly if possible, else by Math-Verify."""
    truth = leaves.exactly(answer, gold)
    return symbolic.equal(answer, gold, True) if truth is None else truth
