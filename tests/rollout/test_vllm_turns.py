"""What vLLM samples turn by turn, put together. No engine: its part is a function here."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from leeway_rl.common.errors import EnvironmentFailed
from leeway_rl.rollout.environments import Turn
from leeway_rl.rollout.turns import turn_seed
from leeway_rl.rollout.vllm_turns import ABORTED, ENDED, VersionFell, converse, conversed

from tests.samples import a_ticket

OVER = Turn(observation=None, finished=True)


@dataclass
class Output:
    """The part of vLLM's ``CompletionOutput`` that is read."""

    token_ids: list[int]
    finish_reason: str = ENDED
    weight_versions: list[SimpleNamespace] = field(default_factory=list)

    @property
    def logprobs(self):
        return SimpleNamespace(logprobs=[-0.5] * len(self.token_ids))


def span(version, start, end):
    return SimpleNamespace(version=str(version), start=start, end=end)


class Environments:
    """One group's, whose answers are given in advance."""

    def __init__(self, answers, size):
        self.answers, self.seen, self.rewards_S = answers, [], np.arange(float(size))

    def step(self, response, tokens):
        self.seen.append((response, list(tokens)))
        future = Future[Turn]()
        answer = self.answers[response].pop(0)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        elif answer is not None:
            future.set_result(answer)
        return future


def ticket(**changes):
    return a_ticket(1, group_size=2, max_new_tokens=12, **changes)


def test_a_turn_goes_on_from_all_tokens_before_it_and_has_a_seed_of_its_own():
    asked = []
    outputs = {
        (0, 0): Output([5, 6, 1], weight_versions=[span(3, 0, 2), span(4, 2, 3)]),
        (0, 1): Output([7, 1], weight_versions=[span(4, 0, 2)]),
        (1, 0): Output([9] * 12, "length", [span(3, 0, 12)]),
    }
    order = {turn_seed(ticket(), j, n): (j, n) for j in range(2) for n in range(3)}

    async def sample(prompt, seed, room):
        asked.append((order[seed], prompt, room))
        return outputs[order[seed]]

    environments = Environments({0: [Turn(observation=(20, 21)), OVER]}, 2)
    prompt = ticket().prompt_tokens_P.tolist()
    told = asyncio.run(converse(sample, environments, ticket()))
    assert sorted(asked) == [
        ((0, 0), prompt, 12),
        ((0, 1), [*prompt, 5, 6, 1, 20, 21], 7),
        ((1, 0), prompt, 12),
    ]
    assert environments.seen == [(0, [5, 6, 1]), (0, [7, 1])]
    responses = conversed(ticket(), told, environments, worker="w", seconds=1.0)
    assert responses.tokens_T.tolist() == [5, 6, 1, 20, 21, 7, 1, *[9] * 12]
    assert np.isnan(responses.logprobs_T).nonzero()[0].tolist() == [3, 4]
    assert responses.lengths_S.tolist() == [7, 12]
    assert responses.finished_S.tolist() == [1, 0]
    assert responses.spans.tolist() == [[0, 3, 0, 2], [0, 4, 2, 3], [0, 4, 5, 7], [1, 3, 0, 12]]
    assert responses.observed.tolist() == [[0, 3, 5]]
    assert responses.environment_S.tolist() == [0.0, 1.0]


def test_an_observation_behind_which_nothing_can_be_sampled_is_left_out():
    async def sample(*_):
        return Output([5] * 8 + [1])

    environments = Environments({j: [Turn(observation=(20, 21, 22))] for j in range(2)}, 2)
    told = asyncio.run(converse(sample, environments, ticket()))
    assert [(len(each.tokens), each.observed, each.finished) for each in told] == [(9, [], False)] * 2


@pytest.mark.parametrize(
    "second", [Output([7, 1], weight_versions=[span(3, 0, 2)]), Output([7], ABORTED, [span(4, 0, 1)])]
)
def test_a_version_that_falls_within_a_response_or_aborts_it_starts_the_group_over(second):
    async def sample(prompt, seed, room):
        return Output([5, 1], weight_versions=[span(4, 0, 2)]) if room == 12 else second

    environments = Environments({j: [Turn(observation=(20,)), OVER] for j in range(2)}, 2)
    with pytest.raises(VersionFell):
        asyncio.run(converse(sample, environments, ticket()))


def test_one_failed_environment_ends_the_group_and_nothing_of_it_goes_on():
    ended = []

    async def sample(prompt, seed, room):
        if seed == turn_seed(ticket(), 0, 0):
            return Output([5, 1])
        try:
            await asyncio.Event().wait()  # for ever
        finally:
            ended.append(seed)

    environments = Environments({0: [EnvironmentFailed("environment: it fell over")]}, 2)
    with pytest.raises(EnvironmentFailed, match="it fell over"):
        asyncio.run(converse(sample, environments, ticket()))
    assert ended == [turn_seed(ticket(), 1, 0)]


def test_a_group_that_is_cancelled_lets_go_of_its_steps():
    environments = Environments({j: [None] for j in range(2)}, 2)
    waiting = []
    step = environments.step
    environments.step = lambda *turn: waiting.append(step(*turn)) or waiting[-1]

    async def sample(*_):
        return Output([5, 1])

    async def main():
        task = asyncio.ensure_future(converse(sample, environments, ticket()))
        while len(waiting) < 2:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert all(future.cancelled() for future in waiting)
