"""Whether two texts that agree in their tokens mean the same variables: one may ask for x, and the other for y.

Tokens forget the names of variables, since a copy may rename all of them; but it renames them consistently. Pure.
"""

from collections import Counter

from rapidfuzz.distance import Indel

from .normalise import STOP, VARIABLE, normalise, pieces, written


def asks_for_another(mine: str, theirs: str) -> bool:
    """Whether the questions of two texts ask for different letters, by the names that the letters have before them.

    ``mine`` and ``theirs`` are problems as they are written. True only if the names in both texts say so.
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
    """Whether two texts differ in nothing but spelling and a one-to-one renaming of variables."""
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
    """Count the signs that change a formula's value and are not tokens: products, quotients, bars, factorials, braces.

    Their order does not count, since ``\\frac{a}{b}`` puts first what ``a/b`` puts in the middle.
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
    """(token, its name) of each token. Words have no name (empty), nor has an article, which looks like a variable."""
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
    """(pairs of letters in the same place before the question, pairs of letters in the question)."""
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
    """Pairs of letters: one by one if both are labels of one length, as ABC and PQR are."""
    if one.isalpha() and other.isalpha() and len(one) == len(other):
        return list(zip(one, other, strict=True))
    return [(one, other)] if one and other else []


def _usual(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """What each letter most often stands for."""
    usual: dict[str, str] = {}
    for (one, other), _ in Counter(pairs).most_common():
        usual.setdefault(one, other)
    return usual
