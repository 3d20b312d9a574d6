"""Tells words in capitals from labels of points: ``FIND THE AREA OF THE TRIANGLE ABC``. Pure.

A label is a variable, and a copy may name it otherwise. A word stays the same word in capitals. Nothing in a formula
counts as a word here.
"""

import re

_COMMON = """
about above add after again all also among and angle any are area arc as at ball balls bag bags base been below best
between black blue book books both box boxes boy boys but by buy can car card cards cent cents chord class coin coins
color cost costs could cube cubes cup cups cut cuts day days dice die digit does done draw drawn draws each edge edges
eight equal even ever every exact exist far few find first five fixed floor foot for form forms four from full game
games get gets girl girls give given gives goes graph grams green grid group had half has have hence her here high him
his hour hours how hundred if inch into isn its just keep kept know known last later least left less let lies like
limit line lines list long lot lots low made make makes many mean meet meets men mile miles mod month more most move
much must name near need never new next nine non nor not now number odd off old one ones once only open order other our
out over pages pair pairs pass path pay pays per pick place plane play point pole pool prime put ratio rate rates read
real red rest right ring root roots round row rows same say says see seen sell sells set sets seven she shop show shown
side sides sign six size slope small so sold solve some space speed split square stand start still stop such sum sums
table take taken takes tell ten term terms test than that the their them then there these they third this those three
time times tip to top total tour town train tree trees turn two unit units until upon use used uses value very walk
want was water way ways we week well went were what when where which white who whole whose why wide width will win wins
with word words work works worth would write year years yet you zero your
"""
_LIKE_LABELS = """
ace add bad bed be cab cafe dad dead deaf deed die dig egg edge face fade fed feed fig he head hi hid hide high him if
in ink is it kin kilo lid like line link lion loop look lot me mile milk mop most moon no nor not of oil on once one or
pool port post pot pots put rest root roots rot room row run runs so son sort sport spot stop sun to top tops tour tours
trust up ups us cm mm km kg ft ml
"""
COMMON_WORDS = frozenset(word for word in _COMMON.split() if len(word) <= 5)
"""Words of up to five letters that writers stress with capitals in the middle of other text."""
_WORDS = COMMON_WORDS | frozenset(_LIKE_LABELS.split())
_REACH = 5
"""How far apart in the alphabet the letters of a label may be: ABC, PQR, ABCDEF."""

_LEAST_CAPITALS = 8
"""Fewest capitals of three words in a row. A text with fewer has no passage in capitals."""
_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MAYBE = re.compile(r"[A-Z]{2}[^a-z]{2,}?[A-Z]{2}")
_FORMULA = re.compile(r"\$\$?[^$]*\$\$?|\\\((?:(?!\\\().)*?\\\)|\\\[(?:(?!\\\[).)*?\\\]|\\[A-Za-z]+", re.DOTALL)
_STRETCH = re.compile(r"(?<![A-Za-z])[A-Z]+(?:[^A-Za-z]+[A-Z]+){2,}(?![A-Za-z])")
_WORD = re.compile(r"(?<![A-Z])[A-Z]{2,}")
_HELD = "\x00"


def without_capitals(text: str) -> str:
    """The text with the words of its passages in capitals in small letters; labels and formulas stay, except that a
    command which was put in capitals gets its small letters back."""
    plain = text.encode(errors="replace")
    if len(plain) - len(plain.translate(None, _CAPITALS)) < _LEAST_CAPITALS or _MAYBE.search(text) is None:
        return text
    held: list[str] = []

    def hold(formula: re.Match[str]) -> str:
        held.append(_COMMAND_IN_CAPITALS.sub(lambda command: command[0].lower(), formula[0]))
        return _HELD

    body = _STRETCH.sub(_passage, _FORMULA.sub(hold, text.replace(_HELD, " ")))
    parts = body.split(_HELD)
    return "".join(part + formula for part, formula in zip(parts, [*held, ""], strict=True))


_COMMAND_IN_CAPITALS = re.compile(r"\\[A-Z]{2,}")


def _passage(found: re.Match[str]) -> str:
    words = _WORD.findall(found[0])
    said = sum(word.lower() in _WORDS or (len(word) > _REACH and not _is_label(word)) for word in words)
    if 2 * said < len(words):
        return found[0]  # labels, one after the other
    return _WORD.sub(lambda word: word[0] if _is_label(word[0]) else word[0].lower(), found[0])


def _is_label(word: str) -> bool:
    if word.lower() in _WORDS:
        return False
    close = len(set(word)) == len(word) and ord(max(word)) - ord(min(word)) <= _REACH
    return close or (len(word) <= _REACH and not set(word) & set("AEIOUY"))
