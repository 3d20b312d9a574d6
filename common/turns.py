"""Which tokens of a response the policy sampled, and which it observed. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .errors import DecodeError
from .prompts import opens_reasoning
from .samples import ENVIRONMENT, POLICY
from .types import Responses


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring tokens of one response, all sampled by the policy or all observed."""

    by: str
    """``POLICY`` or ``ENVIRONMENT``."""
    tokens: np.ndarray
    """Unsigned integers, shape [n]; at least one."""


def by_response(rows: np.ndarray, responses: int) -> list[list[list[int]]]:
    """For each of so many ``responses`` its rows, in order and without the response's number, which stands first in
    each of ``rows`` (unsigned integers, shape [n, k])."""
    found: list[list[list[int]]] = [[] for _ in range(responses)]
    for response, *rest in rows.tolist():
        found[response].append(rest)
    return found


def stretches_of(responses: Responses) -> list[list[Stretch]]:
    """The stretches of each response, in order: a turn, what the environment answered, a turn, and so on. The first and
    the last are the policy's."""
    rows, found = by_response(responses.observed, len(responses.lengths_S)), []
    each_response = np.split(responses.tokens_T, np.cumsum(responses.lengths_S, dtype=np.int64)[:-1])
    for tokens, observed in zip(each_response, rows, strict=True):
        parts, position = list[Stretch](), 0
        for start, end in observed:
            parts += [Stretch(POLICY, tokens[position:start]), Stretch(ENVIRONMENT, tokens[start:end])]
            position = end
        found.append([*parts, Stretch(POLICY, tokens[position:])])
    return found


def told(stretches: list[Stretch], text: Callable[[list[int]], str]) -> list[dict[str, str]]:
    """The conversation as reward functions and files have it: who each piece is ``by``, and its ``text``, which
    ``text`` makes of tokens."""
    return [{"by": stretch.by, "text": text(stretch.tokens.tolist())} for stretch in stretches]


def reasoning_open_S(
    prompt_tokens_P: np.ndarray, conversations: list[list[Stretch]], text: Callable[[list[int]], str]
) -> list[bool]:
    """Of each response, whether what stands before its last turn opens the reasoning: the prompt, or the environment's
    answer. ``text`` makes text of tokens."""

    def opens(tokens: np.ndarray) -> bool:
        return opens_reasoning(text(tokens[-16:].tolist()))

    by_prompt = opens(prompt_tokens_P)
    return [opens(before[-1].tokens) if before else by_prompt for *before, _ in conversations]


def check_observed(observed: np.ndarray, lengths_S: np.ndarray) -> None:
    """Raise ``DecodeError`` where the rows of observed tokens are not in order, or two of a response leave no sampled
    token between them, or one leaves none before or behind it: a turn of the policy has a token at least."""
    last, position = 0, 0
    for response, start, end in observed.astype(np.int64).tolist():
        if not last <= response < len(lengths_S):
            raise DecodeError(f"observed tokens of response {response} after {last}, of {len(lengths_S)} responses")
        if response != last:
            last, position = response, 0
        if not position < start < end < lengths_S[response]:
            where = f"of response {response}, with {lengths_S[response]} tokens"
            raise DecodeError(f"observed tokens {start}..{end} {where}, where those before end at {position}")
        position = end
