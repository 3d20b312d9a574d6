"""Ratios of whole responses, and the entropy by the sign of the advantage."""

import math

import pytest
import torch
from leeway_rl.learner.model import load_module
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.sequence_ratios import SequenceRatios
from leeway_rl.learner.step import cut, train_step
from tiny_policy import make_config, make_groups


def test_mean_spread_and_extremes_are_those_worked_out_by_hand():
    ratios = SequenceRatios(2)
    by_response = {7: (0.1, 0.3), 2: (-0.2,), 9: (0.0, 0.0, 0.6)}  # geometric means e^0.2, e^-0.2, e^0.2
    tokens = [(number, value) for number, values in by_response.items() for value in values]
    ratios.add(0, torch.tensor([value for _, value in tokens]), torch.tensor([number for number, _ in tokens]))
    ratios.add(0, torch.zeros(0), torch.zeros(0, dtype=torch.int64))  # a rank without tokens
    found = SequenceRatios.metrics(ratios.sums, ratios.extremes)
    high, low = math.exp(0.2), math.exp(-0.2)
    mean = (2 * high + low) / 3
    assert found == {
        "logprob/sequence_ratio_mean": pytest.approx(mean, rel=1e-6),
        "logprob/sequence_ratio_std": pytest.approx(
            math.sqrt((2 * (high - mean) ** 2 + (low - mean) ** 2) / 3), rel=1e-6
        ),
        "logprob/sequence_ratio_max": pytest.approx(high, rel=1e-6),
        "logprob/sequence_ratio_min": pytest.approx(low, rel=1e-6),
    }


def test_a_ratio_that_floating_point_cannot_hold_is_bounded():
    ratios = SequenceRatios(1)
    ratios.add(0, torch.tensor([3000.0, 1000.0]), torch.tensor([0, 0]))
    assert ratios.extremes[0, 0] == pytest.approx(math.exp(20.0))


def test_a_spread_of_a_millionth_keeps_its_digits():
    ratios, log_ratios_T = SequenceRatios(1), torch.tensor([1e-6, -1e-6], dtype=torch.float64)
    ratios.add(0, log_ratios_T, torch.tensor([0, 1]))
    found = SequenceRatios.metrics(ratios.sums, ratios.extremes)
    assert found["logprob/sequence_ratio_std"] == pytest.approx(1e-6, rel=1e-6)


def _by_hand(config, groups, version):
    """log π_old/μ, entropy and advantage of every token, and which response it is of."""
    module = load_module(config)
    batches = cut(groups, version=version, config=config)
    outputs = [module(batch) for batch in batches]
    return (
        torch.cat([it.logprobs_T - batch.behaviour_logprobs_T for it, batch in zip(outputs, batches, strict=True)]),
        torch.cat([it.entropy_T for it in outputs]),
        torch.cat([batch.advantages_T for batch in batches]),
        torch.cat([batch.responses_T for batch in batches]),
    )


@torch.no_grad()
def test_a_step_reports_the_ratios_of_its_responses_and_the_entropy_of_either_sign(model_path):
    config, groups = make_config(model_path, entropy__control="none"), make_groups(version=4, seed=4)
    log_ratios_T, entropy_T, advantages_T, responses_T = _by_hand(config, groups, 4)
    ratios = [float(log_ratios_T[responses_T == number].mean().exp()) for number in range(16)]
    with torch.enable_grad():
        found = train_step(Policy(config), groups, version=4, controller=ControllerState(), config=config).metrics
    assert found["logprob/sequence_ratio_mean"] == pytest.approx(sum(ratios) / 16, rel=1e-5)
    assert found["logprob/sequence_ratio_max"] == pytest.approx(max(ratios), rel=1e-5)
    assert found["logprob/sequence_ratio_min"] == pytest.approx(min(ratios), rel=1e-5)
    assert found["logprob/sequence_ratio_std"] == pytest.approx(
        float(torch.tensor(ratios).std(unbiased=False)), rel=1e-4
    )
    assert found["entropy/policy/up"] == pytest.approx(float(entropy_T[advantages_T > 0].mean()), rel=1e-5)
    assert found["entropy/policy/down"] == pytest.approx(float(entropy_T[advantages_T < 0].mean()), rel=1e-5)
    assert not [name for name in found if "sequence_ratio" in name and "/lag_" in name]


def test_later_updates_report_how_far_their_responses_have_moved(model_path):
    config = make_config(model_path, train__minibatch_groups=2, entropy__control="none")
    found = train_step(Policy(config), make_groups(), version=0, controller=ControllerState(), config=config).metrics
    moved = [name for name in found if name.startswith("policy/sequence_ratio")]
    assert moved == [f"policy/sequence_ratio_{what}/lag_1" for what in ("mean", "std", "max", "min")]
    assert 0 < found["policy/sequence_ratio_std/lag_1"] < 1
    assert found["policy/sequence_ratio_min/lag_1"] < found["policy/sequence_ratio_max/lag_1"]
