"""The learning rate by step, by effective sample size and by hand, and that the optimizer goes by it."""

import math

import pytest
import torch
from leeway_rl.common.errors import ConfigError
from leeway_rl.learner import checkpoint
from leeway_rl.learner.clipping import clip_gradients
from leeway_rl.learner.engine_settings import adamw, set_rate
from leeway_rl.learner.model import load_module
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.objective.learning_rate import ess_factor, ess_share, ess_sums, learning_rate
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.step import cut, size_of, surrogate_sum, train_step
from tiny_policy import make_config, make_groups

SETTINGS = {"train__steps": 9, "train__learning_rate": 4.0, "train__warmup_steps": 4}
BY_HAND = {  # steps 0..3 warm up; 4..8 are 0, 1/4, 1/2, 3/4 and all of the way from 4 to 4·0.5
    "constant": [1, 2, 3, 4, 4, 4, 4, 4, 4],
    "linear": [1, 2, 3, 4, 4, 3.5, 3, 2.5, 2],
    "cosine": [1, 2, 3, 4, 4, 3 + math.sqrt(0.5), 3, 3 - math.sqrt(0.5), 2],
}


@pytest.mark.parametrize("schedule", BY_HAND)
def test_the_learning_rate_of_each_step_is_that_of_a_table_worked_by_hand(schedule):
    share = {} if schedule == "constant" else {"train__final_share": 0.5}
    config = make_config("none", train__schedule=schedule, **SETTINGS, **share)
    assert [learning_rate(config, step) for step in range(9)] == pytest.approx(BY_HAND[schedule], rel=1e-15)


def test_without_a_schedule_it_is_the_configured_number_to_the_last_bit():
    config = make_config("none", train__learning_rate=1e-6 / 3)
    assert {learning_rate(config, step) for step in range(3)} == {1e-6 / 3}


def test_a_run_of_one_step_has_all_of_it():
    assert learning_rate(make_config("none", train__steps=1, train__schedule="cosine"), 0) == 1e-3


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"train__warmup_steps": 3}, r"train.warmup_steps = 3 with train.steps = 3: .* at most 2 is right"),
        ({"train__final_share": 0.5}, "train.final_share = 0.5 with train.schedule = 'constant'"),
    ],
)
def test_a_schedule_that_does_not_fit_the_run_is_refused(changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        make_config("none", **changes)


def _trained(config, steps):
    policy, controller, measured = Policy(config), ControllerState(), []
    for step in steps:
        groups = make_groups(version=step, seed=step)
        result = train_step(policy, groups, version=step, controller=controller, config=config)
        measured.append(result.metrics)
    return policy, measured


def test_each_step_trains_at_its_own_learning_rate_bit_for_bit_as_a_plain_torch_loop_does(model_path):
    config = make_config(
        model_path, train__warmup_steps=2, train__schedule="linear", train__steps=4, entropy__control="none"
    )
    policy, measured = _trained(config, range(4))
    assert [each["learning_rate"] for each in measured] == pytest.approx([5e-4, 1e-3, 1e-3, 1e-4])
    module = load_module(config)
    optimizer = adamw(module, config)
    for step, rate in enumerate([5e-4, 1e-3, 1e-3, 1e-3 * (1 - 0.9)]):
        batches = cut(make_groups(version=step, seed=step), version=step, config=config)
        for batch in batches:
            (surrogate_sum(module, batch, config.objective, 0.0).loss_sum * (1 / size_of(batches)[0])).backward()
        clip_gradients(module, config.train.grad_clip)
        set_rate(optimizer, rate)
        optimizer.step()
        optimizer.zero_grad()
    weights = policy.named_weights()
    assert all(torch.equal(weights[name], plain) for name, plain in module.named_weights().items())


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("stage", "offload", "bfloat16"),
    [
        *((stage, "none", "autocast") for stage in range(4)),
        *((stage, "optimizer", "autocast") for stage in (1, 2, 3)),
        (3, "optimizer+parameters", "autocast"),
        *((stage, "none", "weights") for stage in (1, 2, 3)),
    ],
)
def test_deepspeed_updates_at_the_learning_rate_that_is_set_in_every_layout(model_path, stage, offload, bfloat16):
    half = {"model__dtype": "bfloat16", "train__bfloat16": "weights"} if bfloat16 == "weights" else {}
    config = make_config(model_path, train__zero_stage=stage, train__offload=offload, train__weight_decay=0.0, **half)
    policy, moved = Policy(config), []
    before = _master_of(policy)
    for rate in (1e-2, 1e-5):
        policy.learn_at(rate)
        batch = cut(make_groups(), version=0, config=config)[0]
        output = surrogate_sum(policy, batch, config.objective, 0.0)
        policy.backward(output.loss_sum, denominator=10, last=True)
        policy.step()
        now = _master_of(policy)
        moved.append(float((now - before).abs().max()) / rate)
        before = now
    # Adam moves the weights with a gradient by about the learning rate, whatever the gradient is.
    assert moved == pytest.approx([1.0, 1.0], abs=0.3)


def _master_of(policy):
    """The float32 weights that AdamW updates."""
    masters = list(policy.adamw.state) or [each for group in policy.adamw.param_groups for each in group["params"]]
    if policy.stage == 3:
        masters = policy.engine.optimizer.fp32_partitioned_groups_flat
    return torch.cat([master.detach().float().flatten().cpu().clone() for master in masters])


# --- by effective sample size ----------------------------------------------------------------------------------------


def test_the_effective_sample_size_by_hand():
    weights = torch.tensor([3.0, 1.0, 1.0, 1.0], dtype=torch.float64)  # (6)²/(4·12)
    assert ess_share(*ess_sums(weights.log(), 0.0)) == pytest.approx(0.75)
    assert ess_share(*ess_sums(weights.log() + 900, 900 + math.log(3))) == pytest.approx(0.75)  # e^900 overflows
    assert ess_share(*ess_sums(torch.zeros(5, dtype=torch.float64), 0.0)) == 1.0
    assert [ess_factor(0.25, rule) for rule in ("none", "sqrt", "linear")] == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(("rule", "power"), [("sqrt", 0.5), ("linear", 1.0)])
@pytest.mark.parametrize("minibatch", [4, 2])
def test_each_update_is_scaled_by_the_weights_of_its_own_responses(model_path, rule, power, minibatch, monkeypatch):
    config = make_config(
        model_path, train__learning_rate_by_ess=rule, train__minibatch_groups=minibatch, entropy__control="none"
    )
    rates = []
    monkeypatch.setattr(Policy, "learn_at", lambda policy, rate: (rates.append(rate), set_rate(policy.adamw, rate)))
    _, (metrics,) = _trained(config, range(1))
    module, expected, groups = load_module(config), [], make_groups()
    for at in range(0, 4, minibatch):
        logs_S = []
        for batch in cut(groups[at : at + minibatch], version=0, config=config):
            with torch.no_grad():
                difference_T = module(batch).logprobs_T.double() - batch.behaviour_logprobs_T.double()
            logs_S += [difference_T[batch.responses_T == each].sum() for each in batch.responses_T.unique()]
        weights_S = torch.stack(logs_S).softmax(0)
        expected.append(float(1 / (len(weights_S) * weights_S.square().sum())))
    assert len(set(expected)) == 4 // minibatch
    assert max(expected) < 0.9
    assert rates == pytest.approx([1e-3 * ess**power for ess in expected], rel=1e-4)
    assert metrics["learning_rate"] == 1e-3
    assert metrics["learning_rate/applied"] == pytest.approx(sum(rates) / len(rates))
    assert metrics["logprob/response_ess"] == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_how_the_batch_is_cut_does_not_change_the_scaling(model_path):
    found = []
    for budget in (64, 4096):
        config = make_config(model_path, train__learning_rate_by_ess="sqrt", train__micro_batch_tokens=budget)
        _, (metrics,) = _trained(config, range(1))
        found.append(metrics["learning_rate/applied"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("stage", [0, 1])
def test_a_run_that_goes_on_in_the_middle_of_its_warm_up_ends_with_the_same_weights(model_path, tmp_path, stage):
    config = make_config(model_path, train__warmup_steps=3, train__steps=5, train__zero_stage=stage)
    straight, controller, rates = Policy(config), ControllerState(), []

    def go_on(policy, controller, steps):
        for step in steps:
            groups = make_groups(version=step, seed=step)
            result = train_step(policy, groups, version=step, controller=controller, config=config)
            controller = result.controller
            rates.append(result.metrics["learning_rate"])
        return controller

    controller = go_on(straight, controller, range(2))
    checkpoint.save(straight, tmp_path, 2, {}, keep=1)
    go_on(straight, controller, range(2, 4))
    resumed = Policy(config)
    checkpoint.load(resumed, checkpoint.newest(tmp_path))
    go_on(resumed, controller, range(2, 4))
    assert rates == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3, 1e-3, 1e-3])
    expected, weights = straight.named_weights(), resumed.named_weights()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
