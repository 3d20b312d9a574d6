"""Reads choices of a question: one letter, with or without a text after it, or several letters.

Pure. ``several`` is True or False if it decides, and None if the texts are not choices.
"""

import re
from typing import NamedTuple

from .tidy import AND, OR, tidy

_TEXT = re.compile(r"\\text\s*+\{([^{}]*+)\}")
_LETTER = re.compile(
    r"(?:(?:option|choice|answer)[\s:]*+)?(?:\(([A-J])\)|([A-J])(?=$|[).:]))[).:]*+\s*+(?P<rest>.*)",
    re.DOTALL | re.IGNORECASE,
)
_ANOTHER = re.compile(r"\([A-J]\)|(?<![\w\\])[A-J](?![\w'])")
_WORD_BEFORE = re.compile(r"(?:options?|choices?|answers?)\b[\s:]*+", re.IGNORECASE)
_LISTED = re.compile(rf"\(?[A-J]\)?\.?(?:[\s,;&{AND}{OR}]++\(?[A-J]\)?\.?)++")
_WRITTEN_AS_ONE = re.compile(r"[A-J]{2,10}")
_AND = re.compile(r"(?<![A-Za-z])and(?![A-Za-z])|\\&")
_CAPITAL = re.compile(r"[A-J]")
_MAX_CHARS = 120


class Choice(NamedTuple):
    """One letter and the text after it."""

    letter: str
    rest: str

    @property
    def names_another(self) -> bool:
        """Whether a second letter follows: (A) or (B)."""
        return _ANOTHER.search(self.rest) is not None


def one(text: str) -> Choice | None:
    """The choice in a text such as (A), A., Option A, (A) 12; None if there is none."""
    found = _LETTER.fullmatch(_TEXT.sub(r"\1", text).strip())
    return None if found is None else Choice(found[1] or found[2], found["rest"])


def several(answer: str, gold: str) -> bool | None:
    """Whether two texts name the same letters in any order, such as ``A, C, D`` for ``ACD``; None if they are not
    lists of letters, or do not decide."""
    if max(len(answer), len(gold)) > _MAX_CHARS or not (_CAPITAL.search(answer) and _CAPITAL.search(gold)):
        return None
    (mine, listed), (theirs, gold_listed) = _letters(answer), _letters(gold)
    if not (mine and theirs):
        return None
    if OR in tidy(answer) and not gold_listed:
        return False  # A or C
    if listed and gold_listed:
        return True if mine == theirs else None
    return mine == theirs if listed != gold_listed else None


def _letters(text: str) -> tuple[frozenset[str], bool]:
    """(the letters, none if the text is something else; whether they are listed one by one)."""
    bare = tidy(text).removeprefix(r"\{").removesuffix(r"\}")
    bare = _AND.sub(AND, _WORD_BEFORE.sub("", _TEXT.sub(r"\1", bare).strip(), count=1)).strip()
    letters = _CAPITAL.findall(bare)
    if len(set(letters)) < len(letters):
        return frozenset(), False
    if _LISTED.fullmatch(bare):
        return frozenset(letters), True
    # They stand in alphabetical order, as in answer keys: CAB is a word, or a product.
    as_one = _WRITTEN_AS_ONE.fullmatch(bare) is not None and letters == sorted(letters)
    return (frozenset(letters) if as_one else frozenset()), False
