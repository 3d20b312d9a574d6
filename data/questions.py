"""Whether two token strings that agree in most of their tokens ask for the same thing. Pure.

The same context with another question is another problem, however long the context is. A question is the last sentence
that asks or commands; instructions may follow it.
"""

from rapidfuzz import fuzz
from rapidfuzz.distance import Indel, Levenshtein

from .normalise import STOP, VARIABLE, normalise

SAME_SENTENCE = 0.5
"""The least similarity of a sentence to its counterpart."""
ANY_COUNTERPART = 0.4
"""A sentence that is less similar than this to every other one has no counterpart."""
SAME_QUESTION = 0.65
"""The least similarity of a question to its counterpart. Below it, both questions must be about the same matter."""
SAME_WITHIN = 0.6
"""The least similarity of a question to some part of a longer text."""
SAME_MATTER = 0.5
"""The least share of a question's matter that the other question has too, of the one that has less of it."""
LEAST_SENTENCE = 3
"""Fewest tokens of a sentence that is looked at. Shorter ones cannot be told by their counterparts."""

_ASKING = """
find what which how determine compute calculate evaluate solve express who when where simplify factor count estimate
"""
_SAYING_LITTLE = """
a an the of is are was were be been do does did has have had it its this that these those there they them their he she
in on at by for with from to and or as if then than so such can could will would must many much value number possible
given following let us we you your please answer result
"""


def _tokens(words: str) -> frozenset[str]:
    return frozenset("".join(map(normalise, words.split())))


_ASKS = _tokens(_ASKING)
_LITTLE = _tokens(_SAYING_LITTLE) | _ASKS | {VARIABLE, STOP}


def asks_for_the_same(mine: str, theirs: str) -> bool:
    """Whether no sentence of one text, above all its question, stands in the place of another sentence of the other."""
    here, there = mine.split(STOP), theirs.split(STOP)
    if len(here) == len(there) == 1:
        return True
    ours, their = set(here), set(there)
    lone, other = [text for text in here if text not in their], [text for text in there if text not in ours]
    if not lone or not other:
        return True
    if any(_alone(text, there) for text in lone) and any(_alone(text, here) for text in other):
        return False
    one, another = _question(here), _question(there)
    return one in their or another in ours or not _another_question(one, another, here, there)


def asks_within(text: str, problem: str) -> bool:
    """Whether a longer text holds the problem's question, and not only its context."""
    question = _question(problem.split(STOP))
    return question in text or fuzz.partial_ratio(question, text) >= 100 * SAME_WITHIN


def _alone(sentence: str, others: list[str], least: float = ANY_COUNTERPART) -> bool:
    if len(sentence) < LEAST_SENTENCE:
        return False
    return all(not Indel.normalized_similarity(sentence, other, score_cutoff=least) for other in others)


def _question(sentences: list[str]) -> str:
    return next((text for text in reversed(sentences) if not _ASKS.isdisjoint(text)), sentences[-1])


def _another_question(one: str, other: str, here: list[str], there: list[str]) -> bool:
    """Whether two questions are about different matter, or swap two things that both contexts speak of."""
    known = _context(here, one) & _context(there, other) - _LITTLE
    if Indel.normalized_similarity(one, other) >= SAME_QUESTION:
        return _exchanged(one, other, known)
    # A question may speak of anything that its context speaks of.
    mine, theirs = set(one) - _LITTLE, set(other) - _LITTLE
    mine, theirs = mine - known or mine, theirs - known or theirs
    if len(mine & theirs) >= SAME_MATTER * max(1, min(len(mine), len(theirs))):
        return False
    return _alone(one, there, SAME_QUESTION) and _alone(other, here, SAME_QUESTION)


def _context(sentences: list[str], question: str) -> set[str]:
    return set().union(*(text for text in sentences if text != question))


def _exchanged(one: str, other: str, known: set[str]) -> bool:
    """Whether a known token of one stands in the place of a different known token of the other."""
    return any(
        block.tag == "replace"
        and not known.isdisjoint(one[block.src_start : block.src_end])
        and not known.isdisjoint(other[block.dest_start : block.dest_end])
        for block in Levenshtein.opcodes(one, other)
    )
