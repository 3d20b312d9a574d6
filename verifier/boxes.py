"""Finds what a response answers: the text after its reasoning, and the contents of the last box there. Pure, linear."""

import re
from collections.abc import Callable

_OTHER_BOX = re.compile(r"\\fbox\s*+(?=\{)|\\boxed(?:\s++|(?=[\d+-]))([+-]?\d++(?:[./]\d++)*+|[A-Z])(?![\w{])")
"""Other spellings of boxes: \\fbox{5}, and \\boxed with a number or a choice's letter but no braces."""
_BRACES = re.compile(r"\\boxed\s*+\{|\\.|[{}]", re.DOTALL)
_VARIABLE = r"[A-Za-z](?:_\{?\w++\}?)?\s*+="
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$,;&]|\\[()\[\],;:!\\]|\\q?quad|and|or|\\(?:text|mathrm)\{[\s,]*+(?:and|or)\s*+\}"
    rf"|{_VARIABLE})*+"
)
_MAX_BETWEEN_BOXES = 70
_MOST_JOINED = 200
"""No list of answers is longer than this."""
_NEARLY_LISTED = re.compile(r"\b(?:and|or)\b|[,;]")
_NO_PROSE = re.compile(r"[.:;!?{}\\]|\b(?:not|no|but|wrong|instead|so|if|then)\b")
_ENDS_IN_AND = re.compile(r"(?:^|\W)(?:and|or)$")


def after_reasoning(response: str, reasoning_open: bool) -> str | None:
    """The text after the last ``</think>``. All of it if nobody opened a think block; None if the block is still
    open."""
    _, closed, answer = response.rpartition("</think>")
    # What follows the last closing mark may open a block again. Without such a mark, the prompt's opening still holds.
    if "<think>" in answer or (reasoning_open and not closed):
        return None
    return answer


def behind_reasoning(response: str, *, finished: bool, reasoning_open: bool) -> tuple[str | None, str]:
    """(the text in which an answer may stand, "") or (None, the reason why there is no such text)."""
    if not finished:
        return None, "truncated"
    text = after_reasoning(response, reasoning_open)
    return text, "" if text is not None else "the reasoning never closes"


def boxed(text: str, *, trusted: bool = False) -> str | None:
    """The contents of the last box and of those joined to it, with commas between; None if nothing is boxed.

    One pass over the text keeps the work linear, even for a megabyte of braces. In a ``trusted`` text, a gold, boxes
    are joined as in Math-Verify: all that are close together.
    """
    if "box" not in text:
        return None
    text = _in_one_spelling(text)
    run: list[str] = []
    joined_to = len(text)
    for start, content_start, content_end in reversed(_outermost_boxes(text)[-_MOST_JOINED:]):
        content = text[content_start:content_end].strip()
        between = text[content_end + 1 : min(joined_to, content_end + 2 + _MAX_BETWEEN_BOXES)]
        if run and not (_joined(between) or (trusted and _close(between))):
            break
        if not run or content != run[-1]:
            run.append(content)
        joined_to = start
    return ",".join(reversed(run)) if run else None


def last_box(text: str) -> str | None:
    """The contents of the last box alone; None if nothing is boxed."""
    text = _in_one_spelling(text)
    boxes = _outermost_boxes(text)
    return text[boxes[-1][1] : boxes[-1][2]].strip() if boxes else None


def answer_in(
    response: str, *, finished: bool, reasoning_open: bool, read: Callable[[str], str | None] = last_box
) -> tuple[str | None, str]:
    """(answer, "") or (None, why there is none). ``read`` takes the answer out of the text after the reasoning."""
    text, why_not = behind_reasoning(response, finished=finished, reasoning_open=reasoning_open)
    answer = None if text is None else read(text)
    return (answer, "") if answer else (None, why_not or ("nothing boxed" if answer is None else "empty"))


def _in_one_spelling(text: str) -> str:
    return _OTHER_BOX.sub(lambda box: "\\boxed" + ("" if box[1] is None else f"{{{box[1]}}}"), text)


def _joined(between: str) -> bool:
    """Whether two boxes with this text between them are one answer."""
    if len(between) > _MAX_BETWEEN_BOXES:
        return False
    return _BETWEEN_BOXES.fullmatch(between) is not None or _joined_in_prose(between)


def _joined_in_prose(between: str) -> bool:
    """Whether two boxes are joined by prose, as in \\boxed{3} papers and \\boxed{2} bins."""
    words = between.lstrip(" \n\t$)").removeprefix("\\text{").rstrip(" \n\t}$(")
    return _NO_PROSE.search(words) is None and _ENDS_IN_AND.search(words) is not None


def _close(between: str) -> bool:
    return len(between) < 10 or (len(between) < _MAX_BETWEEN_BOXES and _NEARLY_LISTED.search(between) is not None)


def _outermost_boxes(text: str) -> list[tuple[int, int, int]]:
    """(start, start of its content, end of its content) of every closed box that is not inside another, in order.

    A box that never closes does not count, as in TeX, nor do escaped braces. The result is offsets and not text,
    because slicing each of many nested boxes would be quadratic.
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
                    boxes.pop()  # that box was inside this one
                boxes.append((*box, token.start()))
        elif token[0].endswith("{") and token[0] != "\\{":
            open_braces.append((token.start(), token.end()))
    return boxes
