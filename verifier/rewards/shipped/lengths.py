"""Rewards for the length of a response, in tokens."""

import math
from typing import Any

from ....common.rewards import scores_truncated


@scores_truncated
def overlong(response: str, row: dict[str, Any], *, length: int, longest: int, buffer: int) -> float:
    """0 up to ``longest`` - ``buffer`` tokens, then down in a line to -1 at ``longest`` and beyond. ``longest`` is
    ``train.max_response_tokens`` as a rule.

    Source: soft overlong punishment of DAPO (arXiv 2503.14476, equation 13). Its overlong *filter*, which leaves
    truncated responses out of the loss, is ``objective.advantage_mask`` here.
    """
    if not 0 < buffer <= longest:
        raise ValueError(f"buffer = {buffer}: from 1 to longest = {longest}")
    return min(0.0, max(-1.0, (longest - buffer - length) / buffer))


@scores_truncated
def cosine_length(
    response: str,
    row: dict[str, Any],
    *,
    length: int,
    finished: bool,
    correct: bool,
    longest: int,
    right: tuple[float, float] = (1.0, 0.5),
    wrong: tuple[float, float] = (-1.0, -0.5),
    exceeded: float = -1.0,
) -> float:
    """A reward that goes with the length from the first to the second value of ``right`` or ``wrong``, along half a
    cosine: at 0 tokens the first, at ``longest`` the second; ``exceeded`` where the response is truncated.
    ``correct`` is what the judge of the answer says, which stands in ``[[rewards]]`` beside this one, with weight 0.

    Source: the cosine reward of Yeo et al., Demystifying Long Chain-of-Thought Reasoning (arXiv 2502.03373). The values
    are ours, in its order: short is best where right, and worst where wrong.
    """
    if not finished or length >= longest:
        return exceeded
    first, last = right if correct else wrong
    return last + (first - last) * (1 + math.cos(math.pi * length / longest)) / 2
