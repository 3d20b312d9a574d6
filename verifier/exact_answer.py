"""Grades an answer by its text: for words, expressions, labels, and other answers with one right spelling. Pure.

Case and the order of words count. The way in which the text is set does not: blanks around it and their number within,
dollar signs around it, ``\\text{…}`` around it, the form in which Unicode composes a letter.
"""

import unicodedata

from ..common.types import VerdictKind
from .boxes import answer_in

MAX_QUICK_CHARS = 200_000
"""Longer responses are read in a process that can be killed."""
MAX_QUICK_ANSWER_CHARS = 2_000
"""So are longer answers, because composing a letter takes time in the square of the marks on it."""

_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_COMMANDS = tuple(rf"\{name}{{" for name in ("text", "textbf", "textrm", "texttt", "mathrm", "mathbf", "mbox"))
_MOST_WRAPPERS = 4


def grade_exact(
    response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool = False
) -> tuple[VerdictKind, str]:
    """(kind, reason): whether the last box after the reasoning holds one of ``golds``, letter by letter."""
    answer, why_not = answer_in(response_text, finished=finished, reasoning_open=reasoning_open)
    return (VerdictKind.NO_ANSWER, why_not) if answer is None else _judged(answer, golds)


def quickly_exact(
    response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool = False
) -> tuple[VerdictKind, str] | None:
    """``grade_exact`` if nothing is too long for a process that must not be killed, else None."""
    if len(response_text) > MAX_QUICK_CHARS:
        return None
    answer, why_not = answer_in(response_text, finished=finished, reasoning_open=reasoning_open)
    if answer is None:
        return VerdictKind.NO_ANSWER, why_not
    return None if len(answer) + sum(map(len, golds)) > MAX_QUICK_ANSWER_CHARS else _judged(answer, golds)


def _judged(answer: str, golds: tuple[str, ...]) -> tuple[VerdictKind, str]:
    written = plain(answer)
    if any(written == plain(gold) for gold in golds):
        return VerdictKind.CORRECT, "equal as written"
    return VerdictKind.WRONG, f"answered {written[:80]}"


def plain(text: str) -> str:
    """The text without the way in which it is set."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    for _ in range(_MOST_WRAPPERS):
        inside = _unwrapped(text)
        if inside == text:
            break
        text = inside
    return text


def _unwrapped(text: str) -> str:
    for opening, closing in _WRAPPERS:
        if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
            inside = text[len(opening) : -len(closing)]
            return text if closing in inside else inside.strip()
    for command in _COMMANDS:
        if text.startswith(command) and text.endswith("}") and not set("{}") & set(text[len(command) : -1]):
            return text[len(command) : -1].strip()
    return text
