"""How a mini-batch's responses are cut into micro-batches, and which rank trains which. Pure arithmetic on lengths.

Ranks run in lockstep: under ZeRO 3 each pass gathers the weights from all of them, so in every pass the ranks wait for
the one with the most tokens. The micro-batches are therefore made of all ranks' responses at once and as even as can
be, sorted by size, and dealt: those that are trained at the same time are neighbours in size. What waiting costs over
all passes is then at most the difference between the largest micro-batch and the smallest, once.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST_EXCESS, GROWTH = 0.01, 1.5
"""By what share micro-batches may be larger than their mean, at first; and what it grows by while they are too many."""

Sizes = Sequence[Sequence[int]]
"""Of each group the tokens of its prompt, then those that each of its responses adds to a row."""
Place = tuple[int, int]
"""Where a response is trained: the rank, and the number of its micro-batch there."""

_Response = tuple[int, int]
"""Its number in its group, and what it adds to a row."""


@dataclass(slots=True)
class _Part:
    """What one micro-batch holds."""

    tokens: int = 0
    responses: dict[int, list[int]] = field(default_factory=dict)
    """By group."""

    def take(self, group: int, prompt: int, responses: list[_Response], capacity: int) -> list[_Response]:
        """Take those that fit, in their order, and the first in any case where there is none yet; the others."""
        left = []
        for number, tokens in responses:
            needed = tokens if group in self.responses else prompt + tokens
            if self.tokens + needed <= capacity or not self.responses:
                self.responses.setdefault(group, []).append(number)
                self.tokens += needed
            else:
                left.append((number, tokens))
        return left


def places(sizes: Sizes, *, limit: int, ranks: int) -> list[list[Place]]:
    """The place of each group's each response.

    No micro-batch has more than ``limit`` tokens, a prompt counted once in each. The micro-batches with the same number
    are trained at the same time; a rank may lack the last number. Raises ``ValueError`` where one prompt and response
    alone exceed the limit.
    """
    alone = max((prompt + max(responses) for prompt, *responses in sizes), default=0)
    if alone > limit:
        raise ValueError(f"a prompt and response of {alone} tokens exceed the micro-batch budget of {limit}")
    parts = sorted(_even(sizes, limit, ranks), key=lambda part: -part.tokens)
    found = [[(0, 0)] * (len(size) - 1) for size in sizes]
    holders: list[set[int]] = [set() for _ in sizes]
    for first in range(0, len(parts), ranks):
        free = set(range(ranks))
        for part in parts[first : first + ranks]:
            # A rank that has some of these groups already has less to fetch.
            having = [rank for group in part.responses for rank in holders[group] & free]
            rank = min(having or free, key=lambda each: (-having.count(each), each))
            free.remove(rank)
            for group, responses in part.responses.items():
                holders[group].add(rank)
                for response in responses:
                    found[group][response] = (rank, first // ranks)
    return found


def _even(sizes: Sizes, limit: int, ranks: int) -> list[_Part]:
    """As many micro-batches a rank as the limit asks for, and these as even as can be."""
    fullest = _filled(sizes, limit)
    most = -(-len(fullest) // ranks) * ranks
    mean, excess = sum(part.tokens for part in fullest) / max(most, 1), FIRST_EXCESS
    while (capacity := math.ceil(mean * (1 + excess))) < limit:
        parts = _filled(sizes, capacity)
        if len(parts) <= most:
            return parts
        excess *= GROWTH
    return fullest


def _filled(sizes: Sizes, capacity: int) -> list[_Part]:
    """First-fit-decreasing, group after group: a micro-batch takes the longest responses that still fit, of one group
    and then of the next, until a group has some left, which the next micro-batch begins with. A prompt is so computed
    again in few of them. A response that is larger than ``capacity`` is alone in its micro-batch."""
    waiting = deque(
        (group, sorted(enumerate(responses), key=lambda each: -each[1])) for group, (_, *responses) in enumerate(sizes)
    )
    parts = []
    while waiting:
        part = _Part()
        left: list[_Response] = []
        while waiting and not left:
            group, responses = waiting.popleft()
            left = part.take(group, sizes[group][0], responses, capacity)
        if left:
            waiting.appendleft((group, left))
        parts.append(part)
    return parts
