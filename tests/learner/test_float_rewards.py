"""Rewards that are any numbers: from the wire to the gradient of every weight, in float64."""

import dataclasses

import numpy as np
import pytest
import reference
import torch
from leeway_rl.common.codec import decode, encode
from leeway_rl.common.config import Objective
from leeway_rl.common.types import Part, Scores, Verdict, VerdictKind
from leeway_rl.learner.model import load_module
from leeway_rl.learner.objective.advantage import group_advantages, has_signal, is_trained
from leeway_rl.learner.objective.loss import denominator
from leeway_rl.learner.step import cut, surrogate_sum
from tiny_policy import make_config, make_groups, make_model
from transformers import AutoModelForCausalLM

from tests.samples import a_ticket, some_responses


def on_the_wire(rewards):
    """The rewards of a group as they arrive at the learner."""
    verdicts = tuple(Verdict(kind=VerdictKind.SCORED, reason="", seconds=0.0, score=float(r)) for r in rewards)
    scores = Scores(group_id="7-1", verdicts=verdicts, graded=1, worker="w")
    return decode(Scores, encode(scores)).rewards_S


@pytest.mark.parametrize("loss", ["magic", "grpo", "pg"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_gradients_on_random_real_rewards_are_the_reference_s(tmp_path, loss, scale):
    path = make_model(tmp_path / "gpt2", "gpt2")
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64, attn_implementation="eager")
    ours, dice = load_module(make_config(path)).double(), np.random.default_rng(3)
    config = make_config(path, objective__loss=loss, train__micro_batch_tokens=28)
    groups = [
        dataclasses.replace(group, rewards_S=on_the_wire(dice.normal(0, scale, 3)))
        for group in make_groups(3, version=0, seed=5, size=3)
    ]
    reference.loss(plain, groups, config, alpha=0.0).backward()
    lengths = np.concatenate([group.responses.lengths_S for group in groups])
    count = denominator(config.objective, int(lengths.sum()), len(lengths), config.train.max_response_tokens)
    for batch in cut(groups, version=0, config=config):
        doubles = {name: getattr(batch, name).double() for name in ("behaviour_logprobs_T", "advantages_T")}
        surrogate = surrogate_sum(ours, dataclasses.replace(batch, **doubles), config.objective, 0.0)
        (surrogate.loss_sum / count).backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_weights().items()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-10, atol=1e-10, msg=name)


def test_rewards_cross_the_wire_as_the_doubles_that_they_are():
    rewards = [0.1 + 0.2, -1e-300, 3.0, 1e17 + 16]
    assert on_the_wire(rewards).tolist() == rewards


def test_sums_that_are_equal_on_paper_carry_no_signal():
    thirds = np.array([0.1 + 0.2, 0.3, 0.3 + 4e-17])
    assert thirds[0] != thirds[1]
    assert not has_signal(thirds)
    assert group_advantages(thirds).tolist() == [0.0, 0.0, 0.0]
    assert has_signal(np.array([0.3, 0.3 + 2e-6]))


def test_the_least_spread_is_the_configuration_s():
    rewards, ended = np.array([0.50, 0.52]), np.ones(2)
    assert is_trained(rewards, ended, Objective())
    assert not is_trained(rewards, ended, Objective(least_spread=0.05))


def test_a_verdict_without_a_score_is_as_long_on_the_wire_as_before_there_were_any():
    plain = Verdict(kind=VerdictKind.CORRECT, reason="equal", seconds=0.25, peak_bytes=7)
    parts = (Part(name="math", value=1.0), Part(name="format", value=0.5))
    scored = dataclasses.replace(plain, kind=VerdictKind.SCORED, score=1.1, parts=parts)
    scores = Scores(group_id="7-1", verdicts=(plain,), graded=1, worker="w")
    # [6, "Scores", ["7-1", [[0, "equal", 0.25, 7]], 1, "w"]] and four bytes of CRC-32
    assert len(encode(scores)) == 1 + 1 + 7 + 1 + 4 + 1 + (1 + 1 + 6 + 9 + 1) + 1 + 2 + 4
    both = dataclasses.replace(scores, verdicts=(plain, scored))
    assert decode(Scores, encode(both)) == both
    assert [verdict.reward for verdict in both.verdicts] == [1.0, 1.1]


def test_a_ticket_without_a_row_sends_none():
    ticket = a_ticket()
    with_row = dataclasses.replace(ticket, row='{"answer": "4"}')
    assert len(encode(with_row)) == len(encode(ticket)) + 1 + len(with_row.row)
    assert decode(type(ticket), encode(with_row)).row == with_row.row
    assert some_responses(ticket).group_id == ticket.group_id
