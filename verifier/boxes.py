"""Where an answer stands in a response: in the last box behind the reasoning. Pure, linear in the text."""

from __future__ import annotations

from .math_answer import _after_reasoning, _outermost_boxes

NOTHING_BOXED = "nothing boxed"


def last_box(response: str, *, finished: bool, reasoning_open: bool) -> tuple[str | None, str]:
    """(what the last box holds, "") or (None, why there is no answer)."""
    if not finished:
        return None, "truncated"
    text = _after_reasoning(response, reasoning_open)
    if text is None:
        return None, "the reasoning never closes"
    boxes = _outermost_boxes(text)
    if not boxes:
        return None, NOTHING_BOXED
    _, start, end = boxes[-1]
    answer = text[start:end].strip()
    return (answer, "") if answer else (None, "empty")
