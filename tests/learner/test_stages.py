"""What a training step goes by in each stage: the keys of the table, the operator's turns above them, and the reference
of the KL term."""

import pytest
import torch
from leeway_rl.common.config import Config
from leeway_rl.learner.model import load_module
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.objective.loss import k3
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.step import cut, train_step
from leeway_rl.learner.train import settings_at
from tiny_policy import make_config, make_groups, make_model

UNTURNED = {"target": "stage", "learning_rate": "stage", "bound": 0, "overflow": "wait"}


def staged(model_path, *stages, **changes):
    return Config.model_validate(make_config(model_path, **changes).model_dump() | {"stages": stages})


def test_each_step_has_the_keys_of_its_stage_and_another_reference_may_come_with_one(model_path, tmp_path):
    other = make_model(tmp_path / "other", num_hidden_layers=1)
    config = staged(
        model_path,
        {
            "from_step": 1,
            "kl_beta": 0.5,
            "reference": other,
            "clip_high": 0.28,
            "learning_rate": 1e-4,
            "temperature": 0.5,
        },
        {
            "from_step": 2,
            "kl_beta": 0.0,
            "clip_low": 0.1,
            "learning_rate": 1e-30,
            "entropy_control": "constant",
            "entropy_alpha": 0.01,
            "entropy_target": 0.3,
        },
        train__learning_rate=1e-3,
    )
    policy, controller, found, kl = Policy(config), ControllerState(), [], []
    for step in range(3):
        view, groups, before = settings_at(config, step, UNTURNED), make_groups(seed=step), policy.named_weights()
        if step == 1:
            kl = [kl_to(other, policy, groups, view)]
        result = train_step(policy, groups, version=step, controller=controller, config=view)
        controller, metrics = result.controller, result.metrics
        names = "learning_rate", "objective/clip_low", "objective/clip_high", "objective/kl_beta", "entropy/target"
        moved = any(not torch.equal(before[name], now) for name, now in policy.named_weights().items())
        found.append((*(metrics[name] for name in names), metrics["entropy/alpha"], "kl/reference" in metrics, moved))
        kl += [metrics["kl/reference"]] if step == 1 else []
    assert found == [
        (1e-3, 0.2, 0.2, 0.0, 0.2, 0.0, False, True),
        (1e-4, 0.2, 0.28, 0.5, 0.2, 0.0, True, True),
        (1e-30, 0.1, 0.28, 0.0, 0.3, 0.01, False, False),
    ]
    assert kl[1] == pytest.approx(kl[0], rel=1e-5)
    assert kl[0] > 1e-3


def kl_to(path, policy, groups, view):
    """Mean k3 of the groups' tokens against the model in ``path``, both at the stage's τ."""
    policy.enter(view)
    reference, total, tokens = load_module(make_config(path)), 0.0, 0
    reference.temperature = view.flow.temperature
    with torch.no_grad():
        for batch in cut(groups, version=1, config=view):
            ours, theirs = policy(batch).logprobs_T, reference(batch).logprobs_T
            total, tokens = total + float(k3(ours.double(), theirs.double()).sum()), tokens + len(ours)
    return total / tokens


@pytest.mark.parametrize(
    ("zero_stage", "offload"), [(1, "none"), (2, "none"), (3, "none"), (1, "optimizer"), (3, "optimizer+parameters")]
)
def test_the_learning_rate_of_a_stage_is_the_optimizer_s_under_every_layout(model_path, zero_stage, offload):
    layout = {"train__zero_stage": zero_stage, "train__offload": offload}
    config = staged(model_path, {"from_step": 1, "learning_rate": 1e-30}, **layout)
    policy, moved = Policy(config), []
    for step in range(3):
        view, before = settings_at(config, step % 2, UNTURNED), policy.named_weights()
        train_step(policy, make_groups(seed=step), version=step, controller=ControllerState(), config=view)
        moved.append(any(not torch.equal(before[name], now) for name, now in policy.named_weights().items()))
    assert moved == [True, False, True]


def test_a_target_turned_by_hand_holds_over_every_stage_until_it_is_given_back(model_path):
    config = staged(model_path, {"from_step": 2, "entropy_target": 0.4}, entropy__target=0.2)
    targets = [settings_at(config, step, UNTURNED).entropy.target for step in (0, 1, 2, 3)]
    assert targets == [0.2, 0.2, 0.4, 0.4]
    by_hand = [settings_at(config, step, UNTURNED | {"target": 0.3}).entropy.target for step in (1, 2)]
    assert by_hand == [0.3, 0.3]
