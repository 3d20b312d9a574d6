"""Conversations of one group in a batch that goes forward token by token. Pure, but for the environments that it steps.

Every row has one token at each position: the policy sampled it, or the row's environment wrote it. So the batch never
changes shape, no row is padded, and the keys and values of a turn are those that the next turn needs.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from ..common.types import Ticket
from .environments import Turn

Step = Callable[[Mapping[int, Sequence[int]]], Mapping[int, Turn]]
"""Steps the environments of some responses side by side. Given the sampled tokens of each one's turn, it returns what
each environment answered."""


class Talk:
    """Who writes which token of a batch: the bookkeeping of its rows, which all begin with a turn of the policy."""

    def __init__(self, rows: int, longest: int, step: Step | None = None) -> None:
        """``longest``: tokens that a response may have. ``step``: see ``Step``. Without it a row's first turn is its
        last."""
        self._longest, self._step = longest, step
        self._unread: dict[int, deque[int]] = {}
        self._begun = [0] * rows
        self.finished = [False] * rows
        """Whether each row has come to an end by itself: the policy's or, where there is one, its environment's."""
        self.observed: list[tuple[int, int, int]] = []
        """What environments wrote: (row, start, end), in the order in which they did."""

    def write(self, token_S1: torch.Tensor, logprob_S1: torch.Tensor) -> torch.Tensor:
        """Put the next token of its observation in the place of what was sampled, in each row that has one, and NaN in
        that of its log-probability. Returns which rows have sampled: bool [S]."""
        sampled_S = torch.ones(len(token_S1), dtype=torch.bool)
        for row, unread in [*self._unread.items()]:
            token_S1[row], logprob_S1[row], sampled_S[row] = unread.popleft(), torch.nan, False
            if not unread:
                del self._unread[row]
        return sampled_S

    def answer(self, ended_S: torch.Tensor, steps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Step the environments of the rows that end a turn with the newest of ``steps`` (int64 [S, 1] each). Returns
        which rows are over with it: bool [S]."""
        over_S, written = ended_S.clone(), len(steps)
        turns = {row: self._begun[row] for row in ended_S.nonzero()[:, 0].tolist()}
        if self._step is None:
            for row in turns:
                self.finished[row] = True
            return over_S
        tokens = {row: [int(step[row, 0]) for step in steps[begun:]] for row, begun in turns.items()}
        for row, turn in self._step(tokens).items() if tokens else ():
            if turn.observation is None:
                self.finished[row] = turn.finished
            elif (begins := written + len(turn.observation)) < self._longest:
                self._unread[row] = deque(turn.observation)
                self.observed.append((row, written, begins))
                self._begun[row], over_S[row] = begins, False
            # An observation behind which nothing can be sampled is left out: the response is truncated before it.
        return over_S


def segments(lengths: Sequence[int], observed: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """What the policy sampled, as (response, start, end): all of each response but what was ``observed``."""
    found = []
    for response, length in enumerate(lengths):
        start = 0
        for _, begins, ends in (row for row in observed if row[0] == response):
            found.append((response, start, begins))
            start = ends
        found.append((response, start, length))
    return found


def turn_seed(ticket: Ticket, response: int, turn: int) -> int:
    """The sampling seed of a response's turn, from the ticket alone, where an engine samples turns one by one."""
    first = ticket.seed + response
    return first if turn == 0 else int(np.random.SeedSequence([first, turn]).generate_state(1, np.uint64)[0]) >> 2
