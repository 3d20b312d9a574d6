"""Conversations on vLLM: one request a response and turn, each with all tokens before it as its prompt.

Nothing is tokenised again, so a turn's prompt begins with what the turn before has left in vLLM's prefix cache.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from ..common.types import Responses
from .turns import turn_seed

if TYPE_CHECKING:
    from vllm.logprobs import FlatLogprobs
    from vllm.outputs import CompletionOutput

    from ..common.types import Ticket
    from .environments import Conversations

ABORTED = "abort"
"""vLLM's finish reason for a request that was aborted before its end."""
ENDED = "stop"
"""vLLM's finish reason for a response that sampled an end token."""


class VersionFell(Exception):
    """A lower version came within a response: its group has to be started over."""


@dataclass(slots=True)
class Told:
    """One response so far."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    spans: list[tuple[int, int, int]] = field(default_factory=list)
    """(version, start, end)"""
    observed: list[tuple[int, int]] = field(default_factory=list)
    """(start, end)"""
    finished: bool = False

    def say(self, output: CompletionOutput) -> None:
        """Add what was sampled in a turn. Raises ``VersionFell``."""
        if output.finish_reason == ABORTED:
            raise VersionFell
        first = len(self.tokens)
        for span in output.weight_versions or ():
            if self.spans and int(span.version) < self.spans[-1][0]:
                raise VersionFell
            self.spans.append((int(span.version), first + span.start, first + span.end))
        self.tokens += output.token_ids
        self.logprobs += flat(output).logprobs

    def observe(self, tokens: tuple[int, ...]) -> None:
        """Add what the environment wrote."""
        self.observed.append((len(self.tokens), len(self.tokens) + len(tokens)))
        self.tokens += tokens
        self.logprobs += [np.nan] * len(tokens)


Sample = Callable[[list[int], int, int], Awaitable["CompletionOutput"]]
"""Samples a turn, given what stands before it, its seed, and the most tokens that it may have."""


async def converse(sample: Sample, conversations: Conversations, ticket: Ticket) -> list[Told]:
    """The ticket's G responses, side by side; the first that fails ends them all."""
    tasks = [
        asyncio.create_task(_converse(sample, conversations, ticket, response)) for response in range(ticket.group_size)
    ]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _converse(sample: Sample, conversations: Conversations, ticket: Ticket, response: int) -> Told:
    prompt, told = ticket.prompt_tokens_P.tolist(), Told()
    for number in itertools.count():
        room = ticket.max_new_tokens - len(told.tokens)
        output = await sample([*prompt, *told.tokens], turn_seed(ticket, response, number), room)
        told.say(output)
        if output.finish_reason != ENDED:
            break
        turn = await asyncio.wrap_future(conversations.step(response, output.token_ids))
        if turn.observation is None:
            told.finished = turn.finished
            break
        if len(told.tokens) + len(turn.observation) >= ticket.max_new_tokens:
            break  # nothing could be sampled behind it
        told.observe(turn.observation)
    return told


def flat(output: CompletionOutput) -> FlatLogprobs:
    """The log-probabilities, which ``flat_logprobs`` makes vLLM give in this form."""
    return cast("FlatLogprobs", output.logprobs)


def conversed(
    ticket: Ticket, told: list[Told], conversations: Conversations, *, worker: str, seconds: float
) -> Responses:
    """What was ``told`` as flat arrays."""
    spans = [(j, *span) for j, response in enumerate(told) for span in response.spans]
    observed = [(j, *rows) for j, response in enumerate(told) for rows in response.observed]
    return Responses(
        group_id=ticket.group_id,
        tokens_T=np.concatenate([np.asarray(response.tokens, dtype=np.uint32) for response in told]),
        logprobs_T=np.concatenate([np.asarray(response.logprobs, dtype=np.float32) for response in told]),
        lengths_S=np.array([len(response.tokens) for response in told], dtype=np.uint32),
        finished_S=np.array([response.finished for response in told], dtype=np.uint8),
        spans=np.array(spans, dtype=np.uint32).reshape(-1, 4),
        worker=worker,
        seconds=seconds,
        observed=np.array(observed, dtype=np.uint32).reshape(-1, 3),
        environment_S=np.array(conversations.rewards_S, dtype=np.float64),
    )
