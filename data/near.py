"""Near-duplicates and contaminations: candidates from the sketches, then the truth about each pair. Pure.

Two texts are the same problem where their token strings agree in order to ``SIMILAR`` (twice the longest common
subsequence over both lengths: a replaced, added or moved token of n costs about 1/n) and the numbers, signs and
relations of one are those of the other, except for a few left out. With another number in its place it is another
problem. So it is with other words where all the rest is common to many texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rapidfuzz import fuzz, process
from rapidfuzz.distance import Indel, LCSseq

from .normalise import signature
from .sketch import CHUNK, candidates, candidates_between, flat, mix, ranges, sketch

SIMILAR = 0.84
"""How much of two texts agrees in near-duplicates. Edits of 10 % of the words leave about 0.9."""
NGRAM = 5
"""Tokens. DeepScaleR and others look for longer common runs; an edit in every tenth word leaves few of those."""
MOST_LEFT_OUT = 0.25
"""Of a signature. Two tokens always."""
COMMON = 50
"""A pair of tokens that stands in more texts is a turn of phrase, or belongs to a template."""
RARE_SHARED = 0.5
"""How much of what is rare about one text, the one with less of it, is in its near-duplicate, too: fillings of one long
template differ there, and an edit that brings in rare words does no harm."""
LEAST_SHARED = 0.3
"""Of an evaluation problem's n-grams, how many a row must share to be looked at. Edits of 10 % leave 0.59."""
LEAST_TOKENS = 8
"""An evaluation problem of fewer tokens counts only as a whole, not as a part of a longer text."""


@dataclass(frozen=True, slots=True)
class Match:
    """What a text was found to repeat."""

    of: int
    """Index of the other one."""
    similarity: float
    """0 to 1; 1 is equal after normalisation."""
    by: str = "MinHash"


def same_problem(mine: str, theirs: str) -> float:
    """Similarity of two token strings where they are one problem, else 0."""
    return _one_problem(mine, theirs, Indel.normalized_similarity(mine, theirs, score_cutoff=SIMILAR))


def _one_problem(mine: str, theirs: str, similarity: float) -> float:
    return similarity if similarity >= SIMILAR and is_part(signature(mine), signature(theirs)) else 0.0


def is_part(mine: str, theirs: str) -> bool:
    """Whether the shorter signature is the longer one with a few left out."""
    short, long = sorted((mine, theirs), key=len)
    if len(long) - len(short) > max(2, MOST_LEFT_OUT * len(long)):
        return False
    rest = iter(long)
    return all(token in rest for token in short)


class Phrases:
    """How often each pair of neighbouring tokens stands in many texts: what is rare about a text is what it is about.

    Counted in ``SLOTS`` slots by hash, so a rare pair may share the count of another one.
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
        """The tokens that stand in no common pair."""
        tokens = np.frombuffer(f"\0{text}\0".encode("utf-32-le"), dtype=np.uint32)
        rare = self._counts[self._slots(tokens)] <= COMMON
        rare[0] = rare[-1] = True  # the text's ends
        return "".join(token for token, keep in zip(text, rare[:-1] & rare[1:], strict=True) if keep)


def near_duplicates(texts: Sequence[str], kinds: Sequence[object]) -> list[Match | None]:
    """For each token string, the earlier one of its kind that it repeats and that is itself kept; None: keep it.

    Equal strings are found exactly; near ones through ``sketch``, and each pair is then compared in truth. A match is
    always a kept text, so what is shown beside a dropped one is in the result.
    """
    found: list[Match | None] = [None] * len(texts)
    first: dict[tuple[str, object], int] = {}
    firsts = [first.setdefault(key, index) for index, key in enumerate(zip(texts, kinds, strict=True))]
    unique = np.fromiter(first.values(), dtype=np.int64, count=len(first))
    distinct = [texts[index] for index in unique]
    phrases = Phrases(distinct)
    rare = lru_cache(maxsize=1 << 16)(phrases.rare)

    def about_the_same(mine: str, theirs: str) -> bool:
        a, b = rare(mine), rare(theirs)
        return LCSseq.similarity(a, b) >= RARE_SHARED * min(len(a), len(b))

    for later, earlier, similarity in _pairs(distinct):
        one, other = int(unique[later]), int(unique[earlier])
        if kinds[one] == kinds[other] and found[one] is None:
            match = found[other]
            if match is not None:  # it is dropped itself: compare with what it was dropped for
                other, similarity = match.of, same_problem(texts[one], texts[match.of])
            if similarity and about_the_same(texts[one], texts[other]):
                found[one] = Match(other, similarity)
    for index, earlier in enumerate(firsts):
        if earlier != index:
            found[index] = found[earlier] or Match(earlier, 1.0, "equal text")
    return found


def _pairs(texts: list[str]) -> list[tuple[int, int, float]]:
    """(later, earlier, similarity) of all near-duplicates, in order of the later one, then of the earlier."""
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
        scores = process.cpdist(a, b, scorer=Indel.normalized_similarity, score_cutoff=SIMILAR)
        for hit in np.flatnonzero(scores):
            if _one_problem(a[hit], b[hit], float(scores[hit])):
                pairs.append((one[hit], other[hit], float(scores[hit])))
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
        self._owners = owners[order]  # of one n-gram, all that have it: ``_reach`` of them from ``_first`` on
        self._counts = np.bincount(owners, minlength=len(self.texts))
        self._some = np.zeros(1 << 22, dtype=bool)
        self._some[self._slots(grams)] = True

    def _slots(self, grams: np.ndarray) -> np.ndarray:
        """Where ``_some`` says whether an evaluation problem has an n-gram with these bits: most others end there."""
        return (grams & np.uint64(len(self._some) - 1)).astype(np.int64)

    def contaminated(self, texts: Sequence[str]) -> list[Match | None]:
        """For each token string, the evaluation problem it repeats or contains, the most similar one; None: clean."""
        if not self.texts:
            return [None] * len(texts)
        batches = range(0, len(texts), CHUNK)
        return [match for start in batches for match in self._contaminated(texts[start : start + CHUNK])]

    def _contaminated(self, texts: Sequence[str]) -> list[Match | None]:
        found: list[Match | None] = [None] * len(texts)
        for by, pairs in (("n-grams", self._sharing(texts)), ("MinHash", self._meeting(texts))):
            for problem, text in pairs:
                similarity = contains(texts[text], self.texts[problem])
                best = found[text]
                if similarity and (best is None or similarity > best.similarity):
                    found[text] = Match(problem, similarity, by)
        return found

    def _sharing(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """(evaluation problem, text) where the text has ``LEAST_SHARED`` of the problem's n-grams."""
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


def contains(text: str, problem: str) -> float:
    """How much of an evaluation problem stands in a text, where it is that problem; else 0."""
    whole = same_problem(text, problem)
    if len(text) <= len(problem) or len(problem) < LEAST_TOKENS:
        return whole
    part = fuzz.partial_ratio_alignment(problem, text, score_cutoff=100 * SIMILAR)
    if part is None:
        return whole
    window = text[part.dest_start : part.dest_end]
    covered = LCSseq.normalized_similarity(problem, window)  # the window may be short, at an end of the text
    return max(whole, covered if covered >= SIMILAR and is_part(signature(problem), signature(window)) else 0.0)


def _ngrams(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes of the n-grams of all texts, uint64; which text each is of, int64). A text shorter than n is one."""
    tokens, starts = flat(texts)
    lengths = np.diff(np.append(starts, len(tokens)))
    text = np.repeat(np.arange(len(starts)), lengths)
    left = np.repeat(starts + lengths, lengths) - np.arange(len(tokens))  # tokens to the text's end
    first = np.arange(len(tokens)) - np.repeat(starts, lengths)
    hashes = np.zeros(len(tokens), dtype=np.uint64)
    padded = np.append(tokens, np.zeros(NGRAM, dtype=np.uint32)).astype(np.uint64)
    for step in range(NGRAM):
        hashes = mix(hashes) + np.where(step < left, padded[step : step + len(tokens)], 0).astype(np.uint64)
    whole = (first == 1) | ((first > 1) & (left >= NGRAM))  # the 0 in front belongs to none
    return mix(hashes[whole]), text[whole]


def _different(grams: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each n-gram of a text once."""
    order = np.lexsort((grams, owners))
    grams, owners = grams[order], owners[order]
    new = np.append(True, (grams[1:] != grams[:-1]) | (owners[1:] != owners[:-1]))[: len(grams)]
    return grams[new], owners[new]
