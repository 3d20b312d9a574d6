"""From scored groups to the gradient of every weight, in float64, against ``reference.py``."""

import dataclasses

import numpy as np
import pytest
import reference
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leeway_rl.common.config import Objective
from leeway_rl.learner.model import load_module
from leeway_rl.learner.objective.advantage import group_advantages
from leeway_rl.learner.objective.loss import denominator
from leeway_rl.learner.step import cut, surrogate_sum
from tiny_policy import make_config, make_groups, make_model
from transformers import AutoModelForCausalLM

OBJECTIVES = st.fixed_dictionaries(
    {
        "loss": st.sampled_from(["magic", "grpo", "pg"]),
        "clip_low": st.sampled_from([0.2, 0.1]),
        "clip_high": st.sampled_from([0.2, 0.28]),
        "advantage_std": st.sampled_from(["unbiased", "biased"]),
        "advantage_eps": st.sampled_from([1e-6, 0.0, 0.1]),
        "advantage_mask": st.sampled_from(["none", "before", "after"]),
        "correction": st.sampled_from(["none", "old", "decoupled", "loglinear"]),
        "correction_bound": st.sampled_from(["truncate", "mask"]),
        "correction_cap": st.sampled_from([2.0, 1.2]),
        "kl_beta": st.sampled_from([0.0, 0.1]),
        "kl_groups": st.sampled_from(["signal", "all"]),
    }
).filter(lambda chosen: chosen["kl_beta"] or chosen["kl_groups"] == "signal")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Ours and the one as transformers has it, both in float64 throughout: later models' norms are in float32."""
    path = make_model(tmp_path_factory.mktemp("gpt2"), "gpt2")
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64, attn_implementation="eager")
    return load_module(make_config(path)).double(), plain


def _kept(values, lengths, batches):
    """``values`` of all tokens, cut as ``batches`` are."""
    by_response = torch.tensor(values, dtype=torch.float64).split(lengths.tolist())
    return [torch.cat([by_response[number] for number in batch.responses_T.unique().tolist()]) for batch in batches]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    objective=OBJECTIVES,
    alpha=st.sampled_from([0.0, 0.05]),
    temperature=st.sampled_from([1.0, 0.6]),
    lag=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 999),
)
def test_loss_and_gradient_of_every_weight_are_the_reference_s(models, objective, alpha, temperature, lag, seed):
    ours, plain = models
    config = make_config(
        "gpt2",
        flow__temperature=temperature,
        train__micro_batch_tokens=28,
        **{f"objective__{key}": value for key, value in objective.items()},
    )
    groups, dice = make_groups(3, version=4, seed=seed, size=3), np.random.default_rng(seed)
    groups[1] = dataclasses.replace(groups[1], rewards_S=np.ones(3))  # a group without a signal
    lengths = np.concatenate([group.responses.lengths_S for group in groups])
    tokens, responses = int(lengths.sum()), len(lengths)
    behaviour = np.concatenate([group.responses.logprobs_T for group in groups])
    old, anchored = (
        (behaviour + dice.normal(0, 0.3, tokens)).astype(np.float32).tolist(),
        (behaviour + dice.normal(0, 0.3, tokens)).astype(np.float32).tolist(),
    )

    expected = reference.loss(plain, groups, config, alpha=alpha, version=4, lag=lag, old=old, reference=anchored)
    plain.zero_grad()
    expected.backward()

    ours.temperature = temperature
    ours.zero_grad()
    batches = cut(groups, version=4, config=config)
    count, found = denominator(config.objective, tokens, responses, config.train.max_response_tokens), 0.0
    kept = (_kept(values, lengths, batches) for values in (old, anchored))
    for batch, old_T, reference_T in zip(batches, *kept, strict=True):
        batch = dataclasses.replace(
            batch,
            old_logprobs_T=old_T,
            reference_logprobs_T=reference_T,
            behaviour_logprobs_T=batch.behaviour_logprobs_T.double(),
            advantages_T=batch.advantages_T.double(),
        )
        part = surrogate_sum(ours, batch, config.objective, alpha, lag).loss_sum / count
        part.backward()
        found += part.item()

    assert found == pytest.approx(expected.item(), rel=1e-10, abs=1e-10)
    gradients = {name: parameter.grad for name, parameter in ours.named_weights().items()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-8, atol=1e-8, msg=name)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    responses=st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.booleans()), min_size=2, max_size=9),
    mask=st.sampled_from(["none", "before", "after"]),
    std=st.sampled_from(["unbiased", "biased"]),
    eps=st.sampled_from([0.0, 1e-6, 0.3]),
)
def test_advantages_are_the_reference_s(responses, mask, std, eps):
    rewards, finished = (list(column) for column in zip(*responses, strict=True))
    rewards = [reward * end for reward, end in zip(rewards, finished, strict=True)]  # truncated ones score 0
    objective = Objective(advantage_mask=mask, advantage_std=std, advantage_eps=eps)
    found_S = group_advantages(np.array(rewards), std, eps, finished_S=np.array(finished), mask=mask)
    expected_S = reference.advantages(rewards, finished, objective)
    np.testing.assert_allclose(found_S, expected_S, rtol=1e-10, atol=1e-10)
