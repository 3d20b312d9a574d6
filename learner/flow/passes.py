"""The order in which the prompts of one source come: pass after pass over all of them. Pure.

Each pass is a permutation of its own. A prompt that is asked less often than others is left out of some passes, and one
that is dropped of all; the others come as they would have come. So no look at results begins a pass anew, and what has
not come yet in a pass still does.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np

from .prompts import Prompt


class Passes:
    """What a source's prompts are from one look at results to the next."""

    def __init__(
        self,
        prompts: list[Prompt],
        seed: int,
        name: str | None = None,
        *,
        often: Mapping[str, float] | None = None,
        begun: int = 0,
        place: tuple[int, int] = (0, 0),
    ) -> None:
        """``seed``: the run's. ``name``: the source's. ``often``: in which share of the passes a prompt comes, by its
        id; 1 for those that are not in it, 0 for those that are dropped. The source's draw ``begun`` is at ``place``:
        the number of a pass and a position in its permutation."""
        self.prompts, self.seed, self.name = prompts, seed, name
        self.often = dict(often or {})
        self.begun, self.place = begun, place
        self._last: tuple[int, np.ndarray] | None = None
        """The pass whose positions were asked last, and these."""
        self._ends = [0]
        """How many draws the passes from ``place`` on have, added up; only as far as anybody asked."""
        self._often_P: np.ndarray | None = None
        if any(prompt.prompt_id in self.often for prompt in prompts):
            self._often_P = np.array([self.often.get(prompt.prompt_id, 1.0) for prompt in prompts])
            assert self._often_P.any(), "a source without a prompt"

    def __len__(self) -> int:
        """How many prompts come at all."""
        return len(self.prompts) if self._often_P is None else int(np.count_nonzero(self._often_P))

    def prompt(self, draw: int) -> Prompt:
        """The prompt of the source's draw of this number, which is not before ``begun``."""
        number, position = self.at(draw)
        return self.prompts[int(permutation(self.seed, self.name, number, len(self.prompts))[position])]

    def at(self, draw: int) -> tuple[int, int]:
        """The pass of a draw, and its position there."""
        first, position = self.place
        left = draw - self.begun
        assert left >= 0, "a draw from before these passes"
        if self._often_P is None:
            return divmod(first * len(self.prompts) + position + left, len(self.prompts))
        while left >= self._ends[-1]:
            self._ends.append(self._ends[-1] + len(self._positions(first + len(self._ends) - 1)))
        beyond = bisect_right(self._ends, left)
        number = first + beyond - 1
        return number, int(self._positions(number)[left - self._ends[beyond - 1]])

    def going_on(self, often: Mapping[str, float], draw: int) -> Passes:
        """The passes from ``draw`` on where prompts come as ``often`` says."""
        return self.begun_at(draw, self.at(draw), often)

    def begun_at(self, draw: int, place: tuple[int, int], often: Mapping[str, float]) -> Passes:
        """The passes from ``draw`` on, which is at ``place``, where prompts come as ``often`` says."""
        return Passes(self.prompts, self.seed, self.name, often=often, begun=draw, place=place)

    def anew(self, draw: int) -> Passes:
        """The passes from ``draw`` on where the first of them begins there: the next one of which nothing was drawn
        before."""
        number = self.place[0] + (self.place[1] > 0) if draw == self.begun else self.at(draw - 1)[0] + 1
        return self.begun_at(draw, (number, 0), self.often)

    def without(self, prompt_ids: Iterable[str]) -> Passes:
        """Passes over the other prompts alone, from the first draw on and with the same numbers."""
        gone = set(prompt_ids)
        others = [prompt for prompt in self.prompts if prompt.prompt_id not in gone]
        return Passes(others, self.seed, self.name, often=self.often, begun=self.begun, place=self.place)

    def _positions(self, number: int) -> np.ndarray:
        """The positions of pass ``number`` whose prompts come."""
        assert self._often_P is not None
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        order = permutation(self.seed, self.name, number, len(self.prompts))
        comes_P = self._often_P >= 1
        if (some_P := (self._often_P > 0) & ~comes_P).any():
            # A prompt that comes in a share s of the passes comes in each that lifts s·number past a whole number.
            phase_P = _rng(self.seed, self.name, -1).random(len(order))
            lifted_P = np.floor((number + 1) * self._often_P + phase_P) > np.floor(number * self._often_P + phase_P)
            comes_P = comes_P | (some_P & lifted_P)
        found = np.flatnonzero(comes_P[order])
        found = found[found >= self.place[1]] if number == self.place[0] else found
        self._last = number, found
        return found


@lru_cache(maxsize=8)
def permutation(seed: int, name: str | None, number: int, size: int) -> np.ndarray:
    """The order of pass ``number`` over ``size`` prompts of a source. (Run seed, name, number) decide it."""
    return _rng(seed, name, number).permutation(size)


def _rng(seed: int, name: str | None, number: int) -> np.random.Generator:
    word = [] if name is None else [zlib.crc32(name.encode())]
    return np.random.default_rng([seed, *word, number] if number >= 0 else [seed, *word, 0, 1])
