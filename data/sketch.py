"""Finds candidates for near-duplicates among very many texts: MinHash and locality-sensitive hashing, in numpy.

A text is a token string. Its words and its signature (numbers, signs, relations) are sketched apart. Problems made from
one template share their words and differ in their numbers; one sketch of everything would make all of them candidates.
So a band is ``ROWS`` minima over pairs of neighbouring words, and one minimum over the signature. Two texts that share
a fraction w of their word pairs and s of their signature meet in one of the bands with probability
1 - (1 - w⁴s)^BANDS.

It takes ``BANDS`` × 8 bytes of memory for each text, and those of the chunk that is being sketched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .normalise import FIRST_NUMBER, SIGNS

BANDS, ROWS = 40, 4
CHUNK = 1_000
"""Texts that are sketched at once: few enough that their hashes stay in the processor's cache."""
CROWD = 256
"""In a bucket of more texts than this, a text is compared with its ``NEIGHBOURS`` next ones by signature only."""
NEIGHBOURS = 16
LEAST_LENGTHS = 0.72
"""Texts of lengths further apart than this cannot be near-duplicates (see ``near.SIMILAR``)."""

_MASK = 0x7FFFFFFF  # stands in a word pair for every number and sign
_SIGNS = np.array([ord(sign) for sign in SIGNS], dtype=np.uint32)
_RANDOM = np.random.default_rng(2505_22312)
_ODD = _RANDOM.integers(0, 2**63, 1 + BANDS * (ROWS + 1), dtype=np.uint64) << np.uint64(1) | np.uint64(1)
_SHIFT = np.uint64(29)


@dataclass(frozen=True, slots=True)
class Sketches:
    """The sketches of n texts."""

    bands: np.ndarray
    """Band hashes, uint64 [BANDS, n]."""
    signatures: np.ndarray
    """A bit for each token of the signature, uint64 [n]: a part of a signature has no bit that the whole lacks."""
    orders: np.ndarray
    """Hash of the whole signature, uint64 [n]."""
    lengths: np.ndarray
    """Number of tokens, int32 [n]."""


def sketch(texts: Sequence[str]) -> Sketches:
    """Sketches of token strings, in order."""
    parts = [_sketch(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)] or [_sketch([""])]
    bands = np.concatenate([part.bands for part in parts], axis=1)[:, : len(texts)]
    rest = ([getattr(part, name) for part in parts] for name in ("signatures", "orders", "lengths"))
    return Sketches(bands, *(np.concatenate(arrays)[: len(texts)] for arrays in rest))


def flat(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(tokens of all texts one after the other, uint32; where each text starts, int64). Each text starts with a 0."""
    tokens = np.frombuffer("".join("\0" + text for text in texts).encode("utf-32-le"), dtype=np.uint32)
    return tokens, np.flatnonzero(tokens == 0)


def ranges(firsts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The ranges that start at ``firsts`` and have ``lengths`` numbers each, one after the other; int64."""
    return np.repeat(firsts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())


def mix(hashes: np.ndarray) -> np.ndarray:
    """Hashes whose high and low bits both depend on every bit of the input; uint64."""
    hashes = (hashes ^ (hashes >> _SHIFT)) * np.uint64(0xBF58476D1CE4E5B9)
    return hashes ^ (hashes >> np.uint64(32))


def _sketch(texts: Sequence[str]) -> Sketches:
    tokens, starts = flat(texts)
    signed = (tokens >= ord(FIRST_NUMBER)) | np.isin(tokens, _SIGNS)
    words = np.where(signed, np.uint32(_MASK), tokens).astype(np.uint64)
    following = np.append(words[1:], np.uint64(0))
    pairs = mix(words * _ODD[0] + following)

    kept = signed | (tokens == 0)  # the 0 stands for a signature without tokens
    marks = tokens[kept].astype(np.uint64)
    mark_starts = np.flatnonzero(marks == 0)
    marks = mix(_numbered(marks, mark_starts))
    bits = np.where(tokens[kept] == 0, np.uint64(0), np.uint64(1) << (marks & np.uint64(63)))
    order = np.arange(len(marks), dtype=np.uint64) - np.repeat(mark_starts, np.diff([*mark_starts, len(marks)])).astype(
        np.uint64
    )
    bands = np.empty((BANDS, len(starts)), dtype=np.uint64)
    for band in range(BANDS):
        odds = _ODD[1 + band * (ROWS + 1) :]
        found = np.minimum.reduceat(marks * odds[ROWS], mark_starts)
        for row in range(ROWS):
            found = mix(found) + np.minimum.reduceat(pairs * odds[row], starts)
        bands[band] = mix(found)
    return Sketches(
        bands=bands,
        signatures=np.bitwise_or.reduceat(bits, mark_starts),
        orders=np.add.reduceat(mix(marks + mix(order)), mark_starts),
        lengths=np.diff([*starts, len(tokens)]).astype(np.int32) - 1,
    )


def _numbered(marks: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The marks numbered by how often each stood before in its text, so that the second 3 differs from the first."""
    text = np.repeat(np.arange(len(starts)), np.diff([*starts, len(marks)]))
    order = np.lexsort((marks, text))
    same = np.append(False, (marks[order][1:] == marks[order][:-1]) & (text[order][1:] == text[order][:-1]))
    position = np.arange(len(marks))
    since = position - np.maximum.accumulate(np.where(same, 0, position))
    seen = np.empty(len(marks), dtype=np.uint64)
    seen[order] = since.astype(np.uint64)
    return marks + (seen << np.uint64(32))


def candidates(sketches: Sketches) -> Iterator[np.ndarray]:
    """Pairs that meet in a band and do not differ plainly, band by band; int64 [pairs, 2], the smaller index first.

    A pair comes in every band in which it meets.
    """
    for hashes in sketches.bands:
        by_hash = np.argsort(hashes, kind="stable")
        ordered = hashes[by_hash]
        edges = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        sizes = np.diff(np.append(edges, len(ordered)))
        found = [_within(by_hash, edges, sizes)]
        found += [
            _crowd(by_hash[edge : edge + size], sketches)
            for edge, size in zip(edges, sizes, strict=True)
            if size > CROWD
        ]
        yield _plausible(np.concatenate(found), sketches, sketches)


def _within(by_hash: np.ndarray, edges: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """All pairs of each bucket that is not crowded: members at distance 1, then 2, and so on."""
    found = [np.empty((0, 2), dtype=np.int64)]
    small = (sizes > 1) & (sizes <= CROWD)
    edges, sizes = edges[small], sizes[small]
    for distance in range(1, int(sizes.max(initial=1))):
        larger = sizes > distance
        edges, sizes = edges[larger], sizes[larger]
        reach = sizes - distance
        firsts = ranges(edges, reach)
        found.append(np.stack([by_hash[firsts], by_hash[firsts + distance]], axis=1))
    return np.concatenate(found)


def _crowd(members: np.ndarray, sketches: Sketches) -> np.ndarray:
    members = members[np.lexsort((members, sketches.orders[members]))]
    near = [np.stack([members[:-step], members[step:]], axis=1) for step in range(1, NEIGHBOURS + 1)]
    return np.concatenate(near)


def _plausible(pairs: np.ndarray, left: Sketches, right: Sketches) -> np.ndarray:
    """The pairs of texts of similar lengths in which one's signature may be part of the other's."""
    pairs = pairs.astype(np.int64)
    if left is right:
        pairs = np.sort(pairs, axis=1)
    a, b = left.lengths[pairs[:, 0]], right.lengths[pairs[:, 1]]
    mine, theirs = left.signatures[pairs[:, 0]], right.signatures[pairs[:, 1]]
    either = ((mine & ~theirs) == 0) | ((theirs & ~mine) == 0)
    return pairs[either & (np.minimum(a, b) >= LEAST_LENGTHS * np.maximum(a, b))]


def candidates_between(few: Sketches, many: Sketches) -> Iterator[np.ndarray]:
    """Pairs (index in few, index in many) that meet in a band, band by band; int64 [pairs, 2]."""
    for mine, theirs in zip(few.bands, many.bands, strict=True):
        by_hash = np.argsort(mine, kind="stable")
        ordered = mine[by_hash]
        low = np.searchsorted(ordered, theirs, side="left")
        meets = np.flatnonzero(ordered[np.minimum(low, len(ordered) - 1)] == theirs)
        low = low[meets]
        reach = np.searchsorted(ordered, theirs[meets], side="right") - low
        pairs = np.stack([by_hash[ranges(low, reach)], np.repeat(meets, reach)], axis=1)
        yield _plausible(pairs, few, many)
