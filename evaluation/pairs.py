"""Pairs the problems of two evaluations that are the same: they ask the same text and judge by the same gold. Pure.

Ids cannot tell: without a column ``id``, a problem's id is the number of its row, and one more row at the top changes
all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Pairs:
    """The problems of one benchmark on both sides, each by its ids there."""

    common: list[tuple[list[str], list[str]]] = field(default_factory=list)
    """(ids in A, ids in B) of each common problem; several ids where it is in the file several times."""
    golds: list[tuple[str, str]] = field(default_factory=list)
    """(id in A, id in B) of problems that ask the same and are judged by different golds. They are not compared."""
    only_a: list[str] = field(default_factory=list)
    only_b: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    """Ids that mean one problem in A and another in B."""


def paired(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> Pairs:
    """The problems of two ``by_problem`` (``eval.json``), by their ``text`` and ``gold``."""
    ours, theirs = _by(a, "text", "gold"), _by(b, "text", "gold")
    our_texts, their_texts = _by(a, "text"), _by(b, "text")
    pairs = Pairs()
    for key, ids in ours.items():
        if key in theirs:
            pairs.common.append((ids, theirs[key]))
        elif key[:1] in their_texts:
            pairs.golds.append((ids[0], their_texts[key[:1]][0]))
        else:
            pairs.only_a += ids
    for key, ids in theirs.items():
        if key not in ours and key[:1] not in our_texts:
            pairs.only_b += ids
        elif key not in ours and (our_texts[key[:1]][0], ids[0]) not in pairs.golds:
            pairs.golds.append((our_texts[key[:1]][0], ids[0]))
    pairs.renamed = sorted(own for own in a.keys() & b.keys() if a[own]["text"] != b[own]["text"])
    return pairs


def _by(problems: Mapping[str, Mapping[str, Any]], *keys: str) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for own, each in problems.items():
        found.setdefault(tuple(each[key] for key in keys), []).append(own)
    return found
