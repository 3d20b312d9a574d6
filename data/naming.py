"""Whether two texts that agree in their tokens mean the same letters: ``find x`` in one, ``find y`` in the other.

Tokens forget names, since a copy may rename all of them. It renames them the same way from beginning to end. Pure.
"""

from __future__ import annotations

from collections import Counter

from rapidfuzz.distance import Indel

from .normalise import STOP, VARIABLE, normalise, pieces, written


def asks_for_another(mine: str, theirs: str) -> bool:
    """Whether the question of one text has other letters than the other one's, by the names they have before it.

    ``mine`` and ``theirs``: problems as they are written. True only where both texts' names say so.
    """
    here, there = _named(mine), _named(theirs)
    context, question = _letters(here, there)
    if not question:
        return False
    there_for, here_for = _usual(context), _usual([(other, one) for one, other in context])
    forth = any(there_for.get(one, other) != other for one, other in question)
    back = any(here_for.get(other, one) != one for one, other in question)
    return forth and back


def same_wording(mine: str, theirs: str) -> bool:
    """Whether two texts are the same in all but spelling and, one for one, the names of variables."""
    return (
        normalise(mine) == normalise(theirs) and _signs(mine) == _signs(theirs) and not asks_for_another(mine, theirs)
    )


_WRITTEN_AS = {
    "*": r"\cdot \times \ast * × · ∙ ⋅",
    "/": r"/ ÷ \div \frac \dfrac \tfrac \cfrac \over",
    "|": r"| \lvert \rvert \vert \mid \Vert \lVert \rVert",
    "⌊": r"\lfloor \rfloor",
    "'": "' ’ ′",
    **{sign: sign for sign in "!()[]"},
    "overline": r"\overline",
}
_SIGN = {raw: sign for sign, raws in _WRITTEN_AS.items() for raw in raws.split()}


def _signs(text: str) -> Counter[str]:
    """The signs that are no tokens and change a formula's value: products, quotients, bars, factorials, brackets.

    They come in any order, since ``\\frac{a}{b}`` says first what ``a/b`` says between.
    """
    found: Counter[str] = Counter()
    before, letter = "", False
    for raw in written(text):
        sign = _SIGN.get(raw)
        if sign is not None and before != "\\" and (sign != "'" or letter):  # \\( opens a formula
            found[sign] += 1
        elif raw in "{}" and before == "\\":
            found[raw] += 1
        letter = len(raw) == 1 and (raw.isalpha() or (letter and raw in "'’′"))
        before = raw
    return found


def _named(text: str) -> list[tuple[str, str]]:
    """(token, what it is called); the call of a word is empty, and an article's, which looks like a variable."""
    found: list[tuple[str, str]] = []
    raws = pieces(text)
    for place, (raw, tokens) in enumerate(raws):
        after = raws[place + 1][0] if place + 1 < len(raws) else ""
        article = raw in ("a", "A", "I") and len(after) > 1 and after.isalpha()
        names = raw if len(raw) == len(tokens) else ""
        for number, token in enumerate(tokens):
            name = "" if token != VARIABLE or article else names[number] if names else raw
            if not (token == STOP and (not found or found[-1][0] == STOP)):
                found.append((token, name))
    return found


def _letters(
    here: list[tuple[str, str]], there: list[tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(letters that stand in the same place before the question, those in the question)."""
    mine, theirs = "".join(token for token, _ in here), "".join(token for token, _ in there)
    last = mine.rstrip(STOP).rfind(STOP)
    context, question = list[tuple[str, str]](), list[tuple[str, str]]()
    for block in Indel.opcodes(mine, theirs):
        if block.tag == "equal":
            for step in range(block.src_end - block.src_start):
                one, other = here[block.src_start + step][1], there[block.dest_start + step][1]
                (question if block.src_start + step > last else context).extend(_paired(one, other))
    return context, question


def _paired(one: str, other: str) -> list[tuple[str, str]]:
    """Letter for letter where both are labels of one length, as ABC and PQR are."""
    if one.isalpha() and other.isalpha() and len(one) == len(other):
        return list(zip(one, other, strict=True))
    return [(one, other)] if one and other else []


def _usual(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """What each letter most often stands for."""
    usual: dict[str, str] = {}
    for (one, other), _ in Counter(pairs).most_common():
        usual.setdefault(one, other)
    return usual
