"""The vLLM engine in conversation, on a tiny random model. Start-up costs most of a minute, so it is paid once."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("vllm")

from leeway_rl.common.errors import EnvironmentFailed
from leeway_rl.common.types import Responses
from leeway_rl.rollout.engine import Aborted
from leeway_rl.rollout.environments import Turn
from leeway_rl.rollout.vllm_engine import VllmEngine
from vllm.v1.engine.async_llm import AsyncLLM

from tests.rollout.test_turns import OVER, Answering
from tests.rollout.test_vllm_engine import PROMPT, folder, model, pytestmark, recompute, split, ticket

__all__ = ["folder", "pytestmark"]

TOLD = (9, 8, 7)
SEVERAL = 3


def answers(_: int, turn: int) -> Turn:
    """Two observations, then the end."""
    return Turn(observation=TOLD) if turn < SEVERAL else OVER


@pytest.fixture(scope="module")
def host() -> Answering:
    return Answering(answers)


@pytest.fixture(scope="module")
def engine(folder: str, host: Answering) -> Iterator[VllmEngine]:
    engine = VllmEngine(folder, dtype="float32", worker="w", max_model_len=512, max_num_seqs=64, environments=host)
    engine.load(0, model(0).state_dict())
    yield engine
    engine.close()
    gc.collect()  # here, where the warning of vLLM's ZeroMQ context is expected


@pytest.fixture
def answering(host: Answering):
    """Have the environments answer otherwise for one test."""

    def otherwise(answer):
        host.answer = answer

    yield otherwise
    host.answer = answers


def observed_of(responses: Responses, response: int) -> list[list[int]]:
    return [[start, end] for j, start, end in responses.observed.tolist() if j == response]


def assert_is_a_conversation(responses: Responses, weights: dict[int, object], prompt: np.ndarray = PROMPT) -> None:
    """Tokens, spans and log-probabilities are what whole forward passes over the conversations give."""
    logprobs = split(responses, responses.logprobs_T)
    for j, tokens in enumerate(split(responses, responses.tokens_T)):
        spans = [[start, end] for row, _, start, end in responses.spans.tolist() if row == j]
        rows = sorted(spans + observed_of(responses, j))
        assert [start for start, _ in rows] == [0, *(end for _, end in rows[:-1])]
        assert rows[-1][1] == len(tokens)
        assert sorted(spans)[-1][1] == len(tokens), "it ends in a sampled token"
        written = np.isnan(logprobs[j])
        for start, end in observed_of(responses, j):
            assert tuple(tokens[start:end]) == TOLD
            assert tokens[start - 1] == 1
            assert written[start:end].all()
        for row, version, start, end in responses.spans.tolist():
            if row == j:
                expected = recompute(weights[version], tokens, 1.0)[start:end]
                np.testing.assert_allclose(logprobs[j][start:end], expected, atol=1e-4)


def test_what_was_sampled_is_what_full_passes_over_the_conversations_give(engine: VllmEngine, host: Answering) -> None:
    responses = engine.generate(ticket(1, G=16, new=120))
    assert_is_a_conversation(responses, {0: model(0)})
    assert len(responses.observed) > 4
    assert responses.environment_S.tolist() == [0.25 * turns for turns in host.turns]
    for j, tokens in enumerate(split(responses, responses.tokens_T)):
        assert responses.finished_S[j] == (host.turns[j] == SEVERAL)
        assert responses.finished_S[j] or len(tokens) > 120 - 1 - len(TOLD)


def test_an_environment_that_only_listens_leaves_the_samples_a_model_s_own(engine: VllmEngine, answering) -> None:
    answering(lambda *_: OVER)
    responses = engine.generate(ticket(2, G=16, new=60))
    assert len(responses.observed) == 0
    assert_is_a_conversation(responses, {0: model(0)})
    assert len(responses.spans) == 16


def test_the_cache_serves_the_next_turn(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole blocks are cached, of 128 tokens on the CPU, so the prompt is longer than two."""
    generate, cached = AsyncLLM.generate, []

    async def noting(*words, **options):
        async for result in generate(*words, **options):
            yield result
        cached.append(result.num_cached_tokens)

    monkeypatch.setattr(AsyncLLM, "generate", noting)
    long = replace(ticket(3, G=1, new=120), prompt_tokens_P=np.arange(300, dtype=np.uint16) % 50 + 2)
    responses = engine.generate(long)
    assert len(responses.observed) >= 1
    assert len(cached) == len(responses.observed) + 1
    assert cached[0] == 0
    assert min(cached[1:]) >= 256


def test_versions_rise_between_and_within_turns_and_spans_say_where(engine: VllmEngine, answering) -> None:
    asked, go_on = ([threading.Event() for _ in range(SEVERAL)] for _ in range(2))
    go_on[-1].set()

    def slow(_: int, turn: int) -> Turn:
        asked[turn - 1].set()
        assert go_on[turn - 1].wait(200)
        return answers(0, turn)

    answering(slow)
    weights = {version: model(version) for version in range(4)}
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(engine.generate, ticket(4, G=8, new=400))
        for turn in (0, 1):  # the next turn, of whoever has waited here, begins under the new version
            assert asked[turn].wait(200)
            engine.load(turn + 1, weights[turn + 1].state_dict())
            go_on[turn].set()
        engine.load(3, weights[3].state_dict())
        responses = waiting.result(240)
    assert_is_a_conversation(responses, weights)
    assert {0, 1} < {int(version) for version in responses.spans[:, 1]}
    for j in range(8):
        assert (np.diff(responses.spans[responses.spans[:, 0] == j, 1].astype(int)) >= 0).all()


def test_a_fall_of_the_version_while_an_environment_steps_starts_the_group_over(
    engine: VllmEngine, host: Answering, answering
) -> None:
    asked, go_on, opened = threading.Event(), threading.Event(), host.closed

    def slow(_: int, turn: int) -> Turn:
        asked.set()
        assert go_on.wait(200)
        return answers(0, turn)

    answering(slow)
    engine.load(9, model(1).state_dict())
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(engine.generate, ticket(5, G=8, new=200))
        assert asked.wait(200)
        engine.load(6, model(2).state_dict())
        go_on.set()
        responses = waiting.result(240)
    assert host.closed - opened >= 2, "the environments were reset"
    assert {int(version) for version in responses.spans[:, 1]} == {6}
    assert_is_a_conversation(responses, {6: model(2)})


def test_a_group_is_stopped_while_its_environment_steps_and_the_next_goes_on(engine: VllmEngine, answering) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hangs(*_: int) -> Turn:
        asked.set()
        assert go_on.wait(200)
        return OVER

    answering(hangs)
    with ThreadPoolExecutor(1) as threads:
        doomed = threads.submit(engine.generate, ticket(6, new=300))
        assert asked.wait(200)
        engine.abort(ticket(6).group_id)
        with pytest.raises(Aborted):
            doomed.result(120)
    go_on.set()
    assert engine.generate(ticket(7, new=8)).group_id == ticket(7).group_id


def test_an_environment_that_fails_fails_the_group_and_the_next_is_as_ever(engine: VllmEngine, answering) -> None:
    def falls(response: int, _: int) -> Turn:
        raise EnvironmentFailed(f"environment: it fell over at response {response}")

    answering(falls)
    with pytest.raises(EnvironmentFailed, match="it fell over"):
        engine.generate(ticket(8, G=8, new=300))
    answering(answers)
    assert engine.generate(ticket(8, G=2, new=60)).group_id == ticket(8).group_id
