"""Looks at golds as texts: which are not plainly mathematics, and which have a slip of escaping. Pure.

Mathematics would take ``abc`` for ``cba``, which are one product; ``cat, dog`` for ``dog, cat``, since a list may have
any order; and 164 for ``6*(98 - 54) - 34 - 66``. That is right if the value is asked for, and wrong if the text is.
"""

import re
from collections.abc import Iterable

_SAY = (
    'say how responses are compared with it: "ability": "exact" (as it is written) or "math" (by its value) in the '
    "row, or data.ability for rows that name none"
)
_SOLUTION = "####"  # stands before the answer in GSM8K's solutions


def why_not_mathematics(golds: Iterable[str]) -> str | None:
    """Why golds that nobody called mathematics are not judged as mathematics; None if one of them plainly is."""
    reasons = [_why_not(" ".join(gold.split())) for gold in golds]
    return None if None in reasons else reasons[0]


def _why_not(text: str) -> str | None:
    if _SOLUTION in text:
        return (
            f"the gold {text[:80]!r} is a whole solution with its answer behind {_SOLUTION}: leave the answer alone in "
            "its column, or write a reward that reads it (docs/reference/data-rows.md)"
        )
    if "\\" in text or text.lower().rstrip(".") in _SAID_IN_WORDS:
        return None
    bare = text.replace("$", "").strip()
    if bare.count("=") == 1 and not _LETTERS.search(right := bare.split("=")[1]):
        bare = right.strip()  # x = 5
    if (what := _is_a_text(bare)) is not None:
        return f"the gold {text[:80]!r} is {what}; {_SAY}"
    return None


_MATHEMATICAL = """
sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt cbrt abs floor ceil gcd lcm mod max min
lim det pi theta alpha beta gamma infinity inf oo deg degree degrees percent and or dne undefined
"""
_NAMED = frozenset(_MATHEMATICAL.split())
_SAID = """
no solution, no solutions, no real solution, no real solutions, empty set, does not exist, infinity, infinitely many,
infinite, all real numbers, impossible, diverges, neither, undefined
"""
_SAID_IN_WORDS = frozenset(words.strip() for words in _SAID.replace("\n", " ").split(","))
"""Answers in words that are mathematics all the same."""
_LETTERS = re.compile(r"[^\W\d_]+")
_LISTED = re.compile(r"[(\[]?[^\W\d_](?:[ ,;]+[^\W\d_])+[)\]]?|[A-Z](?:-[A-Z])+")
"""Single letters in a row: a list of choices, or a chain."""
_CHOICES = re.compile(r"(?=.)A?B?C?D?E?F?")
_SCIENTIFIC = re.compile(r"[-+]?\d+(?:\.\d+)?[eE][-+]?\d+")
_CODE = re.compile(r"[^\W\d_]\d|\b0[xXoObB]\w|\d\.\d+\.\d")
"""Codes: a letter before a digit, another base, two points: ``Nf3``, ``H2O``, ``0xff``, ``192.168.0.1``."""
_TIME = re.compile(r"\d{1,2}:\d\d(?::\d\d)?|\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}")
_NUMBERS = re.compile(r"[(\[{]?-?\d+(?: -?\d+)+[)\]}]?")
"""Numbers with nothing but blanks between them: a sequence, unless it is a mixed number or thousands."""
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?: \d{3})+")
_MEASURED = re.compile(r"[-+]?[€£]? ?\d[\d,./]*(?:\^?-?\d*) ?[^\d,;]*")
"""A number followed by words: 5 cm, 12 hours, 7 apples."""
_COMPUTES = re.compile(r"[\d+*/^]|\w ?- ?\w")
_OPERATOR = re.compile(r"[+*×÷·]|(?<=[\d)!])[ ]?[-−–]|//|/[^/]*/|\d\(|\)\(|\)/|/\(")


def _is_a_text(text: str) -> str | None:
    """What a text without commands is if it is not plainly mathematics; else None."""
    if _SCIENTIFIC.fullmatch(text):
        return None
    if _TIME.fullmatch(text):
        return "a time, a date or a chain of quotients"
    named = _LETTERS.sub(lambda word: " " if word[0].lower() in _NAMED else word[0], text)
    if _CODE.search(named):
        return "a code or a formula, and as mathematics its letters and digits are a product in any order"
    if _NUMBERS.fullmatch(text) and not _THOUSANDS.fullmatch(text):
        return "a sequence of numbers, which as mathematics has any order"
    words = [word for word in _LETTERS.findall(named) if len(word) > 1]
    if not words and not _LISTED.fullmatch(text):
        return _a_sum(text)
    return None if _mathematical_words(text, words) else _IN_WORDS


_IN_WORDS = "in words, and as mathematics its letters are a product in any order"


def _mathematical_words(text: str, words: list[str]) -> bool:
    if _CHOICES.fullmatch(re.sub(r"[\s,;]|and", "", text)):
        return True  # ACD; A and C
    if _MEASURED.fullmatch(text) or not words:
        return bool(words)
    products = all(len(word) < 4 for word in words) and _COMPUTES.search(text) is not None
    return products and re.search(r"[=,]|[^\W\d_]{2} \d", text) is None  # 2ab + 3, but not Jan 5


def _a_sum(text: str) -> str | None:
    """Why a text is a bare sum (sums and products of numbers, quotients that come out even); None if it is not."""
    if _LETTERS.search(text) or "^" in text or "√" in text or "," in text:
        return None
    even = re.fullmatch(r"(\d{1,9})/([1-9]\d{0,8})", text)
    found = _OPERATOR.search(text.lstrip("+-−–( ")) or (even is not None and int(even[1]) % int(even[2]) == 0)
    return "a sum, product or quotient, which its value equals" if found else None


# --- slips of escaping -----------------------------------------------------------------------------------------------

_SLIP = re.compile(
    r"[\t\r](?=[a-zA-Z])|\n(?=(?:eq|e|u|otin|abla|eg|ot|mid|i|leq|geq|ewline|exists|parallel|less|gtr)(?![a-zA-Z]))"
)


def escaping_slip(gold: str) -> str | None:
    """What is wrong with a gold in which a missing backslash has made a tab, a line end or a return of a command:
    ``"\\times"`` in JSON is a tab and ``imes``. None if nothing is wrong."""
    found = _SLIP.search(gold)
    if found is None:
        return None
    around = gold[max(found.start() - 20, 0) : found.end() + 20]
    return f"the gold has {found[0]!r} before a letter, in {around!r}; where a command is meant, double its backslash"
