"""Rewards for the form of a response: tags, and texts that match a pattern."""

import re
from collections.abc import Callable
from typing import Any

from ....common.rewards import Score, prepared
from ....common.wording import counted

OPEN, CLOSE = "<think>", "</think>"


def think_tags(response: str, row: dict[str, Any], *, opened: bool = False) -> Score:
    """1 where the response is ``<think>`` reasoning ``</think>`` answer, each tag once and neither part empty; else 0.
    ``opened``: the prompt ends with ``<think>``, as some chat templates make it, so the response must not open again.

    Source: the format reward of DeepSeek-R1 (arXiv 2501.12948, 2.2.2).
    """
    opens, closes = response.count(OPEN), response.count(CLOSE)
    if opens != (0 if opened else 1) or closes != 1:
        return Score(0.0, f"{counted(opens, 'time')} {OPEN}, {counted(closes, 'time')} {CLOSE}")
    before, _, answer = response.partition(CLOSE)
    head, _, reasoning = (before if not opened else OPEN + before).partition(OPEN)
    if head.strip() or not reasoning.strip() or not answer.strip():
        what = f"text before {OPEN}" if head.strip() else "no reasoning" if not reasoning.strip() else "no answer"
        return Score(0.0, what)
    return Score(1.0)


def answer_tag(response: str, row: dict[str, Any], *, tag: str = "answer") -> Score:
    """1 where the response ends with one ``<answer>…</answer>`` that is not empty, and holds no other; else 0. ``tag``:
    the tag's name.

    Source: the template of DeepSeek-R1-Zero (arXiv 2501.12948, table 1).
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    opens, closes = response.count(opening), response.count(closing)
    if opens != 1 or closes != 1:
        return Score(0.0, f"{counted(opens, 'time')} {opening}, {counted(closes, 'time')} {closing}")
    _, _, rest = response.partition(opening)
    inside, _, after = rest.partition(closing)
    return Score(float(bool(inside.strip()) and not after.strip()), "" if inside.strip() else "it is empty")


@prepared
def regex(pattern: str, column: str | None = None, whole: bool = False) -> Callable[..., Score]:
    """1 where the response matches ``pattern`` (Python's ``re``, with DOTALL), anywhere or as a ``whole``; else 0. With
    ``column``, the first group of the last match must be that column's text, or one of its texts, without the blanks
    around it.

    Source: Python's ``re``. A pattern that never comes to an end is killed by the clock, and is an error.
    """
    compiled = re.compile(pattern, re.DOTALL)
    if column is not None and not compiled.groups:
        raise ValueError(f"pattern = {pattern!r} has no group to compare with column {column!r}: put it in brackets")

    def judge(response: str, row: dict[str, Any]) -> Score:
        found = [compiled.fullmatch(response)] if whole else list(compiled.finditer(response))
        match = found[-1] if found else None
        if match is None:
            return Score(0.0, "no match")
        if column is None:
            return Score(1.0)
        due = row[column] if isinstance(row[column], list) else [row[column]]
        said = (match[1] or "").strip()
        return Score(float(said in [str(each).strip() for each in due]), f"answered {said[:80]}")

    return judge
