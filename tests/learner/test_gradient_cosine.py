"""The cosine between successive gradients, by hand and against the gradients themselves."""

from itertools import pairwise

import pytest
import torch
from leeway_rl.learner import gradient_cosine
from leeway_rl.learner.gradient_cosine import GradientCosine
from leeway_rl.learner.model import load_module
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.step import cut, surrogate_sum, train_step
from tiny_policy import make_config, make_groups


def test_it_is_the_cosine_of_all_parameters_together(monkeypatch):
    monkeypatch.setattr(gradient_cosine, "CHUNK", 2)
    one, other = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(1, 2))
    optimizer = torch.optim.AdamW([one, other, torch.nn.Parameter(torch.zeros(1))])  # the third has no gradient
    watch, found = GradientCosine(optimizer), []
    for first, second in (
        ([3.0, 0.0, 0.0], [0.0, 4.0]),
        ([0.0, 5.0, 0.0], [0.0, 12.0]),
        ([0.0, -5.0, 0.0], [0.0, -12.0]),
    ):
        one.grad, other.grad = torch.tensor(first), torch.tensor([second])
        optimizer.step()
        found.append(watch.cosine(lambda sums: 2 * sums))  # two ranks with the same gradients
    assert found == [None, pytest.approx(48 / (5 * 13)), pytest.approx(-1.0)]


def _gradient(config, groups):
    """Of a fresh model, as one vector."""
    module = load_module(config)
    for batch in cut(groups, version=0, config=config):
        surrogate_sum(module, batch, config.objective, 0.0).loss_sum.backward()
    return torch.cat([parameter.grad.flatten().double() for parameter in module.parameters()])


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("stage", "offload", "half"),
    [
        *((stage, "none", False) for stage in range(4)),
        *((stage, "none", True) for stage in (1, 2, 3)),
        (1, "optimizer", False),
        (3, "optimizer+parameters", False),
    ],
)
def test_in_every_layout_it_is_that_of_the_gradients_themselves(model_path, stage, offload, half):
    config = make_config(
        model_path,
        metrics__gradient_cosine=True,
        train__zero_stage=stage,
        train__offload=offload,
        train__learning_rate=1e-30,
        train__weight_decay=0.0,
        train__minibatch_groups=2,
        train__grad_clip=0.1,
        entropy__control="none",
        **({"model__dtype": "bfloat16", "train__bfloat16": "weights"} if half else {}),
    )
    policy, found, groups = Policy(config), [], [make_groups(seed=seed) for seed in range(2)]
    for batch in groups:
        found.append(train_step(policy, batch, version=0, controller=ControllerState(), config=config).metrics)
    config, within = make_config(model_path, entropy__control="none"), 0.02 if half else 2e-5
    parts = [_gradient(config, batch[at : at + 2]) for batch in groups for at in (0, 2)]
    cosines = [float(torch.nn.functional.cosine_similarity(*pair, dim=0)) for pair in pairwise(parts)]
    assert found[0]["grad_cosine"] == pytest.approx(cosines[0], abs=within)
    assert found[1]["grad_cosine"] == pytest.approx((cosines[1] + cosines[2]) / 2, abs=within)


def test_a_run_that_does_not_ask_for_it_has_no_copy_and_one_that_does_has_the_same_weights(model_path):
    weights = []
    for asked in (False, True):
        policy = Policy(config := make_config(model_path, metrics__gradient_cosine=asked))
        assert (policy.gradients is not None) == asked
        for step in range(2):
            metrics = train_step(
                policy, make_groups(seed=step), version=0, controller=ControllerState(), config=config
            ).metrics
        assert ("grad_cosine" in metrics) == asked
        weights.append(policy.named_weights())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
