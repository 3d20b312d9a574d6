"""One rollout worker of a simulated system, and the groups that it generates: a virtual clock. Pure.

A replica shares its speed among the responses that it holds: with n of them, a token of each takes
1/alone + (n - 1)/peak seconds. Its virtual clock counts the tokens that a response held from the start would have. So a
response of L tokens that begins at V ends at V + L, whatever other responses come and go, and a new response costs one
entry in a heap.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(slots=True)
class Group:
    """One group, from the start of its generation."""

    ticket: int
    lengths_S: np.ndarray
    began: float
    clock: float
    """The replica's virtual clock at its start, in tokens."""
    mark: int
    """Index of the replica's newest version at its start."""
    left: int
    """Responses under way."""
    tokens: int
    generation_s: float = 0.0
    spans: np.ndarray | None = None

    @property
    def known_spans(self) -> np.ndarray:
        """``spans`` of a group that is generated."""
        assert self.spans is not None
        return self.spans


class Replica:
    """One rollout worker: a virtual clock, the ends of its responses on it, and its versions' places on it."""

    __slots__ = ("_alone", "_peak", "at", "clock", "ends", "marks", "sampling_s", "turn")

    def __init__(self, *, alone: float, peak: float) -> None:
        """Tokens a second of one response that has the replica for itself, and of the replica under full load."""
        self._alone, self._peak = alone, peak
        self.at, self.clock, self.sampling_s = 0.0, 0.0, 0.0
        self.turn = 0
        """Incremented whenever the next end moves, which makes earlier events void."""
        self.ends: list[tuple[float, int, Group]] = []
        self.marks: list[tuple[float, int]] = [(0.0, 0)]
        """(virtual clock at its arrival, version) of every version that the replica has had."""

    def token_s(self) -> float:
        """Seconds a token of each of its responses takes now."""
        return 1 / self._alone + (len(self.ends) - 1) / self._peak

    def advance(self, now: float) -> None:
        """Let the virtual clock follow the real one. A pause lies before ``at``."""
        if self.ends and now > self.at:
            self.clock += (now - self.at) / self.token_s()
            self.sampling_s += now - self.at
        self.at = max(self.at, now)

    def next_end(self) -> float:
        """When its next response ends, if nothing comes in between."""
        return self.at + (self.ends[0][0] - self.clock) * self.token_s()


def spans_of(group: Group, marks: list[tuple[float, int]], *, in_flight: bool) -> np.ndarray:
    """Which version sampled which tokens of a group that has ended, as on the wire: uint32 [n, 4]."""
    loaded = marks[group.mark :] if in_flight else marks[group.mark : group.mark + 1]
    starts = np.array([0, *(int(clock - group.clock) for clock, _ in loaded[1:])])
    starts_SN = np.minimum(starts, group.lengths_S[:, None])
    ends_SN = np.concatenate([starts_SN[:, 1:], group.lengths_S[:, None]], axis=1)
    response, part = np.nonzero(ends_SN > starts_SN)
    versions = np.array([version for _, version in loaded])
    rows = (response, versions[part], starts_SN[response, part], ends_SN[response, part])
    return np.stack(rows, axis=1).astype(np.uint32)
