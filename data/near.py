"""Near-duplicates and contaminations: sketches give candidates, and ``alike`` then decides on each pair. Pure.

Two texts that share only what many texts have in common are two problems. A caller that knows more about two rows than
their texts, for instance their golds, may say that a pair is two problems after all (``TwoProblems``).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel, LCSseq

from .alike import LEAST_IN_ORDER, contains, is_part, one_problem, same_problem
from .sketch import CHUNK, candidates, candidates_between, flat, mix, ranges, sketch

__all__ = ["EvaluationSet", "Match", "TwoProblems", "contains", "is_part", "near_duplicates", "same_problem"]

NGRAM = 5
"""Tokens of an n-gram. DeepScaleR and others look for longer ones; an edit in every tenth word leaves few of those."""
COMMON = 50
"""A pair of tokens that stands in the texts more often than this is a turn of phrase, or belongs to a template."""
RARE_SHARED = 0.5
"""The least share of a text's rare tokens that its near-duplicate has too, of the text with fewer of them. Texts made
from one long template differ in those tokens; an edit that adds rare words does no harm."""
LEAST_SHARED = 0.3
"""The share of an evaluation problem's n-grams that makes a row a candidate. Edits of 10 % leave 0.59."""


@dataclass(frozen=True, slots=True)
class Match:
    """The text that another one was found to repeat."""

    of: int
    """Index of the repeated text."""
    similarity: float
    """From 0 to 1; 1 is equal after normalisation."""
    by: str = "MinHash"


TwoProblems = Callable[[list[tuple[int, int]]], set[tuple[int, int]]]
"""Picks, out of pairs of texts that are alike, those that are two problems after all."""


class Phrases:
    """Counts how often each pair of neighbouring tokens stands in the texts. A text's rare tokens say what it is about.

    The counts lie in ``SLOTS`` slots by hash, so a rare pair may share the count of another one.
    """

    SLOTS = 1 << 24

    def __init__(self, texts: Sequence[str], batch: int = 50_000) -> None:
        """``texts``: token strings."""
        self._counts = np.zeros(self.SLOTS, dtype=np.uint32)
        for start in range(0, len(texts), batch):
            np.add.at(self._counts, self._slots(flat(texts[start : start + batch])[0]), np.uint32(1))

    def _slots(self, tokens: np.ndarray) -> np.ndarray:
        pairs = (tokens[:-1].astype(np.uint64) << np.uint64(32)) | tokens[1:]
        return (mix(pairs) & np.uint64(self.SLOTS - 1)).astype(np.int64)

    def rare(self, text: str) -> str:
        """The text's tokens that stand in no common pair."""
        tokens = np.frombuffer(f"\0{text}\0".encode("utf-32-le"), dtype=np.uint32)
        rare = self._counts[self._slots(tokens)] <= COMMON
        rare[0] = rare[-1] = True  # the text's ends
        return "".join(token for token, keep in zip(text, rare[:-1] & rare[1:], strict=True) if keep)


def near_duplicates(
    texts: Sequence[str], kinds: Sequence[object], two_problems: TwoProblems | None = None
) -> list[Match | None]:
    """For each token string, the earlier kept one of its kind that it repeats; None if it is to be kept.

    Equal strings are found exactly. Near ones are found through ``sketch``, and each pair is then compared in full. A
    match is always a kept text, so the text that is shown beside a dropped one is in the result. ``two_problems`` is
    asked about pairs (index, smaller index) that are equal or alike, in few calls of many pairs.
    """
    firsts = _equal(texts, kinds, two_problems)
    unique = [index for index, first in enumerate(firsts) if index == first]
    distinct = [texts[index] for index in unique]
    about_the_same = _about_the_same(distinct)
    pairs = [
        (one, other, similarity)
        for one, other, similarity in ((unique[a], unique[b], similarity) for a, b, similarity in _pairs(distinct))
        if kinds[one] == kinds[other]
    ]
    asked, apart = set[tuple[int, int]](), set[tuple[int, int]]()
    while True:
        chosen = _chosen(texts, pairs, apart, about_the_same)
        unasked = {(one, match.of) for one, match in chosen.items()} - asked
        if two_problems is None or not unasked:
            break
        apart |= two_problems(sorted(unasked))
        asked |= unasked
    return [
        chosen.get(index) if index == first else chosen.get(first) or Match(first, 1.0, "equal text")
        for index, first in enumerate(firsts)
    ]


def _equal(texts: Sequence[str], kinds: Sequence[object], two_problems: TwoProblems | None) -> list[int]:
    """For each text, the index of the first one that equals it and is the same problem; its own if there is none."""
    firsts = list(range(len(texts)))
    rest: Sequence[int] = range(len(texts))
    while rest:
        first: dict[tuple[str, object], int] = {}
        for index in rest:
            firsts[index] = first.setdefault((texts[index], kinds[index]), index)
        equal = [(index, firsts[index]) for index in rest if firsts[index] != index]
        apart = two_problems(equal) if two_problems is not None and equal else set()
        rest = [index for index, _ in sorted(apart)]
    return firsts


def _about_the_same(texts: list[str]) -> Callable[[str, str], bool]:
    """A test of two texts: whether enough of the rare tokens of one are in the other."""
    rare = lru_cache(maxsize=1 << 16)(Phrases(texts).rare)

    def about_the_same(mine: str, theirs: str) -> bool:
        a, b = rare(mine), rare(theirs)
        least = RARE_SHARED * min(len(a), len(b))
        # in order, or in any order
        return LCSseq.similarity(a, b) >= least or (Counter(a) & Counter(b)).total() >= least

    return about_the_same


def _chosen(
    texts: Sequence[str],
    pairs: list[tuple[int, int, float]],
    apart: set[tuple[int, int]],
    about_the_same: Callable[[str, str], bool],
) -> dict[int, Match]:
    """Which text repeats which kept one. ``pairs`` are sorted by the later text; pairs in ``apart`` do not."""
    chosen: dict[int, Match] = {}
    for one, other, similarity in pairs:
        if one in chosen:
            continue
        match = chosen.get(other)
        if match is not None:  # this one is dropped itself: compare with the text that it repeats
            other = match.of
            similarity = 0.0 if (one, other) in apart else same_problem(texts[one], texts[other])
        if similarity and (one, other) not in apart and about_the_same(texts[one], texts[other]):
            chosen[one] = Match(other, similarity)
    return chosen


def _pairs(texts: list[str]) -> list[tuple[int, int, float]]:
    """(later, earlier, similarity) of all near-duplicates, sorted by the later text, then by the earlier one."""
    sketches = sketch(texts)
    seen = np.empty(0, dtype=np.int64)
    pairs: list[tuple[int, int, float]] = []
    for met in candidates(sketches):
        codes = np.setdiff1d(met[:, 1] * len(texts) + met[:, 0], seen)
        seen = np.union1d(seen, codes)
        pairs += _verified(texts, texts, codes // len(texts), codes % len(texts))
    return sorted(pairs)


def _verified(
    left: Sequence[str], right: Sequence[str], mine: np.ndarray, theirs: np.ndarray, batch: int = 100_000
) -> list[tuple[int, int, float]]:
    pairs = []
    for start in range(0, len(mine), batch):
        one, other = mine[start : start + batch].tolist(), theirs[start : start + batch].tolist()
        a, b = [left[index] for index in one], [right[index] for index in other]
        scores = process.cpdist(a, b, scorer=Indel.normalized_similarity, score_cutoff=LEAST_IN_ORDER)
        for hit in np.flatnonzero(scores):
            if similarity := one_problem(a[hit], b[hit], float(scores[hit])):
                pairs.append((one[hit], other[hit], similarity))
    return pairs


class EvaluationSet:
    """The problems that training rows must not contain."""

    def __init__(self, texts: Sequence[str]) -> None:
        """``texts``: token strings."""
        self.texts = list(texts)
        self._sketches = sketch(self.texts)
        grams, owners = _different(*_ngrams(self.texts))
        order = np.argsort(grams, kind="stable")
        self._grams, self._first, self._reach = np.unique(grams[order], return_index=True, return_counts=True)
        self._owners = owners[order]  # the texts with one n-gram: ``_reach`` of them from ``_first`` on
        self._counts = np.bincount(owners, minlength=len(self.texts))
        self._some = np.zeros(1 << 22, dtype=bool)
        self._some[self._slots(grams)] = True

    def _slots(self, grams: np.ndarray) -> np.ndarray:
        """The places in ``_some`` that say whether an evaluation problem has an n-gram with these bits. Most n-grams of
        other texts end there."""
        return (grams & np.uint64(len(self._some) - 1)).astype(np.int64)

    def alike(self, texts: Sequence[str]) -> list[list[Match]]:
        """For each token string, all evaluation problems it repeats or contains, the most similar one first."""
        if not self.texts:
            return [[] for _ in texts]
        batches = range(0, len(texts), CHUNK)
        return [matches for start in batches for matches in self._alike(texts[start : start + CHUNK])]

    def _alike(self, texts: Sequence[str]) -> list[list[Match]]:
        found: list[dict[int, Match]] = [{} for _ in texts]
        for by, pairs in (("n-grams", self._sharing(texts)), ("MinHash", self._meeting(texts))):
            for problem, text in pairs:
                if problem not in found[text] and (similarity := contains(texts[text], self.texts[problem])):
                    found[text][problem] = Match(problem, similarity, by)
        return [sorted(matches.values(), key=lambda match: -match.similarity) for matches in found]

    def _sharing(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """Pairs (evaluation problem, text) in which the text has at least ``LEAST_SHARED`` of the problem's n-grams."""
        grams, owners = _ngrams(texts)
        likely = self._some[self._slots(grams)]
        grams, owners = grams[likely], owners[likely]
        place = np.minimum(np.searchsorted(self._grams, grams), len(self._grams) - 1)
        hit = self._grams[place] == grams
        once = np.unique(owners[hit] * len(self._grams) + place[hit])
        owners, place = np.divmod(once, len(self._grams))
        reach = self._reach[place]
        problems = self._owners[ranges(self._first[place], reach)]
        codes, shared = np.unique(problems * len(texts) + np.repeat(owners, reach), return_counts=True)
        enough = shared >= LEAST_SHARED * self._counts[codes // max(1, len(texts))]
        return [divmod(int(code), len(texts)) for code in codes[enough]]

    def _meeting(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        met = np.concatenate(list(candidates_between(self._sketches, sketch(texts))))
        return [(int(problem), int(text)) for problem, text in np.unique(met, axis=0)] if len(met) else []


def _ngrams(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes of the n-grams of all texts, uint64; the text of each, int64). A text shorter than n is one n-gram."""
    tokens, starts = flat(texts)
    lengths = np.diff(np.append(starts, len(tokens)))
    text = np.repeat(np.arange(len(starts)), lengths)
    left = np.repeat(starts + lengths, lengths) - np.arange(len(tokens))  # tokens to the text's end
    first = np.arange(len(tokens)) - np.repeat(starts, lengths)
    hashes = np.zeros(len(tokens), dtype=np.uint64)
    padded = np.append(tokens, np.zeros(NGRAM, dtype=np.uint32)).astype(np.uint64)
    for step in range(NGRAM):
        hashes = mix(hashes) + np.where(step < left, padded[step : step + len(tokens)], 0).astype(np.uint64)
    whole = (first == 1) | ((first > 1) & (left >= NGRAM))  # the 0 in front belongs to no n-gram
    return mix(hashes[whole]), text[whole]


def _different(grams: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The n-grams and their texts, each n-gram of a text once."""
    order = np.lexsort((grams, owners))
    grams, owners = grams[order], owners[order]
    new = np.append(True, (grams[1:] != grams[:-1]) | (owners[1:] != owners[:-1]))[: len(grams)]
    return grams[new], owners[new]
