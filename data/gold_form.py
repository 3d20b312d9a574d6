"""Whether a gold is one whole answer that a verifier can compare with: no prose, no code, no several answers. Pure."""

import re

from ..common.ground_truth import EXACT

_NO_GOLD = frozenset(
    {
        "proof",
        "notfound",
        "not found",
        "none",
        "nan",
        "null",
        "n/a",
        "unknown",
        "see solution",
        "see the solution",
        "not given",
        "see above",
        "see below",
        "see figure",
        "see the figure",
        "proof omitted",
        "as required",
        "qed",
        "q.e.d",
        "tbd",
    }
)
_NEVER = re.compile(
    r"\\[dtc]?frac\s*(?:\{\s*\}|\{[^{}]*\}\s*(?:\{\s*\}|$))|\\[dtc]?frac\s*$|\\sqrt\s*(?:\[[^\[\]]*\]\s*)?(?:\{\s*\}|$)"
    r"|\\(?:boxed|text|mathrm|mathbf|binom)\s*\{\s*\}|[_^]\s*(?:\{\s*\}|$)"
    r"|[+*/=<>,;^-]\s*$|\\(?:cdot|times|div|pm|leq?|geq?)\s*$"
    r"|^\s*[*/^,;]|\(\s*\)|\[\s*\]|\?"
)
"""An empty argument, and an operator without its second side."""
_CODE = re.compile(
    r"==|&&|\s!=|\b(?:math|np|numpy|sympy|sp)\.[a-z]|\b(?:def|return|lambda|import|print)\b[ (]"
    r"|\bfor \w+ in\b|\b(?:range|len|int|str|list|sorted)\(|\bif\b[^:\n]{0,200}:|;\s*$|=>|:=|\+=|```"
)
_PARTS = re.compile(
    r"(?:^|[\s,;.$])\(?(?:a|i|1)[).]\s*\S.{0,400}?[\s,;.$]\(?(?:b|ii|2)[).]\s*\S", re.IGNORECASE | re.DOTALL
)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_WHICH_ONE = re.compile(
    r"the\s+(?:first|second|third|former|latter|larger|smaller|greater|bigger|other|last)(?:\s+(?:one|of\b.*))?"
    r"|whichever\b.*|(?:either|both|all|some|neither)\s+of\s+(?:them|the\s+two|these|those)",
    re.IGNORECASE,
)
"""Words that point back at something outside the gold."""
_LITTLE_WORDS = """
a an the of is are was were be that which because there it its this these those if then so when where while they
we he she you can cannot has have had must will would not every each both by from with to in on at for as all any two
"""
_LITTLE = frozenset(_LITTLE_WORDS.split())
_SAID = re.compile(
    r"(?:there (?:is|are) )?(?:no (?:real |integer )?(?:solutions?|roots?|such .*)|infinitely many.*"
    r"|none of (?:these|the above)"
    r"|does not exist|(?:all|any) (?:real|positive|negative|integers?|rational|natural|even|odd|complex)\b.*)"
    r"|not (?:possible|enough information|defined)|cannot be determined|impossible",
    re.IGNORECASE,
)
"""Answers that are given in words."""
_WORD = re.compile(r"[^\W\d_]+(?:['’][a-z]+)?")
_TEX = re.compile(r"\\(?:text|mathrm|textbf|textit|mbox)\s*|\\[a-zA-Z]+|[${}]")


def why_no_gold(gold: str, ability: str, longest: int) -> tuple[str, str] | None:
    """(reason to count, detail of this gold) if the gold is no answer to compare with, else None. ``longest`` is in
    characters."""
    if gold.lower().strip(" .$") in _NO_GOLD:
        return "the gold says that there is none", gold
    if len(gold) > longest:
        return "the gold is too long to compare", f"{len(gold)} characters"
    if ability != EXACT and (_PARTS.search(gold) or _unequal(gold)):
        return "the gold has several answers", gold[:80]
    if not _parses(gold, ability) or (ability != EXACT and _NEVER.search(gold.strip().strip("$").rstrip(". "))):
        return "the gold does not parse", gold[:80]
    if ability != EXACT and is_code(gold):
        return "the gold is code", gold[:80]
    if ability != EXACT and is_prose(gold):
        return "the gold is prose", gold[:80]
    return None


def _parses(gold: str, ability: str) -> bool:
    """Whether brackets and dollar signs close, and something is left without them."""
    text = re.sub(r"\\[{}$\\]", "", gold)
    depth = 0
    for sign in re.findall(r"[{}]", text):
        depth += 1 if sign == "{" else -1
        if depth < 0:
            return False
    lefts, rights = len(re.findall(r"\\left\b", gold)), len(re.findall(r"\\right\b", gold))
    if (
        depth
        or text.count("$") % 2
        or lefts != rights
        or re.search(r"\w|[∞∅]", _TEX.sub(" ", text) + _symbols(text)) is None
    ):
        return False
    return ability == EXACT or _brackets_close(gold)


def _symbols(text: str) -> str:
    """The commands that are answers by themselves: all but those that only wrap or space."""
    return "".join(re.findall(r"\\(?!left\b|right\b|text|math|quad|frac|dfrac|tfrac|sqrt|boxed|,)[a-zA-Z]+", text))


def _brackets_close(gold: str) -> bool:
    """Whether as many brackets open as close. Round and square ones count together: an interval may be half open."""
    text = re.sub(r"\\left\s*\.|\\right\s*\.", "", gold)
    missing = len(re.findall(r"\\right\s*\.", gold)) - len(re.findall(r"\\left\s*\.", gold))
    opened = len(re.findall(r"[(\[]", text)) + len(re.findall(r"\\\{", text))
    closed = len(re.findall(r"[)\]]", text)) + len(re.findall(r"\\\}", text))
    return opened - missing == closed


def _unequal(gold: str) -> bool:
    """Whether the gold says that two plain numbers are equal which are not."""
    sides = [side.strip(" $") for side in gold.split("=")]
    numbers = [float(side) for side in sides if _NUMBER.fullmatch(side)]
    return len(set(numbers)) > 1


def is_prose(gold: str) -> bool:
    """Whether the gold is a sentence or a phrase: it has words that only hold others together."""
    plain = " ".join(_TEX.sub(" ", gold).split()).strip(" .")
    words = [word.lower() for word in _WORD.findall(plain) if len(word) > 1 or word in "aA"]
    if _WHICH_ONE.fullmatch(plain):
        return True
    if len(words) < 3 or _SAID.fullmatch(plain):
        return False
    little = sum(word in _LITTLE for word in words)
    return little >= 2 or (len(words) >= 5 and little >= 1) or len(words) >= 8


def is_code(gold: str) -> bool:
    """Whether the gold looks like code: a test for equality, a call, a loop."""
    return _CODE.search(gold) is not None
