import math

import numpy as np
import pytest
import torch
from leeway_rl.common.config import Entropy, Objective
from leeway_rl.learner.objective.advantage import group_advantages, has_signal, is_trained
from leeway_rl.learner.objective.entropy import (
    ControllerState,
    alpha,
    needs_entropy,
    next_state,
    shortfall,
    state_after,
    step_alpha,
)
from leeway_rl.learner.objective.loss import Tokens, bounded_tokens, token_loss


def test_advantages_of_one_success_in_four_are_those_worked_by_hand():
    # mean 1/4; unbiased variance (9/16 + 3/16)/3 = 1/4, std 1/2; biased variance 3/16
    unbiased_S = group_advantages(np.array([1.0, 0.0, 0.0, 0.0]), "unbiased", eps=0.0)
    np.testing.assert_allclose(unbiased_S, [1.5, -0.5, -0.5, -0.5], rtol=1e-15)
    biased_S = group_advantages(np.array([1.0, 0.0, 0.0, 0.0]), "biased", eps=0.0)
    np.testing.assert_allclose(biased_S, np.array([3, -1, -1, -1]) / math.sqrt(3), rtol=1e-15)


def test_epsilon_is_added_to_the_standard_deviation():
    np.testing.assert_allclose(
        group_advantages(np.array([1.0, 0.0, 0.0, 0.0]), eps=0.5), [0.75, -0.25, -0.25, -0.25], rtol=1e-15
    )


@pytest.mark.parametrize("rewards", [[0.0] * 4, [1.0] * 4, [0.1] * 7, [1.0], []])
def test_equal_rewards_give_no_signal_and_exact_zeros_even_without_epsilon(rewards):
    assert not has_signal(np.array(rewards))
    assert (group_advantages(np.array(rewards), eps=0.0) == 0).all()


def test_one_different_reward_is_a_signal():
    assert has_signal(np.array([0.0, 0.0, 1.0]))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        # all four: mean 1/4, unbiased std 1/2
        ("none", [1.5, -0.5, -0.5, -0.5]),
        # of the three that ended: mean 1/3, unbiased variance (4/9 + 1/9 + 1/9)/2 = 1/3
        ("before", [2 / math.sqrt(3), -1 / math.sqrt(3), -1 / math.sqrt(3), 0.0]),
        ("after", [1.5, -0.5, -0.5, 0.0]),
    ],
)
def test_a_mask_takes_the_advantage_of_truncated_responses(mask, expected):
    rewards_S, finished_S = np.array([1.0, 0.0, 0.0, 0.0]), np.array([1, 1, 1, 0], dtype=np.uint8)
    found_S = group_advantages(rewards_S, eps=0.0, finished_S=finished_S, mask=mask)
    np.testing.assert_allclose(found_S, expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("rewards", "finished", "signals"),
    [
        ([1, 0, 0, 0], [1, 1, 1, 1], {"none": True, "before": True, "after": True}),
        ([1, 1, 0, 0], [1, 1, 0, 0], {"none": True, "before": False, "after": True}),  # those that ended are alike
        ([1, 0, 0, 0], [1, 0, 0, 0], {"none": True, "before": False, "after": False}),  # one is too few
        ([0, 0, 0, 0], [1, 1, 0, 0], {"none": False, "before": False, "after": False}),
    ],
)
def test_what_a_mask_leaves_of_a_group_decides_whether_it_is_trained(rewards, finished, signals):
    rewards_S, finished_S = np.array(rewards, dtype=np.float32), np.array(finished)
    for mask, signal in signals.items():
        advantages_S = group_advantages(rewards_S, finished_S=finished_S, mask=mask)
        assert has_signal(rewards_S, finished_S, mask) is signal is bool((advantages_S != 0).any())
        assert is_trained(rewards_S, finished_S, Objective(advantage_mask=mask)) is signal
        assert is_trained(rewards_S, finished_S, Objective(advantage_mask=mask, kl_beta=0.1, kl_groups="all"))


def test_without_truncation_no_mask_changes_a_bit():
    rewards_S, finished_S = np.array([1.0, 0.0, 1.0, 0.0, 0.0]), np.ones(5)
    plain_S = group_advantages(rewards_S)
    for mask in ("before", "after"):
        assert (group_advantages(rewards_S, finished_S=finished_S, mask=mask) == plain_S).all()


def _reference_loss(logprob, behaviour, advantage, entropy, alpha_k, low, high):
    ratio = math.exp(logprob - behaviour)
    clipped = min(max(ratio, 1 - low), 1 + high)
    return -(min(ratio * advantage, clipped * advantage) + alpha_k * entropy)


@pytest.mark.parametrize("alpha_k", [0.0, 0.01])
def test_the_token_loss_equals_the_formula_token_by_token(alpha_k):
    torch.manual_seed(0)
    logprobs_T, behaviour_T = -torch.rand(400, dtype=torch.float64), -torch.rand(400, dtype=torch.float64)
    advantages_T, entropy_T = torch.randn(400, dtype=torch.float64), torch.rand(400, dtype=torch.float64)
    loss_T = token_loss(Objective(clip_high=0.28), Tokens(logprobs_T, entropy_T, behaviour_T, advantages_T), alpha_k)
    rows = zip(logprobs_T.tolist(), behaviour_T.tolist(), advantages_T.tolist(), entropy_T.tolist(), strict=True)
    expected_T = torch.tensor([_reference_loss(*row, alpha_k, 0.2, 0.28) for row in rows], dtype=torch.float64)
    torch.testing.assert_close(loss_T, expected_T, rtol=0, atol=1e-10)


def test_the_loss_pulls_up_what_was_rewarded_and_entropy_when_alpha_is_positive():
    logprobs_T = torch.tensor([-1.0, -1.0], dtype=torch.float64, requires_grad=True)
    entropy_T = torch.tensor([0.5, 0.5], dtype=torch.float64, requires_grad=True)
    advantages_T = torch.tensor([2.0, -3.0], dtype=torch.float64)
    tokens = Tokens(logprobs_T, entropy_T, logprobs_T.detach(), advantages_T)
    token_loss(Objective(), tokens, 0.01).sum().backward()
    assert logprobs_T.grad.tolist() == [-2.0, 3.0]
    assert entropy_T.grad.tolist() == [-0.01, -0.01]


def test_tokens_count_as_clipped_only_where_the_clip_takes_their_gradient():
    ratio_T = torch.tensor([1.3, 1.3, 0.7, 0.7, 1.1], dtype=torch.float64)
    advantages_T = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    logprobs_T = ratio_T.log().requires_grad_()
    behaviour_T = torch.zeros(5, dtype=torch.float64)
    tokens = Tokens(logprobs_T, behaviour_T, behaviour_T, advantages_T)
    clipped_T = bounded_tokens(Objective(), tokens)
    token_loss(Objective(), tokens, 0.0).sum().backward()
    assert clipped_T.tolist() == [True, False, False, True, False]
    assert (logprobs_T.grad == 0).tolist() == clipped_T.tolist()


def test_the_controller_follows_a_sequence_of_entropies_worked_by_hand():
    state, seen = ControllerState(), []
    for entropy in [0.3, 0.1, 0.1, 0.2, 0.25, 0.1, 0.3, 0.3, 0.3, 0.1]:
        seen.append((alpha(state, entropy, 0.2), state.coefficient))
        state = next_state(state, entropy, 0.2, 0.005)
    assert seen == [
        (0.0, 0.0),  # above the target: the coefficient would fall and stays at 0
        (0.0, 0.0),  # below it, and the coefficient is not dead
        (0.005, 0.005),
        (0.01, 0.01),  # on the target: in force, and it does not move
        (0.0, 0.01),  # above: out of force
        (0.005, 0.005),
        (0.0, 0.01),
        (0.0, 0.005),
        (0.0, 0.0),  # exactly 0 again, not 1e-18
        (0.0, 0.0),
    ]
    assert state == ControllerState(0.005)


def _history(settings, entropies):
    """(α_k, c_k) of every step."""
    state, seen = ControllerState(), []
    for entropy in entropies:
        seen.append((step_alpha(state, entropy, settings), abs(state.coefficient)))
        state = state_after(state, entropy, settings)
    return seen


def test_the_scripts_rule_is_a_step_late_and_goes_down_on_equality():
    settings = Entropy(rule="scripts", delta=0.001, max_coefficient=0.002)
    assert _history(settings, [0.1, 0.1, 0.1, 0.2, 0.1, 0.3, 0.3, 0.3, 0.1, 0.1]) == [
        (0.0, 0.0),
        (0.001, 0.001),
        (0.002, 0.002),
        (0.002, 0.002),  # clamped; in force by the step before, though this one's entropy is on the target
        (0.0, 0.001),  # equality: down and out of force
        (0.002, 0.002),
        (0.0, 0.001),
        (0.0, 0.0),
        (0.0, 0.0),  # clamped at 0
        (0.001, 0.001),  # and not dead
    ]


def _released_code(entropies, target, delta, ceiling):
    """The released code's controller: updated after each step with that step's entropy."""
    value, enabled, seen = 0.0, True, []
    for entropy in entropies:
        seen.append(value * enabled)
        value = min(max(value + (delta if entropy < target else -delta), 0.0), ceiling)
        enabled = entropy < target
    return seen


def test_both_rules_have_their_source_s_numbers_by_default():
    entropies = (0.2 + 0.05 * np.random.default_rng(0).standard_normal(300) - 0.01).tolist()
    found = [found for found, _ in _history(Entropy(rule="scripts"), entropies)]
    assert found == pytest.approx(_released_code(entropies, 0.2, 1e-4, 5e-3), abs=1e-15)
    low = [0.1] * 3
    assert _history(Entropy(), low) == [(0.0, 0.0), (0.005, 0.005), (0.01, 0.01)]


def test_constant_and_none_never_move_and_only_the_report_s_rule_has_to_measure_first():
    state = ControllerState(0.5)
    for settings, alpha_k in ((Entropy(control="constant", alpha=1e-3), 1e-3), (Entropy(control="none"), 0.0)):
        assert step_alpha(state, 0.1, settings) == alpha_k
        assert state_after(state, 0.1, settings) == state
        assert not needs_entropy(state, settings)
    assert needs_entropy(state, Entropy())
    assert not needs_entropy(ControllerState(), Entropy())
    assert not needs_entropy(state, Entropy(rule="scripts"))


def test_a_shortfall_is_the_share_by_which_the_entropy_is_below_a_target_that_is_controlled():
    adaptive = Entropy(control="adaptive", target=0.2)
    assert [round(shortfall(entropy, adaptive), 12) for entropy in (0.0, 0.15, 0.2, 0.3)] == [1.0, 0.25, 0.0, 0.0]
    assert shortfall(0.0, Entropy(control="none", target=0.2)) == 0.0
    assert shortfall(0.0, Entropy(control="adaptive", target=0.0)) == 0.0
