"""Responses of several turns in the learner: what the environment wrote is context, and nothing else."""

import dataclasses

import numpy as np
import pytest
import reference
import torch
from leeway_rl.common.codec import encode
from leeway_rl.common.scored import responses_of
from leeway_rl.learner.flow.staleness import check_spans, head_staleness, tokens_past
from leeway_rl.learner.hardware import rows_of
from leeway_rl.learner.model import load_module
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.objective.loss import denominator
from leeway_rl.learner.packing import micro_batches, staleness_of
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.step import cut, shared_out, size_of, surrogate_sum, train_step
from tiny_policy import make_config, make_groups, make_model, with_turns
from transformers import AutoModelForCausalLM

VERSION, BOUND, ALPHA = 4, 1, 0.01


@pytest.fixture(scope="module")
def conversations():
    groups = with_turns(make_groups(6, version=VERSION, seed=5, size=4), seed=2)
    assert sum(len(group.responses.observed) for group in groups) > 10
    assert any((group.responses.turns_S == 3).any() for group in groups)
    return groups


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("gpt2"), "gpt2")


def test_made_up_conversations_are_sound(conversations):
    for group in conversations:
        found, lengths_S = group.responses, group.responses.lengths_S.astype(np.int64)
        assert responses_of(group.ticket, encode(found)).observed.tolist() == found.observed.tolist()
        bounds = {"min_version": 0, "newest_version": VERSION}
        assert check_spans(found.spans, lengths_S, observed=found.observed, **bounds) is None
        assert np.isnan(found.logprobs_T).tolist() == (~found.sampled_T).tolist()


def by_hand(model, groups, config):
    """The step's loss, each response as one sequence under whole logits: a mask says which of its tokens are targets,
    and what is not a target adds 0."""
    objective, masked = config.objective, config.flow.overflow == "mask"
    total, tokens, responses = torch.zeros((), dtype=torch.float64), 0, 0
    for group in groups:
        found, prompt = group.responses, group.ticket.prompt_tokens_P.astype(np.int64).tolist()
        advantages = reference.advantages(group.rewards_S, found.finished_S, objective)
        starts = np.cumsum(found.lengths_S.astype(int)) - found.lengths_S
        for number, (start, length) in enumerate(zip(starts.tolist(), found.lengths_S.tolist(), strict=True)):
            taken = found.tokens_T[start : start + length].astype(np.int64)
            mask = np.zeros(length)
            for owner, version, first, last in found.spans.tolist():
                if owner == number and not (masked and VERSION - version > config.flow.max_staleness):
                    mask[first:last] = 1.0
            tokens, responses = tokens + int(mask.sum()), responses + bool(mask.any())
            ids = torch.tensor([prompt + taken.tolist()])
            log_softmax_TV = torch.log_softmax(model(input_ids=ids).logits[0], -1)[len(prompt) - 1 : -1]
            logprobs_T = log_softmax_TV.gather(-1, torch.from_numpy(taken)[:, None])[:, 0]
            entropy_T = -(log_softmax_TV.exp() * log_softmax_TV).sum(-1)
            behaviour_T = torch.from_numpy(np.where(mask > 0, found.logprobs_T[start : start + length], -4.0))
            ratio_T, a = (logprobs_T - behaviour_T).exp(), float(np.float32(advantages[number]))
            gain_T = torch.minimum(ratio_T * a, ratio_T.clamp(0.8, 1.2) * a)
            loss_T = -(gain_T + (ALPHA if any(advantages) else 0.0) * entropy_T) * torch.from_numpy(mask)
            total = total + loss_T.sum() / (max(1.0, mask.sum()) if objective.loss == "grpo" else 1.0)
    return total / (responses if objective.loss == "grpo" else tokens)


@pytest.mark.parametrize("loss", ["magic", "grpo"])
@pytest.mark.parametrize("overflow", ["wait", "mask"])
@pytest.mark.parametrize("budget", [4096, 28])
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_gradient_is_that_of_whole_sequences_with_masked_targets(
    gpt2, conversations, loss, overflow, budget, ranks
):
    changes = {"objective__loss": loss, "flow__overflow": overflow, "flow__max_staleness": BOUND}
    config = make_config(gpt2, train__micro_batch_tokens=budget, **changes)
    plain = AutoModelForCausalLM.from_pretrained(gpt2, dtype=torch.float64, attn_implementation="eager")
    expected = by_hand(plain, conversations, config)
    expected.backward()

    ours, found = load_module(config).double(), 0.0
    shares = shared_out(conversations, config, ranks)
    cuts = [cut(share, version=VERSION, config=config) for share in shares]
    sizes = np.array([size_of(batches) for batches in cuts])
    count = denominator(config.objective, *sizes.sum(0).tolist(), config.train.max_response_tokens)
    assert all(len(batches) > 1 for batches in cuts) == (budget == 28)
    for batch in (batch for batches in cuts for batch in batches):
        doubles = {name: getattr(batch, name).double() for name in ("behaviour_logprobs_T", "advantages_T")}
        part = surrogate_sum(ours, dataclasses.replace(batch, **doubles), config.objective, ALPHA).loss_sum / count
        part.backward()
        found += part.item()
    assert found == pytest.approx(expected.item(), rel=1e-10)
    gradients = {name: parameter.grad for name, parameter in ours.named_weights().items()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-10, atol=1e-10, msg=name)


def test_observed_tokens_are_inputs_and_no_targets(conversations):
    advantages = [np.ones(4)] * len(conversations)
    batches = micro_batches(conversations, advantages, version=VERSION, token_budget=40)
    targets = sum(len(batch.taken_T) for batch in batches)
    assert targets == sum(int(group.responses.sampled_S.sum()) for group in conversations)
    inputs = sum(sum(sum(each[1:]) for each in batch.layout) for batch in batches)
    assert inputs == sum(int((group.responses.lengths_S - 1).sum()) for group in conversations)
    for batch in batches:
        assert torch.isfinite(batch.behaviour_logprobs_T).all()
        assert (batch.staleness_T >= 0).all()
    found_T, order_T = (torch.cat([getattr(each, name) for each in batches]) for name in ("lengths_T", "responses_T"))
    of_response = dict(zip(order_T.tolist(), found_T.tolist(), strict=True))
    assert [of_response[n] for n in sorted(of_response)] == [
        count for group in conversations for count in group.responses.sampled_S.tolist()
    ]


def test_an_observed_token_has_no_staleness_and_cannot_be_past_the_bound():
    (group,) = with_turns(make_groups(1, version=9, seed=1), seed=1)
    responses = group.responses
    staleness_T = staleness_of(responses, 9)
    assert (staleness_T == -1).tolist() == (~responses.sampled_T).tolist()
    assert head_staleness(responses.spans, 9) == staleness_T.max()
    assert tokens_past(responses.spans, 9, max_staleness=-1) == responses.sampled_S.sum() < responses.lengths_S.sum()


def test_a_gap_that_nobody_observed_is_a_defect(conversations):
    responses = conversations[0].responses
    with pytest.raises(AssertionError, match="spans leave a gap"):
        staleness_of(dataclasses.replace(responses, observed=responses.observed[1:]), VERSION)


def test_a_step_s_metrics_count_sampled_tokens_and_its_operations_all_of_them(tmp_path, conversations):
    config = make_config(make_model(tmp_path / "model"))
    metrics = train_step(
        Policy(config), conversations, version=VERSION, controller=ControllerState(), config=config
    ).metrics
    sampled = np.concatenate([group.responses.sampled_S for group in conversations])
    assert metrics["batch/tokens"] == sampled.sum()
    assert metrics["response/length_mean"] == sampled.mean()
    assert metrics["response/length_max"] == sampled.max()
    by_staleness = [count for name, count in metrics.items() if name.startswith("tokens/staleness_")]
    assert sum(by_staleness) == sampled.sum()
    heads = [head_staleness(group.responses.spans, VERSION) for group in conversations]
    assert (metrics["staleness/head_max"], metrics["staleness/head_mean"]) == (max(heads), np.mean(heads))
    assert all(np.isfinite(value) for value in metrics.values())
    computed = [length for row in rows_of(conversations, VERSION, None) for length in row[1:]]
    assert computed == [length - 1 for group in conversations for length in group.responses.lengths_S.tolist()]
