"""Pumps regular expressions: for each repeat in one, long texts made of what it repeats, and the time they take.

A program of its own, so that it can be killed: ``[[where, pattern, flags, way], …]`` comes in as JSON; each line that
goes out is the attack about to be tried, and after it, where that attack's time grows faster than its length, a
complaint.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

WARM_UP = (24, 64, 256, 1024)
"""Characters: an exponential pattern does not come back from these."""
SMALL, LARGE = 4_096, 16_384
MOST_GROWTH = 9.0
"""For four times the text: 4 is linear, 16 quadratic."""
SURELY_LINEAR = 6.0
"""Growth that is not looked at again: a quadratic pattern does not come so low by a noisy clock."""
FLOOR_S = 0.002
"""Below this there is nothing to compare."""
MOST_SAMPLES = 3

FAMILIES = (
    " ", "\n", "\t \n", "1", "1 ", "1,000", ",000", "a", "a ", "a,", "(a ", "(", "((", ")", "{", "}", "[", "|", "$",
    "$ ", "\\", "\\\\", "\\(", "\\[", "\\{", "\\text{", "\\text{a} ", "\\text{a}", "\\text{ }", "\\boxed{", "\\boxed ",
    "\\fbox ", "\\frac{", "\\frac{1}{2}", "\\sqrt", "\\sqrt(", "^{", "^", "_", "_{", "x_", "=", "x=", "<", "x<", "1.",
    ".", "..", "-", "+-", "!", "%", "5% ", " or ", " and ", "and", "or", ", and ", "\\cup ", "\\choose ", "{a\\choose ",
    "\\\\[", "\\begin{matrix}", "\\end{matrix}", "&", "°", "^\\circ", "/", "1/", "e", "\\dot ", "0.\\overline{", "A.",
    "(A)", "(A) ", "option ", "is ", "$.", ". ", "é", "√", "‖",
    "\n\n### ", "### ", "Question:", "Question: ", "```", "``` ", "```python\n", "https", "](", "](a", "figure ",
    "in the ",
    "Please reason step by step ", "problem 1 ", "-a", "a-", "a_{", "\\begin {", "{,}", "\\,", "1 000", " 000",
)  # fmt: skip
"""What the patterns of this project have met, besides what is derived from them."""

CATEGORIES = {
    kinds.CATEGORY_DIGIT: ("1", r"\d"),
    kinds.CATEGORY_SPACE: (" ", r"\s"),
    kinds.CATEGORY_WORD: ("a", r"\w"),
    kinds.CATEGORY_NOT_DIGIT: ("a", r"\D"),
    kinds.CATEGORY_NOT_SPACE: ("a", r"\S"),
    kinds.CATEGORY_NOT_WORD: (" ", r"\W"),
}
"""A member of each, and how it is written."""


def samples(tree: object, groups: dict[int, list[str]]) -> list[str]:
    """A few short texts that ``tree`` matches, give or take its assertions."""
    found = [""]
    for kind, value in tree:  # type: ignore[attr-defined]
        part = _samples_of(kind, value, groups)
        found = [left + right for left, right in itertools.islice(itertools.product(found, part), 2 * MOST_SAMPLES)]
    return list(dict.fromkeys(found))[: 2 * MOST_SAMPLES]


def _samples_of(kind: object, value: object, groups: dict[int, list[str]]) -> list[str]:
    match kind:
        case kinds.LITERAL:
            return [chr(value)]  # type: ignore[arg-type]
        case kinds.NOT_LITERAL:
            return ["b" if value == ord("a") else "a"]
        case kinds.ANY:
            return ["a", "1", " "]
        case kinds.IN:
            return _members(value)
        case kinds.BRANCH:
            return [text for branch in value[1] for text in samples(branch, groups)[:2]][:8]  # type: ignore[index]
        case kinds.SUBPATTERN:
            groups[value[0]] = samples(value[-1], groups)  # type: ignore[index]
            return groups[value[0]]  # type: ignore[index]
        case kinds.ATOMIC_GROUP:
            return samples(value, groups)
        case kinds.GROUPREF:
            return groups.get(value, [""])  # type: ignore[call-overload]
        case kinds.MAX_REPEAT | kinds.MIN_REPEAT | kinds.POSSESSIVE_REPEAT:
            least, _, body = value  # type: ignore[misc]
            return [text * max(least, 1) for text in samples(body, groups)] + ([""] if least == 0 else [])
        case kinds.ASSERT:
            return samples(value[1], groups) if value[0] < 0 else [""]  # type: ignore[index]
        case _:
            return [""]  # positions, and what must not stand there


def _members(items: object) -> list[str]:
    """Some characters of a class: one for each of its parts."""
    items = list(items)  # type: ignore[call-overload]
    if items and items[0][0] is kinds.NEGATE:
        pattern = re.compile("[" + "".join(_spelled(kind, value) for kind, value in items) + "]")
        return [sign for sign in "a1 (x\n.\\{#" if pattern.match(sign)][:MOST_SAMPLES] or ["\u2603"]
    found = []
    for kind, value in items:
        if kind is kinds.LITERAL:
            found.append(chr(value))
        elif kind is kinds.RANGE:
            found.append(chr(value[0]))
        elif kind is kinds.CATEGORY:
            found.append(CATEGORIES[value][0])
    return found[:4]


def _spelled(kind: object, value: object) -> str:
    match kind:
        case kinds.NEGATE:
            return "^"
        case kinds.LITERAL:
            return re.escape(chr(value))  # type: ignore[arg-type]
        case kinds.RANGE:
            return "-".join(re.escape(chr(end)) for end in value)  # type: ignore[attr-defined]
        case _:
            return CATEGORIES[value][1]  # type: ignore[index]


def repeats(tree: object, before: str, groups: dict[int, list[str]]) -> Iterator[tuple[str, list[str]]]:
    """(a text that leads there, what is repeated) for every repeat in ``tree``, however deep."""
    for kind, value in tree:  # type: ignore[attr-defined]
        match kind:
            case kinds.MAX_REPEAT | kinds.MIN_REPEAT | kinds.POSSESSIVE_REPEAT:
                yield before, samples(value[2], groups)
                yield from repeats(value[2], before, groups)
            case kinds.BRANCH:
                for branch in value[1]:
                    yield from repeats(branch, before, groups)
            case kinds.SUBPATTERN:
                yield from repeats(value[-1], before, groups)
            case kinds.ATOMIC_GROUP:
                yield from repeats(value, before, groups)
            case kinds.ASSERT | kinds.ASSERT_NOT:
                yield from repeats(value[1], before, groups)
        before += next(iter(_samples_of(kind, value, groups)), "")


def attacks(pattern: str, flags: int) -> Iterator[tuple[str, str, str]]:
    """(start, pump, end): texts are ``start``, as many pumps as fit, ``end``."""
    tree, groups = parser.parse(pattern, flags), {}  # type: ignore[var-annotated]
    whole = samples(tree, groups)
    pumps: dict[tuple[str, str], None] = {}
    for before, repeated in repeats(tree, "", groups):
        several = list(filter(None, repeated))[:MOST_SAMPLES]
        for pump in [*several, "".join(several)]:
            pumps |= dict.fromkeys([(before, pump), ("", pump), ("", before + pump)])
        pumps["", before] = None
    for text in whole[:MOST_SAMPLES]:
        pumps |= dict.fromkeys([("", text), ("", text[: len(text) // 2 + 1]), ("", text[:-1])])
    pumps |= {("", family): None for family in FAMILIES}
    for start, pump in pumps:
        if pump:
            for end in ("", "\x00"):
                yield start, pump, end


WAYS: dict[str, Callable[[re.Pattern[str], str], object]] = {
    "scan": lambda pattern, text: sum(1 for _ in pattern.finditer(text)),
    "match": lambda pattern, text: pattern.match(text),
    "fullmatch": lambda pattern, text: pattern.fullmatch(text),
}


def seconds(pattern: re.Pattern[str], way: str, attack: tuple[str, str, str], size: int, times: int = 1) -> float:
    """Processor time for one text of about ``size`` characters: the least of so many tries."""
    start, pump, end = attack
    text = start + pump * (size // len(pump) + 1) + end
    taken = []
    for _ in range(times):
        started = time.process_time()
        WAYS[way](pattern, text)
        taken.append(time.process_time() - started)
    return min(taken)


def grows(pattern: re.Pattern[str], way: str, attack: tuple[str, str, str]) -> bool:
    """Whether four times the text takes far more than four times as long."""
    for size in WARM_UP:
        seconds(pattern, way, attack, size)
    once = seconds(pattern, way, attack, LARGE)
    if once < FLOOR_S or once < SURELY_LINEAR * seconds(pattern, way, attack, SMALL, times=2):
        return False
    small, large = (seconds(pattern, way, attack, size, times=5) for size in (SMALL, LARGE))
    return large > FLOOR_S and large > MOST_GROWTH * small


def main() -> None:
    """Pump what comes in."""
    for where, text, flags, way in json.load(sys.stdin):
        pattern = re.compile(text, flags)
        for attack in attacks(text, flags):
            print(json.dumps([where, way, attack]), flush=True)
            if grows(pattern, way, attack):
                print(json.dumps({"where": where, "way": way, "attack": attack}), flush=True)
                break


if __name__ == "__main__":
    main()
