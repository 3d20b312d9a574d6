"""Words that turn a problem into another one: ``largest`` for ``smallest``, ``sum`` for ``product``. Pure.

One such word in a hundred leaves two texts as alike as a typing error does. A problem is turned if a word stands in the
place of another word of the same line below. A lost or added word turns nothing, unless it is a negation.
"""

import re
from collections.abc import Iterator

from rapidfuzz.distance import Levenshtein

from .normalise import normalise

_TURNS = """
largest greatest biggest maximum maximal max maxima maximize most highest | smallest least minimum minimal min minima \
minimize lowest fewest | exactly precisely
longest latest oldest farthest | shortest earliest youngest nearest
more greater larger longer higher bigger taller older faster heavier later above exceeds | less fewer smaller shorter \
lower younger slower lighter earlier below
sum sums total add adds added adding plus addition | product products multiply multiplies multiplied multiplication \
| difference differences subtract subtracts subtracted subtraction minus | quotient quotients ratio
even | odd
increasing ascending increases increased increase rises rose rise | decreasing descending decreases decreased decrease \
falls fell fall
first | second | third | fourth | fifth | sixth | seventh | eighth | ninth | tenth | last final
inside interior internal inscribed | outside exterior external circumscribed
with | without
before | after
left leftmost | right rightmost
top upper highest | bottom
north | south | east | west
area areas | perimeter perimeters circumference circumferences | volume volumes | radius radii | diameter diameters \
| diagonal diagonals | height heights altitude altitudes | length lengths | width widths breadth | hypotenuse
mean average | median | mode | variance
divisor divisors factor factors | multiple multiples | remainder
gcd gcf hcf | lcm
vertex vertices | edge edges | face faces
sin sine | cos cosine | tan tangent | cot cotangent | sec secant | csc cosecant
arcsin | arccos | arctan
log | ln | exp
integer integers | rational | irrational | real | complex
prime primes | composite composites
positive | negative | nonnegative | nonpositive
numerator numerators | denominator denominators
row rows | column columns
union | intersection
convex | concave
acute | obtuse
heads head | tails tail
profit gain gains | loss
win wins won winning | lose loses losing
same equal identical | different distinct unequal
parallel | perpendicular
horizontal horizontally | vertical vertically
clockwise | counterclockwise anticlockwise
true | false
permutations permutation | combinations combination
necklace necklaces | bracelet bracelets
open | closed
two | three | four | five | six | seven | eight | nine | ten | eleven | twelve | thirteen | fifteen | twenty | thirty \
| forty | fifty | hundred | thousand | million
half halves | thirds | quarter quarters | twice double doubles doubled | triple triples tripled thrice
minute minutes | hour hours | day days | week weeks | month months | year years
cent cents | dollar dollars | euro euros
millimeter millimeters | centimeter centimeters cm | meter meters metre metres | kilometer kilometers km | inch inches \
| foot feet | yard yards | mile miles
monday | tuesday | wednesday | thursday | friday | saturday | sunday
january | february | march | april | june | july | august | september | october | november | december
"""
_NEGATIONS = "not never cannot except non"
_FOLLOWING = "then next afterwards afterward finally later subsequently"


def _tokens(words: str) -> str:
    """The tokens of words that are one token each."""
    return "".join(token for token in map(normalise, words.split()) if len(token) == 1)


def _table() -> dict[str, tuple[int, int]]:
    """(line, side) of each token."""
    table: dict[str, tuple[int, int]] = {}
    for line, sides in enumerate(_TURNS.strip().splitlines()):
        for side, words in enumerate(sides.split("|")):
            for token in _tokens(words):
                table.setdefault(token, (line, side))
    return table


_SIDES = _table()
_NEGATED = (-1, 0)
_SIDES.update(dict.fromkeys(_tokens(_NEGATIONS), _NEGATED))
FOLLOWING = re.compile(f"[{_tokens(_FOLLOWING)}]")
"""Tokens which say that a sentence comes after another one."""


def turned(mine: str, theirs: str) -> bool:
    """Whether a word of one token string turns the problem of the other."""
    if list(filter(_SIDES.__contains__, mine)) == list(filter(_SIDES.__contains__, theirs)):
        return False
    negated = 0
    for ours, others in _replaced(mine, theirs):
        here, there = ([_SIDES[token] for token in text if token in _SIDES] for text in (ours, others))
        if any(line == other and side != turn for line, side in here for other, turn in there):
            return True
        negated += here.count(_NEGATED) - there.count(_NEGATED)
    return negated != 0


def _replaced(mine: str, theirs: str) -> Iterator[tuple[str, str]]:
    """(mine, theirs) at each place between equal parts. An edit that replaces one token and the next one that deletes
    another are one such place: ``surface area`` for ``volume``."""
    here = there = 0
    for block in (*Levenshtein.opcodes(mine, theirs), None):
        if block is None or block.tag == "equal":
            start, other_start = (len(mine), len(theirs)) if block is None else (block.src_start, block.dest_start)
            if here < start or there < other_start:
                yield mine[here:start], theirs[there:other_start]
            if block is not None:
                here, there = block.src_end, block.dest_end
