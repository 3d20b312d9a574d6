"""The torch engine in conversation, against a random model small enough to build in the test."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from leeway_rl.common.errors import EnvironmentFailed
from leeway_rl.common.types import Responses
from leeway_rl.rollout.engine import Aborted
from leeway_rl.rollout.environments import Turn
from leeway_rl.rollout.torch_engine import TorchEngine
from leeway_rl.rollout.turns import segments, turn_seed

from tests.rollout.test_torch_engine import END, OTHER_END, half, logprobs_of, model, model_path, split, ticket

__all__ = ["half", "model", "model_path"]

OVER = Turn(observation=None, finished=True)
ANSWER = Turn(observation=(9, 8, 7))


class Answering:
    """An environment host whose answers are a function of the response and its turn's number; each comes from a thread
    of its own, as those of processes do."""

    def __init__(self, answer):
        self.answer, self.threads, self.seen, self.closed = answer, ThreadPoolExecutor(8), [], 0

    def open(self, ticket):
        self.turns = [0] * ticket.group_size
        self.rewards_S = np.zeros(ticket.group_size)
        return self

    def step(self, response: int, tokens) -> Future[Turn]:
        self.seen.append((response, list(tokens)))
        self.turns[response] += 1
        self.rewards_S[response] += 0.25
        return self.threads.submit(self.answer, response, self.turns[response])

    def close(self):
        self.closed += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def talking(model_path, model, answer, **options):
    """An engine at version 3 whose environments give these answers, and the host of them."""
    host = Answering(answer)
    engine = TorchEngine(model_path, worker="test", environments=host, **options)
    engine.load(3, model.state_dict())
    return engine, host


def observed_of(responses: Responses, response: int) -> list[list[int]]:
    return [[start, end] for j, start, end in responses.observed.tolist() if j == response]


def same(a: Responses, b: Responses) -> bool:
    fields = ("tokens_T", "logprobs_T", "lengths_S", "finished_S", "spans", "observed", "environment_S")
    return all(getattr(a, f).tobytes() == getattr(b, f).tobytes() for f in fields)


def test_what_the_policy_sampled_is_what_a_full_forward_over_the_conversation_gives(model_path, model):
    engine, host = talking(model_path, model, lambda _, turn: ANSWER if turn < 3 else OVER)
    responses = engine.generate(ticket(max_new_tokens=40))
    assert max(len(observed_of(responses, j)) for j in range(8)) == 2
    logprobs = np.split(responses.logprobs_T, np.cumsum(responses.lengths_S)[:-1])
    for j, (tokens, given) in enumerate(zip(split(responses), logprobs, strict=True)):
        written = np.zeros(len(tokens), dtype=bool)
        for start, end in observed_of(responses, j):
            assert tokens[start:end].tolist() == [9, 8, 7]
            assert tokens[start - 1] in (END, OTHER_END)
            written[start:end] = True
        assert (np.isnan(given) == written).all()
        expected = logprobs_of(model, tokens, model.state_dict())
        np.testing.assert_allclose(given[~written], expected[~written], rtol=0, atol=1e-5)
        assert not written[[0, -1]].any()
        turns = [turn for response, turn in host.seen if response == j]
        bounds = [0, *np.ravel(observed_of(responses, j)).tolist(), len(tokens)]
        assert turns == [tokens[a:b].tolist() for a, b in zip(bounds[::2], bounds[1::2], strict=True)][: len(turns)]
        assert responses.environment_S[j] == 0.25 * len(turns)
    assert host.closed == 1


def test_spans_and_observed_rows_cover_every_token_once_and_in_order(model_path, model):
    engine, _ = talking(model_path, model, lambda response, turn: ANSWER if turn <= response else OVER)
    responses = engine.generate(ticket(max_new_tokens=40))
    assert responses.observed.dtype == responses.spans.dtype == np.uint32
    for j, length in enumerate(responses.lengths_S.tolist()):
        spans = [[start, end] for row, _, start, end in responses.spans.tolist() if row == j]
        rows = sorted(spans + observed_of(responses, j))
        assert [start for start, _ in rows] == [0, *(end for _, end in rows[:-1])]
        assert rows[-1][1] == length
    assert (responses.turns_S[:4] <= [1, 2, 3, 4]).all()


def test_a_response_is_the_same_whatever_its_neighbours_are_answered(model_path, model):
    few, _ = talking(model_path, model, lambda response, turn: ANSWER if response == 2 and turn < 3 else OVER)
    many, _ = talking(model_path, model, lambda _, turn: ANSWER if turn < 3 else OVER)
    a, b = few.generate(ticket(max_new_tokens=40)), many.generate(ticket(max_new_tokens=40))
    assert split(a)[2].tolist() == split(b)[2].tolist()
    assert observed_of(a, 2) == observed_of(b, 2) != []
    assert len(a.tokens_T) < len(b.tokens_T)


def test_the_same_ticket_gives_the_same_bits_with_an_environment(model_path, model):
    (one, _), (other, _) = (talking(model_path, model, lambda _, turn: ANSWER if turn < 3 else OVER) for _ in range(2))
    first = one.generate(ticket())
    one.generate(ticket(seed=8))
    assert same(first, one.generate(ticket()))
    assert same(first, other.generate(ticket()))


def test_an_environment_that_only_listens_changes_no_token(model_path, model):
    engine, _ = talking(model_path, model, lambda *_: OVER)
    alone = TorchEngine(model_path, worker="alone")
    alone.load(3, model.state_dict())
    a, b = alone.generate(ticket()), engine.generate(ticket())
    assert len(a.environment_S) == 0
    assert len(b.environment_S) == 8
    assert all(getattr(a, f).tobytes() == getattr(b, f).tobytes() for f in ("tokens_T", "logprobs_T", "spans"))
    assert a.finished_S.tolist() == b.finished_S.tolist()


def test_an_observation_behind_which_nothing_can_be_sampled_is_left_out(model_path, model):
    engine, host = talking(model_path, model, lambda *_: ANSWER)
    responses = engine.generate(ticket(group_size=32, max_new_tokens=9))
    assert not responses.finished_S.any()
    assert responses.lengths_S.max() == 9
    ends = {(j, end) for j, _, end in responses.observed.tolist()}
    assert not ends & set(enumerate(responses.lengths_S.tolist()))
    cut = [j for j, tokens in enumerate(split(responses)) if tokens[-1] in (END, OTHER_END)]
    assert cut, "none whose turn ended by an end token within three tokens of the limit"
    assert all(responses.lengths_S[j] >= 9 - 3 for j in cut)
    stepped = np.bincount([response for response, _ in host.seen], minlength=32)
    for j, tokens in enumerate(split(responses)):  # a turn without an end token is not stepped
        assert stepped[j] == len(observed_of(responses, j)) + (tokens[-1] in (END, OTHER_END))


def test_a_conversation_that_the_limit_of_turns_ends_is_not_finished(model_path, model):
    engine, _ = talking(model_path, model, lambda response, _: Turn(observation=None, finished=response % 2 == 0))
    responses = engine.generate(ticket(max_new_tokens=60))
    ended = np.array([tokens[-1] in (END, OTHER_END) for tokens in split(responses)])
    assert responses.finished_S.tolist() == (ended & (np.arange(8) % 2 == 0)).tolist()
    assert ended[1::2].any()


def test_weights_that_come_while_an_environment_steps_are_taken_at_once(model_path, model, half, wait_until):
    asked, go_on = threading.Event(), threading.Event()

    def slow(_, turn):
        asked.set()
        assert go_on.wait(200)
        return ANSWER if turn < 3 else OVER

    engine, host = talking(model_path, model, slow)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(engine.generate, ticket(max_new_tokens=40))
        assert asked.wait(200)
        engine.load(4, half)  # returns, though no token is sampled
        assert engine.version == 4
        go_on.set()
        responses = waiting.result(60)
    first = min(len(tokens) for _, tokens in host.seen[:1])
    assert {tuple(row[1:]) for row in responses.spans.tolist() if row[3] <= first} == {(3, 0, first)}
    assert all(version == (4 if start >= first else 3) for _, version, start, _ in responses.spans.tolist())
    logprobs = np.split(responses.logprobs_T, np.cumsum(responses.lengths_S)[:-1])
    for j, version, start, end in responses.spans.tolist():
        expected = logprobs_of(model, split(responses)[j], half if version == 4 else model.state_dict())
        np.testing.assert_allclose(logprobs[j][start:end], expected[start:end], atol=1e-5)


def test_a_group_is_stopped_while_its_environment_steps(model_path, model):
    asked, go_on = threading.Event(), threading.Event()

    def hangs(*_):
        asked.set()
        assert go_on.wait(200)
        return OVER

    engine, host = talking(model_path, model, hangs)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(engine.generate, ticket(max_new_tokens=40))
        assert asked.wait(200)
        engine.abort("some-other")
        engine.abort(ticket().group_id)
        with pytest.raises(Aborted):
            waiting.result(60)
    assert host.closed == 1
    go_on.set()
    assert engine.generate(ticket(max_new_tokens=40)).group_id == ticket().group_id


def test_an_environment_that_fails_fails_the_group_and_the_next_is_as_ever(model_path, model):
    broken = threading.Event()

    def answer(response, turn):
        if broken.is_set() and response == 5:
            raise EnvironmentFailed("environment: it fell over")
        return ANSWER if turn < 2 else OVER

    engine, host = talking(model_path, model, answer)
    before = engine.generate(ticket(max_new_tokens=60))
    broken.set()
    with pytest.raises(EnvironmentFailed, match="it fell over"):
        engine.generate(ticket(max_new_tokens=60))
    broken.clear()
    assert same(engine.generate(ticket(max_new_tokens=60)), before)
    assert host.closed == 3


def test_what_was_sampled_is_the_rest_of_what_was_observed():
    assert segments([5, 9], [(1, 2, 4), (1, 5, 8)]) == [(0, 0, 5), (1, 0, 2), (1, 4, 5), (1, 8, 9)]


def test_every_turn_of_every_response_has_a_seed_of_its_own_and_the_first_the_tickets():
    seeds = [turn_seed(ticket(seed=7), response, turn) for response in range(16) for turn in range(8)]
    assert len(set(seeds)) == len(seeds)
    assert seeds[::8] == list(range(7, 23))
    assert all(0 <= seed < 1 << 62 for seed in seeds)


def test_nothing_is_random_but_by_the_ticket(model_path, model):
    engine, _ = talking(model_path, model, lambda _, turn: ANSWER if turn < 3 else OVER)
    first = engine.generate(ticket())
    torch.manual_seed(99)
    assert same(first, engine.generate(ticket()))
