"""Every objective against a straightforward implementation of its formula: token by token, in plain Python."""

import math
from types import SimpleNamespace

import pytest
import torch
from leeway_rl.common.config import Objective
from leeway_rl.learner.objective.correction import anchor, outside
from leeway_rl.learner.objective.loss import Tokens, bounded_tokens, k3
from leeway_rl.learner.objective.ratio import beyond, ratio
from leeway_rl.learner.step import surrogate_sum
from torch import Tensor

TOKENS = 60


def _case(seed: int) -> SimpleNamespace:
    """Random responses of 1 to 9 tokens, float64; some tokens far off, so that clips and bounds bite."""
    torch.manual_seed(seed)
    lengths = []
    while sum(lengths) < TOKENS:
        lengths.append(min(int(torch.randint(1, 10, ())), TOKENS - sum(lengths)))
    lengths_T = torch.cat([torch.full((n,), n) for n in lengths])
    responses_T = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)])
    behaviour_T = -2 * torch.rand(TOKENS, dtype=torch.float64)
    old_T = behaviour_T + 0.6 * torch.randn(TOKENS, dtype=torch.float64)
    advantages_T = torch.randn(len(lengths), dtype=torch.float64)[responses_T]
    signal_T = (torch.arange(len(lengths)) % 3 > 0)[responses_T]
    return SimpleNamespace(
        responses=len(lengths),
        behaviour_logprobs_T=behaviour_T,
        old_logprobs_T=old_T,
        reference_logprobs_T=old_T + 0.5 * torch.randn(TOKENS, dtype=torch.float64),
        advantages_T=torch.where(signal_T, advantages_T, 0.0),
        staleness_T=torch.randint(0, 4, (TOKENS,)),
        lengths_T=lengths_T,
        signal_T=signal_T,
        log_weights_T=None,
        log_ratio_T=None,
        responses_T=responses_T,
        logprobs_T=old_T + 0.4 * torch.randn(TOKENS, dtype=torch.float64),
        entropy_T=torch.rand(TOKENS, dtype=torch.float64),
    )


def _ours(case: SimpleNamespace, objective: Objective, alpha: float, lag: float) -> list[Tensor]:
    """Loss, its gradient by log-probabilities, its gradient by entropies."""
    logprobs_T = case.logprobs_T.clone().requires_grad_()
    entropy_T = case.entropy_T.clone().requires_grad_()
    loss = surrogate_sum(
        lambda _, loss_of: torch.cat(
            [loss_of(logprobs_T[at], entropy_T[at], at) for at in (slice(0, 17), slice(17, TOKENS))]
        ).sum(),
        case,
        objective,
        alpha,
        lag,
    )
    loss.backward()
    return [loss.detach(), logprobs_T.grad, torch.zeros(TOKENS) if entropy_T.grad is None else entropy_T.grad]


def _formula(case: SimpleNamespace, objective: Objective, alpha: float, lag: float) -> list[Tensor]:
    """The same by the formulas as they stand in docs/reference/objectives.md; slopes by hand."""
    total, by_logprob, by_entropy = 0.0, [], []
    for t in range(TOKENS):
        now, mu, a = float(case.logprobs_T[t]), float(case.behaviour_logprobs_T[t]), float(case.advantages_T[t])
        old, ref, s = float(case.old_logprobs_T[t]), float(case.reference_logprobs_T[t]), int(case.staleness_T[t])
        if objective.correction == "none":
            base, w = mu, 1.0
        else:
            base = (lag * mu + s * now) / max(s + lag, 1e-9) if objective.correction == "loglinear" else old
            base = now if lag == 0 else base
            w = math.exp(base - mu)
            if objective.correction == "old":
                w = 1.0
            elif objective.correction_bound == "truncate":
                w = min(w, objective.correction_cap)
            elif not objective.correction_range[0] <= w <= objective.correction_range[1]:
                w = 0.0
        rho = math.exp(now - base)
        value, slope = rho * a, rho * a
        low, high = 1 - objective.clip_low, 1 + objective.clip_high
        if objective.loss != "pg" and ((a > 0 and rho > high) or (a < 0 and rho < low)):
            value, slope = (high if a > 0 else low) * a, 0.0
        each = 1 / int(case.lengths_T[t]) if objective.loss == "grpo" else 1.0
        signal = bool(case.signal_T[t])
        beta = objective.kl_beta if signal or objective.kl_groups == "all" else 0.0
        kl = math.exp(ref - now) - (ref - now) - 1
        total -= each * (w * value + alpha * signal * float(case.entropy_T[t]) - beta * kl)
        by_logprob.append(-each * (w * slope - beta * (1 - math.exp(ref - now))))
        by_entropy.append(-each * alpha * signal)
    return [torch.tensor(numbers, dtype=torch.float64) for numbers in (total, by_logprob, by_entropy)]


@pytest.mark.parametrize("loss", ["magic", "grpo", "pg"])
@pytest.mark.parametrize("correction", ["none", "old", "decoupled", "loglinear"])
@pytest.mark.parametrize("bound", ["truncate", "mask"])
@pytest.mark.parametrize("lag", [0.0, 0.75])
@pytest.mark.parametrize(("alpha", "beta", "groups"), [(0.0, 0.0, "signal"), (0.01, 0.1, "signal"), (0.01, 0.1, "all")])
def test_every_objective_is_its_formula_token_by_token(loss, correction, bound, lag, alpha, beta, groups):
    objective = Objective(
        loss=loss,
        clip_high=0.28,
        kl_beta=beta,
        kl_groups=groups,
        correction=correction,
        correction_bound=bound,
        correction_cap=1.3,
        correction_range=(0.7, 1.5),
    )
    for seed in range(3):
        case = _case(seed)
        ours, expected = _ours(case, objective, alpha, lag), _formula(case, objective, alpha, lag)
        torch.testing.assert_close(ours[0], expected[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(ours[1], expected[1], rtol=0, atol=1e-8)
        torch.testing.assert_close(ours[2].double(), expected[2], rtol=0, atol=1e-8)


def _by_hand(loss, **changes):
    """Two responses, A = 1 (one token, ρ = 2) and A = -1 (two tokens, ρ = 1/2 and 1)."""
    nought = torch.zeros(3, dtype=torch.float64)
    case = _case(0)
    vars(case).update(
        logprobs_T=torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64).log(),
        behaviour_logprobs_T=nought,
        old_logprobs_T=nought,
        reference_logprobs_T=nought,
        advantages_T=torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64),
        staleness_T=torch.zeros(3, dtype=torch.int64),
        lengths_T=torch.tensor([1, 2, 2]),
        signal_T=torch.ones(3, dtype=torch.bool),
        entropy_T=nought,
    )
    logprobs_T = case.logprobs_T

    def module(_, loss_of):
        return loss_of(logprobs_T, nought, slice(0, 3)).sum()

    return float(surrogate_sum(module, case, Objective(loss=loss, **changes), 0.0))


def test_three_tokens_worked_by_hand():
    assert _by_hand("pg") == pytest.approx(-(2.0 - 0.5 - 1.0), abs=1e-12)
    assert _by_hand("magic") == pytest.approx(-(1.2 - 0.8 - 1.0), abs=1e-12)
    assert _by_hand("magic", clip_high=0.28) == pytest.approx(-(1.28 - 0.8 - 1.0), abs=1e-12)
    assert _by_hand("grpo") == pytest.approx(-(1.2 - 0.4 - 0.5), abs=1e-12)
    # k3: 1/2 - log(1/2) - 1 = log 2 - 1/2; 2 - log 2 - 1 = 1 - log 2; 0
    kl = (math.log(2) - 0.5) + (1 - math.log(2)) / 2
    assert _by_hand("grpo", kl_beta=0.5) == pytest.approx(-0.3 + 0.5 * kl, abs=1e-12)


def test_k3_is_not_negative_and_nothing_where_the_policies_agree():
    logprobs_T = -torch.rand(50, dtype=torch.float64)
    assert (k3(logprobs_T, logprobs_T) == 0).all()
    assert (k3(logprobs_T, logprobs_T + torch.randn(50, dtype=torch.float64)) >= 0).all()


def test_in_the_first_update_both_corrections_are_plain_truncated_importance_sampling():
    case = _case(1)
    arguments = (case.logprobs_T, case.behaviour_logprobs_T, None, case.staleness_T, 0.0)
    one, two = (anchor(Objective(correction=name), *arguments) for name in ("decoupled", "loglinear"))
    assert torch.equal(one.logprobs_T, case.logprobs_T)
    assert torch.equal(one.logprobs_T, two.logprobs_T)
    assert torch.equal(one.weights_T, (case.logprobs_T - case.behaviour_logprobs_T).exp().clamp(max=2.0))


def test_the_report_s_loss_pays_no_heed_to_what_sampled_the_data():
    objective, case = Objective(correction="old"), _case(3)
    for lag in (0.0, 0.5):
        found = _ours(case, objective, 0.01, lag)
        other = SimpleNamespace(**vars(case))
        other.behaviour_logprobs_T, other.staleness_T = case.behaviour_logprobs_T - 1.7, case.staleness_T + 5
        assert all(map(torch.equal, found, _ours(other, objective, 0.01, lag)))
    first = anchor(objective, case.logprobs_T, case.behaviour_logprobs_T, None, case.staleness_T, 0.0)
    assert torch.equal(first.logprobs_T, case.logprobs_T)
    assert first.weights_T is None


def test_loglinear_finds_a_policy_that_moves_evenly_exactly():
    """log π moves by d a version: μ is s versions before v, π_θ is a lag after it."""
    drift_T, staleness_T, lag = torch.randn(20, dtype=torch.float64), torch.arange(20) % 4, 0.5
    old_T = -torch.rand(20, dtype=torch.float64)
    found = anchor(
        Objective(correction="loglinear"),
        old_T + lag * drift_T,
        old_T - staleness_T * drift_T,
        None,
        staleness_T,
        lag,
    )
    torch.testing.assert_close(found.logprobs_T, old_T, rtol=0, atol=1e-12)


def test_bounds_change_the_tokens_they_say_they_change():
    log_weights_T = torch.tensor([0.4, 0.6, 1.0, 1.9, 2.1, 6.0], dtype=torch.float64).log()
    assert outside(Objective(), log_weights_T).tolist() == [False] * 4 + [True] * 2
    mask = Objective(correction_bound="mask", correction_range=(0.5, 2.0))
    assert outside(mask, log_weights_T).tolist() == [True, False, False, False, True, True]


def test_a_token_that_correction_gives_its_own_policy_as_anchor_is_never_clipped():
    case = _case(2)
    arguments = (case.logprobs_T, case.behaviour_logprobs_T, None, case.staleness_T, 0.0)
    found = anchor(Objective(correction="decoupled"), *arguments)
    assert not bounded_tokens(Objective(), _against(case, found.logprobs_T)).any()
    coupled = anchor(Objective(), *arguments)
    assert bounded_tokens(Objective(), _against(case, coupled.logprobs_T)).any()


def _against(case: SimpleNamespace, anchor_T: Tensor) -> Tokens:
    return Tokens(case.logprobs_T, case.entropy_T, anchor_T, case.advantages_T)


@pytest.mark.parametrize("loss", ["magic", "grpo", "pg"])
@pytest.mark.parametrize("correction", ["none", "old", "decoupled", "loglinear"])
@pytest.mark.parametrize("bound", ["truncate", "mask"])
@pytest.mark.parametrize("lag", [0.0, 0.5])
def test_one_log_probability_however_far_off_makes_no_loss_and_no_gradient_that_is_not_finite(
    loss, correction, bound, lag
):
    objective = Objective(loss=loss, correction=correction, correction_bound=bound, kl_beta=0.1, kl_groups="all")
    for far in (-100.0, -9999.0, -1e30):
        for advantage in (0.0, 1.0, -1.0):
            case = _case(1)
            for name, value in vars(case).items():
                if isinstance(value, Tensor) and value.dtype == torch.float64:
                    setattr(case, name, value.float())
            case.behaviour_logprobs_T[3] = case.reference_logprobs_T[5] = case.logprobs_T[7] = far
            case.advantages_T[[3, 5, 7]] = advantage
            assert all(torch.isfinite(found).all() for found in _ours(case, objective, 0.01, lag)), (far, advantage)


def test_within_the_bound_a_ratio_has_the_same_bits_and_slope_and_beyond_it_no_slope():
    inside_T = torch.linspace(-20, 20, 101, requires_grad=True)
    ratio(inside_T).sum().backward()
    assert torch.equal(ratio(inside_T), torch.exp(inside_T))
    assert torch.equal(inside_T.grad, torch.exp(inside_T).detach())
    for broken in (math.nan, math.inf, -math.inf):
        broken_T = torch.tensor([broken], requires_grad=True)
        ratio(broken_T).sum().backward()
        assert not torch.isfinite(broken_T.grad).any(), "what is no number stays none, and stops the step"
    outside_T = torch.tensor([-1e4, -20.5, 20.5, 1e4], requires_grad=True)
    ratio(outside_T).sum().backward()
    assert outside_T.grad.tolist() == [0.0] * 4
    assert beyond(outside_T).all()
    assert not beyond(inside_T).any()
