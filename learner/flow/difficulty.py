"""What is known of how hard each prompt is, and how often it is asked therefore. No I/O.

Results come in whatever order groups end in. They are kept until somebody looks, and are then taken in the order of
tickets. So where every group before the look has ended, as at a ``max_staleness`` of 0, the same tickets always give
the same prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...common.config import Data


class Known(NamedTuple):
    """What the groups of a prompt have shown."""

    share: float
    """The share of responses that were solved: half the newest group's, half what it was before."""
    in_a_row: int
    """Groups up to the newest whose every response was solved."""


class Look(NamedTuple):
    """What a look at results has changed."""

    dropped: list[str]
    """Ids of the prompts that are dropped from now on."""
    rarer: int
    """How many prompts come in some passes alone from now on."""


class Difficulty:
    """The prompts of the sources whose draws follow results; of the other sources nothing is kept."""

    def __init__(self, sources: Sequence[Data], prompts: Sequence[int]) -> None:
        """``prompts``: how many each source has."""
        self._sources = sources
        self._left = list(prompts)
        """How many prompts of each source are not dropped."""
        self.often: dict[str, float] = {}
        """In which share of the passes over its source a prompt comes, by its id, where that is not 1."""
        self._known: dict[str, Known] = {}
        self._unseen: dict[int, tuple[int, str, float]] = {}
        """By ticket: source, prompt id and share solved of groups that ended since the last look."""

    @property
    def follows(self) -> list[int]:
        """The sources whose draws follow results, by their place."""
        return [place for place, source in enumerate(self._sources) if source.reconsidered]

    def saw(self, ticket: int, source: int, prompt_id: str, solved: float) -> None:
        """Note that a group has ended of whose responses this share was ``solved``."""
        if self._sources[source].reconsidered:
            self._unseen[ticket] = source, prompt_id, solved

    def look(self) -> Look:
        """Take in what has ended since the last look."""
        before, wanted = dict(self.often), dict[str, int]()
        for _, (place, prompt_id, solved) in sorted(self._unseen.items()):
            known, source = self._known.get(prompt_id), self._sources[place]
            share = solved if known is None else (known.share + solved) / 2
            in_a_row = 0 if solved < 1 else 1 if known is None else known.in_a_row + 1
            self._known[prompt_id] = Known(share, in_a_row)
            if self.often.get(prompt_id) == 0:
                continue
            if source.prefer_half is not None:
                self._ask(prompt_id, max(source.prefer_half, 4 * share * (1 - share)))
            wanted.pop(prompt_id, None)
            if source.drop_solved is not None and in_a_row >= source.drop_solved:
                wanted[prompt_id] = place
        self._unseen.clear()
        dropped = [prompt_id for place in self.follows for prompt_id in self.drop(place, _of(wanted, place))]
        return Look(sorted(dropped), sum(0 < share != before.get(name, 1) for name, share in self.often.items()))

    def drop(self, source: int, prompt_ids: Iterable[str]) -> list[str]:
        """Drop prompts of a source, and return those that were not dropped before. Where no prompt would be left, none
        is dropped."""
        found = [prompt_id for prompt_id in prompt_ids if self.often.get(prompt_id) != 0]
        if len(found) >= self._left[source]:
            return []
        self._left[source] -= len(found)
        self.often |= dict.fromkeys(found, 0.0)
        return found

    def _ask(self, prompt_id: str, share: float) -> None:
        if share < 1:
            self.often[prompt_id] = share
        else:
            self.often.pop(prompt_id, None)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        unseen = {str(ticket): each for ticket, each in self._unseen.items()}
        return {"often": self.often, "known": self._known, "unseen": unseen, "left": self._left}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what ``state`` gave."""
        self.often, self._left = dict(state["often"]), list(state["left"])
        self._known = {prompt_id: Known(*known) for prompt_id, known in state["known"].items()}
        self._unseen = {int(ticket): tuple(each) for ticket, each in state["unseen"].items()}


def _of(wanted: Mapping[str, int], source: int) -> list[str]:
    return [prompt_id for prompt_id, place in wanted.items() if place == source]
