"""Whether two token strings are one problem. Pure.

They are one problem if their tokens agree in order by at least ``SIMILAR`` (twice the longest common subsequence over
the sum of the lengths: one replaced, added or moved token of n costs about 1/n), and if

- the numbers, signs and relations of one are those of the other, except for a few left out: a text with another number
  in the same place is another problem;
- no word of one turns the other into another problem (``turns.py``);
- both ask for the same (``questions.py``): the same context with another question is another problem.

Sentences may come in another order. The sentences of the second text are then put in the order of the first, and the
same questions are asked again.
"""

from functools import lru_cache

from rapidfuzz import fuzz, process
from rapidfuzz.distance import Indel, LCSseq

from .normalise import STOP, signature
from .questions import SAME_SENTENCE, asks_for_the_same, asks_within
from .turns import FOLLOWING, turned

SIMILAR = 0.84
"""The least similarity of near-duplicates. Edits of 10 % of the words leave about 0.9."""
LEAST_IN_ORDER = 0.4
"""The least similarity that is left in order where sentences have changed places."""
MOST_LEFT_OUT = 0.25
"""The largest share of a signature that may be left out. Two tokens may always be."""
LEAST_TOKENS = 8
"""An evaluation problem of fewer tokens counts only as a whole, not as a part of a longer text."""
REACH = 12
"""The most tokens from the end of what was found in a longer text to the end of its sentence."""


def same_problem(mine: str, theirs: str) -> float:
    """The similarity (0 to 1) of two token strings if they are one problem, else 0."""
    if not _of_one_length(mine, theirs):
        return 0.0
    return one_problem(mine, theirs, Indel.normalized_similarity(mine, theirs, score_cutoff=LEAST_IN_ORDER))


def _of_one_length(mine: str, theirs: str) -> bool:
    """Whether the lengths of two token strings allow a similarity of ``SIMILAR``."""
    return 2 * min(len(mine), len(theirs)) >= SIMILAR * (len(mine) + len(theirs))


def one_problem(mine: str, theirs: str, in_order: float) -> float:
    """``same_problem`` for a caller that knows already how much of the two agrees in order."""
    if in_order >= SIMILAR and _says_the_same(mine, theirs):
        return in_order
    if in_order < LEAST_IN_ORDER or not _of_one_length(mine, theirs):
        return 0.0
    if STOP not in mine or STOP not in theirs or not is_part(_marks(mine), _marks(theirs)):
        return 0.0
    return _agreement(mine, in_order_of(mine, theirs, rest=True))


@lru_cache(maxsize=1 << 14)
def _marks(text: str) -> str:
    """The signature of a text, the same for any order of its sentences."""
    return "".join(sorted(signature(text)))


def _agreement(mine: str, theirs: str | None) -> float:
    if theirs is None:
        return 0.0
    similarity = Indel.normalized_similarity(mine, theirs, score_cutoff=SIMILAR)
    return similarity if similarity and _says_the_same(mine, theirs) else 0.0


def _says_the_same(mine: str, theirs: str) -> bool:
    """Whether two texts that agree in most of their tokens say the same."""
    if mine == theirs:
        return True
    if not is_part(signature(mine), signature(theirs)) or turned(mine, theirs):
        return False
    return asks_for_the_same(mine, theirs)


def is_part(mine: str, theirs: str) -> bool:
    """Whether the shorter signature is the longer one with a few tokens left out."""
    short, long = sorted((mine, theirs), key=len)
    if len(long) - len(short) > _may_be_left_out(long):
        return False
    rest = iter(long)
    return all(token in rest for token in short)


def _may_be_left_out(signature: str) -> float:
    return max(2, MOST_LEFT_OUT * len(signature))


def in_order_of(mine: str, theirs: str, *, rest: bool) -> str | None:
    """The sentences of ``theirs`` in the order of ``mine``. Sentences without a counterpart go to the end; without
    ``rest`` they are left out. None if that would move sentences that say ``then`` or ``next`` past one another."""
    here, there = mine.split(STOP), theirs.split(STOP)
    left = dict(enumerate(there))
    partner: dict[int, int] = {}
    for place, sentence in enumerate(here):
        found = next((other for other, text in left.items() if text == sentence), None)
        if found is not None:
            partner[place] = found
            del left[found]
    for place, sentence in enumerate(here):
        if place not in partner and left:
            best = process.extractOne(
                sentence, left, scorer=Indel.normalized_similarity, score_cutoff=SAME_SENTENCE, processor=None
            )
            if best is not None:
                partner[place] = best[2]
                del left[best[2]]
    order = [partner[place] for place in sorted(partner)]
    following = [number for number in order if FOLLOWING.search(there[number])]
    if not order or following != sorted(following):
        return None
    return STOP.join(there[number] for number in [*order, *(sorted(left) if rest else ())])


def contains(text: str, problem: str) -> float:
    """How much of an evaluation problem stands in a text (0 to 1), if the text holds that problem; else 0."""
    whole = same_problem(text, problem)
    if whole or len(text) <= len(problem) or len(problem) < LEAST_TOKENS:
        return whole
    found = _in_a_window(text, problem)
    if found and not asks_within(text, problem):
        return 0.0
    marks = _marks(problem)
    if found or STOP not in problem or sum(mark not in text for mark in marks) > _may_be_left_out(marks):
        return found
    found = _agreement(problem, in_order_of(problem, text, rest=False))
    return found if found and asks_within(text, problem) else 0.0


def _in_a_window(text: str, problem: str) -> float:
    part = fuzz.partial_ratio_alignment(problem, text, score_cutoff=100 * SIMILAR)
    if part is None:
        return 0.0
    start, end = part.dest_start, part.dest_end
    covered = LCSseq.normalized_similarity(problem, text[start:end])  # the window may be short, at an end of the text
    if covered < SIMILAR:
        return 0.0
    # What the problem ends in may have another number in its place, just outside of the window.
    stop = text.find(STOP, end, end + REACH)
    begin = text.rfind(STOP, max(0, start - REACH), start)
    sentences = text[begin + 1 if begin >= 0 else max(0, start - REACH) : stop if stop >= 0 else end + REACH]
    return covered if _says_the_same(problem, sentences) else 0.0
