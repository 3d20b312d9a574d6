"""Whether two rows' golds are one answer. Where that is not plain, the verifier is asked, in a process of its own.

Two problems that differ in a word have two answers, and a copy has the answer of its original, so golds tell what
words do not. Only a plain "these are two values" counts. A missing gold, the letter of a choice beside a value, or a
comparison that fails or takes too long says nothing.
"""

import json
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

from ..common.ground_truth import EXACT, MATH
from .grading import graded

MOST_GOLDS = 4
"""At most so many golds of a row are compared with those of another row."""
TIMEOUT_S = 5.0
"""Seconds that one comparison may take."""

_WRAPPED = re.compile(r"\$+|\\\(|\\\)|\\\[|\\\]|\\left|\\right|\\[,;:! ]|\s+")
_CALLED = re.compile(r"^(?:[a-zA-Z]\w?|[a-zA-Z]\([a-z0-9]\))=(?!=)")
_FRACTION = re.compile(r"(-?)\\frac\{(-?\d{1,200})\}\{(-?\d{1,200})\}")
_NUMBER = re.compile(r"([+-]?\d{1,200})(?:/(\d{1,200}))?|[+-]?\d{0,200}\.\d{1,200}")
_THOUSANDS = re.compile(r"(?<![\d,])\d{1,3}(?:,|\{,\})\d{3}(?:(?:,|\{,\})\d{3})*(?![\d,])")
_CHOICE = re.compile(r"\(?(?:\\(?:text|mathrm|textbf)\{)?\(?[A-F]\)?\}?\)?\.?")
_SAYS_NOTHING = frozenset({"", "proof", "notfound", "none", "nan", "null", "n/a", "unknown", "?"})


def tidy(gold: str) -> str:
    """A gold without delimiters and layout around it."""
    text = gold.strip().rstrip(".")
    if text.startswith("\\boxed{") and text.endswith("}"):
        text = text[7:-1]
    text = _THOUSANDS.sub(lambda found: re.sub(r"[{},]", "", found[0]), _WRAPPED.sub("", text))
    return _CALLED.sub("", text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac"))


def _value(text: str) -> Fraction | None:
    fraction = _FRACTION.fullmatch(text)
    if fraction is not None and int(fraction[3]):
        return (-1 if fraction[1] else 1) * Fraction(int(fraction[2]), int(fraction[3]))
    number = _NUMBER.fullmatch(text)
    if number is None or (number[2] is not None and not int(number[2])):
        return None
    return Fraction(text)


def plainly(mine: list[str], theirs: list[str]) -> bool | None:
    """Whether one of ``mine`` is one of ``theirs``; None if it takes algebra to say."""
    one, other = [tidy(gold) for gold in mine], [tidy(gold) for gold in theirs]
    if set(one) & set(other):
        return True
    choices = [all(map(_CHOICE.fullmatch, golds)) for golds in (one, other)]
    if choices[0] != choices[1] or any(gold.lower() in _SAYS_NOTHING for gold in (*one, *other)):
        return True  # nothing is known
    if choices[0]:
        return False
    values = [_value(gold) for gold in one], [_value(gold) for gold in other]
    if set(filter(lambda value: value is not None, values[0])) & set(values[1]):
        return True
    return None if None in values[0] or None in values[1] else False


Row = tuple[str, list[str]]
"""(ability, golds) of a row."""


def different(pairs: Iterable[tuple[Row, Row]], folder: Path, *, jobs: int) -> list[bool]:
    """For each pair of rows, whether their golds are two answers. ``folder`` is for the verifier's files."""
    found: list[bool | None] = [_differ(*pair) for pair in pairs]
    return [bool(truth) for truth in found] if None not in found else _asked(list(pairs), found, folder, jobs)


def _differ(mine: Row, theirs: Row) -> bool | None:
    if mine[0] != theirs[0] or mine[0] not in (MATH, EXACT) or not mine[1] or not theirs[1]:
        return False
    if mine[0] == EXACT:
        return not {" ".join(gold.split()).lower() for gold in mine[1]} & {
            " ".join(gold.split()).lower() for gold in theirs[1]
        }
    same = plainly(mine[1], theirs[1])
    return None if same is None else not same


def _asked(pairs: list[tuple[Row, Row]], found: list[bool | None], folder: Path, jobs: int) -> list[bool]:
    """Decide the pairs still open by the verifier: it grades each gold of either row as an answer to the other row."""
    open_pairs = [number for number, truth in enumerate(found) if truth is None]
    requests, owners = list[Mapping[str, object]](), list[int]()
    for number in open_pairs:
        (_, one), (_, other) = pairs[number]
        for answers, golds in ((one, other), (other, one)):
            for answer in answers[:MOST_GOLDS]:
                requests.append({"response": f"\\boxed{{{answer}}}", "ability": MATH, "answer": golds[:MOST_GOLDS]})
                owners.append(number)
    differ = dict.fromkeys(open_pairs, True)
    verdicts = graded(map(dict, requests), folder, jobs=jobs, timeout_s=TIMEOUT_S)
    for number, (verdict, _) in zip(owners, verdicts, strict=True):
        differ[number] &= verdict == "wrong"
    return [differ.get(number, bool(truth)) for number, truth in enumerate(found)]


def golds_of(ability: str, ground_truth: str | None) -> Row:
    """A working row's golds; none if the row has tests."""
    return ability, json.loads(ground_truth) if ability in (MATH, EXACT) and ground_truth else []
