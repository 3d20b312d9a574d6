"""Where an answer stands in a response: in the last box behind the reasoning. Pure, linear in the text."""

from __future__ import annotations

from .math_answer import _after_reasoning, _outermost_boxes


def behind_reasoning(response: str, *, finished: bool, reasoning_open: bool) -> tuple[str | None, str]:
    """(the text in which an answer may stand, "") or (None, why there is none)."""
    if not finished:
        return None, "truncated"
    text = _after_reasoning(response, reasoning_open)
    return text, "" if text is not None else "the reasoning never closes"


def last_box(text: str) -> str | None:
    """What the last box holds, None where there is no box."""
    boxes = _outermost_boxes(text)
    return text[boxes[-1][1] : boxes[-1][2]].strip() if boxes else None
