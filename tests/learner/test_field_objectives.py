"""The field's losses against their papers' formulas, written response by response with gradients by autograd. Nothing
comes from the learner, and a ratio of a whole response is differentiated as a whole."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from leeway_rl.common.config import Objective
from leeway_rl.common.errors import ConfigError
from leeway_rl.learner.objective.advantage import BatchRewards, group_advantages, sums_of
from leeway_rl.learner.objective.correction import anchor, bounded_weights
from leeway_rl.learner.objective.loss import denominator
from leeway_rl.learner.objective.sequences import of_responses
from leeway_rl.learner.step import cut, surrogate_sum
from pydantic import ValidationError
from tiny_policy import make_config, make_groups
from torch import Tensor

LENGTHS = [3, 1, 7, 5, 2, 9, 4]
LONGEST = 12


def _case(seed: int) -> SimpleNamespace:
    dice = torch.Generator().manual_seed(seed)
    responses_T = torch.cat([torch.full((n,), i) for i, n in enumerate(LENGTHS)])

    def normal(scale: float) -> Tensor:
        return scale * torch.randn(len(responses_T), generator=dice, dtype=torch.float64)

    behaviour_T = -0.1 - normal(1.0).abs()
    most = torch.tensor(-1e-3, dtype=torch.float64)  # probabilities are below 1
    old_T = torch.minimum(behaviour_T + normal(0.3), most)
    advantages_S = torch.randn(len(LENGTHS), generator=dice, dtype=torch.float64)
    return SimpleNamespace(
        responses_T=responses_T,
        lengths_T=torch.tensor(LENGTHS)[responses_T],
        behaviour_logprobs_T=behaviour_T,
        old_logprobs_T=old_T,
        logprobs_T=torch.minimum(old_T + normal(0.3), most),
        entropy_T=normal(1.0).abs(),
        advantages_T=advantages_S[responses_T],
        staleness_T=torch.zeros(len(responses_T), dtype=torch.int64),
        signal_T=torch.ones(len(responses_T), dtype=torch.bool),
        reference_logprobs_T=None,
        log_weights_T=None,
        log_ratio_T=None,
    )


def _ours(case: SimpleNamespace, objective: Objective, lag: float, chunks: int = 3) -> tuple[Tensor, Tensor]:
    """Loss and its gradient by log-probabilities, the tokens in ``chunks``, as the token op does it."""
    known, level = SimpleNamespace(**vars(case)), objective.correction_level
    if level != "token":
        known.log_weights_T = of_responses(
            case.old_logprobs_T - case.behaviour_logprobs_T, case.responses_T, case.lengths_T, level
        )
    if objective.loss == "gspo":
        anchor_T, _ = anchor(
            objective,
            case.logprobs_T,
            case.behaviour_logprobs_T,
            case.old_logprobs_T,
            case.staleness_T,
            lag,
        )
        known.log_ratio_T = of_responses(case.logprobs_T - anchor_T, case.responses_T, case.lengths_T, "geometric")
    logprobs_T = case.logprobs_T.clone().requires_grad_()
    cuts = torch.arange(len(logprobs_T)).tensor_split(chunks)

    def module(_, loss_of):
        slices = [slice(int(cut[0]), int(cut[-1]) + 1) for cut in cuts]
        return torch.cat([loss_of(logprobs_T[at], case.entropy_T[at], at) for at in slices]).sum()

    count = denominator(objective, sum(LENGTHS), len(LENGTHS), LONGEST)
    loss = surrogate_sum(module, known, objective, 0.03, lag) / count
    loss.backward()
    return loss.detach(), logprobs_T.grad


def _weight(objective: Objective, log_weights: list[float]) -> list[float]:
    """w of a response's tokens."""
    if objective.correction != "decoupled":
        return [1.0] * len(log_weights)
    if objective.correction_level == "sequence":
        log_weights = [sum(log_weights)] * len(log_weights)
    elif objective.correction_level == "geometric":
        log_weights = [sum(log_weights) / len(log_weights)] * len(log_weights)
    weights = [math.exp(each) for each in log_weights]
    if objective.correction_bound == "truncate":
        return [min(each, objective.correction_cap) for each in weights]
    low, high = objective.correction_range
    return [each if low <= each <= high else 0.0 for each in weights]


def _theirs(case: SimpleNamespace, objective: Objective, lag: float) -> tuple[Tensor, Tensor]:
    """The same by the papers."""
    logprobs_T, total = case.logprobs_T.clone().requires_grad_(), torch.zeros((), dtype=torch.float64)
    low, high = 1 - objective.clip_low, 1 + objective.clip_high
    for i, n in enumerate(LENGTHS):
        own = slice(sum(LENGTHS[:i]), sum(LENGTHS[:i]) + n)
        logp, mu, old = logprobs_T[own], case.behaviour_logprobs_T[own], case.old_logprobs_T[own]
        a, below = case.advantages_T[own][0], mu if objective.correction == "none" else old
        if lag == 0.0 and objective.correction != "none":
            below = logp.detach()
        before = logp.detach() if lag == 0.0 and objective.correction_level == "token" else old
        w = torch.tensor(_weight(objective, (before - mu).tolist()), dtype=torch.float64)

        def clipped(ratio: Tensor, a: Tensor = a) -> Tensor:
            gain = torch.minimum(ratio * a, ratio.clamp(low, high) * a)
            return torch.maximum(gain, objective.dual_clip * a) if objective.dual_clip is not None and a < 0 else gain

        match objective.loss:
            case "gspo":  # eq. 5 and 7: one ratio a response, differentiated as a whole
                s = torch.exp((logp - below).mean())
                gain = (w * clipped(s)).mean() + 0.03 * case.entropy_T[own].mean()
            case "cispo":  # eq. 4 of arXiv 2506.13585
                weight = torch.exp(logp - below).detach().clamp(low, high)
                gain = (w * weight * a * logp + 0.03 * case.entropy_T[own]).sum()
            case "dr_grpo":  # arXiv 2503.20783: no 1/|y|, a constant instead
                gain = (w * clipped(torch.exp(logp - below)) + 0.03 * case.entropy_T[own]).sum() / LONGEST
            case "pg":  # RLOO and REINFORCE take it with their advantages
                gain = (w * torch.exp(logp - below) * a + 0.03 * case.entropy_T[own]).sum()
            case "dis":  # arXiv 2602.15763 and 2607.07508: f(r)·A·log π, f(r) = r inside the interval and 0 outside
                ratio = torch.exp(logp - below).detach()
                inside = (ratio > low) & (ratio < high)
                gain = (w * ratio * inside * a * logp + 0.03 * case.entropy_T[own]).sum()
            case "magic":
                gain = (w * clipped(torch.exp(logp - below)) + 0.03 * case.entropy_T[own]).sum()
            case "dppo":  # arXiv 2602.04879, eq. 11 to 14
                p, q = logp.detach().exp(), below.exp()
                moved = (p - q).abs()
                if objective.trust_region_by == "kl":
                    moved = q * torch.log(q / p) + (1 - q) * torch.log((1 - q) / (1 - p))
                away = (p > q) if a > 0 else (p < q)
                kept = ~(away & (moved > objective.trust_region))
                gain = (w * kept * torch.exp(logp - below) * a + 0.03 * case.entropy_T[own]).sum()
        total = total - gain
    total = total / (sum(LENGTHS) if objective.loss in ("magic", "cispo", "dppo", "dis") else len(LENGTHS))
    total.backward()
    return total.detach(), logprobs_T.grad


CASES = [
    *({"loss": "gspo"}, {"loss": "gspo", "clip_low": 3e-4, "clip_high": 4e-4}, {"loss": "gspo", "dual_clip": 1.5}),
    *({"loss": "cispo"}, {"loss": "cispo", "clip_low": 1.0, "clip_high": 4.0}),
    *({"loss": "dr_grpo", "advantage_std": "none"}, {"loss": "magic", "dual_clip": 1.3}),
    *({"loss": "dppo", "trust_region": 0.02}, {"loss": "dppo", "trust_region": 0.01, "trust_region_by": "kl"}),
    *({"loss": "dis"}, {"loss": "dis", "clip_low": 0.1, "clip_high": 0.5}, {"loss": "magic", "clip_high": 0.28}),
    {"loss": "pg", "advantage_baseline": "leave_one_out", "advantage_std": "none"},
]


@pytest.mark.parametrize("changes", CASES, ids=lambda changes: "-".join(map(str, changes.values())))
@pytest.mark.parametrize("correction", ["none", "old", "decoupled"])
@pytest.mark.parametrize("lag", [0.0, 0.5])
def test_each_loss_and_its_gradient_are_those_of_its_paper(changes, correction, lag):
    level = "sequence" if changes["loss"] == "gspo" and correction == "decoupled" else "token"
    objective = Objective(correction=correction, correction_level=level, **changes)
    for seed in range(3):
        ours, theirs = _ours(_case(seed), objective, lag), _theirs(_case(seed), objective, lag)
        torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("loss", "level"),
    [
        *itertools.product(["magic", "dr_grpo", "cispo"], ["token", "sequence", "geometric"]),
        *itertools.product(["gspo"], ["sequence", "geometric"]),
    ],
)
@pytest.mark.parametrize("bound", [{}, {"correction_bound": "mask", "correction_range": (0.8, 1.3)}])
def test_weights_of_tokens_and_of_whole_responses_are_cut_or_masked_as_their_papers_say(level, bound, loss):
    objective = Objective(loss=loss, correction="decoupled", correction_level=level, correction_cap=1.2, **bound)
    for seed, lag in itertools.product(range(3), (0.0, 0.5)):
        ours, theirs = _ours(_case(seed), objective, lag), _theirs(_case(seed), objective, lag)
        torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=1e-10)


def test_a_weight_of_a_whole_response_is_one_number_for_all_its_tokens():
    case = _case(1)
    for level in ("sequence", "geometric"):
        objective = Objective(correction="decoupled", correction_level=level)
        log_weights_T = of_responses(
            case.old_logprobs_T - case.behaviour_logprobs_T, case.responses_T, case.lengths_T, level
        )
        weights = bounded_weights(objective, log_weights_T).split(LENGTHS)
        assert all(len(each.unique()) == 1 for each in weights)
        assert len({float(each[0]) for each in weights}) > 3


def test_with_a_dual_clip_a_ratio_however_large_has_no_gradient_where_the_advantage_is_negative():
    case = _case(2)
    case.advantages_T = -case.advantages_T.abs()
    case.logprobs_T = case.behaviour_logprobs_T + 20.0
    huge, none = (_ours(case, Objective(dual_clip=c), 0.0)[1].abs().max() for c in (None, 3.0))
    assert huge > 1e6
    assert none == 0.0


def test_a_two_sided_clip_takes_the_gradient_outside_whatever_the_advantage_s_sign():
    """Where it leaves one, it is that of ρA."""
    case = _case(3)
    ratio_T = (case.logprobs_T - case.behaviour_logprobs_T).exp()
    outside_T = (ratio_T <= 0.8) | (ratio_T >= 1.2)
    for sign in (1.0, -1.0):
        case.advantages_T = sign * case.advantages_T.abs()
        _, gradient_T = _ours(case, Objective(loss="dis"), 0.0)
        expected_T = torch.where(outside_T, 0.0, -ratio_T * case.advantages_T / sum(LENGTHS))
        torch.testing.assert_close(gradient_T, expected_T, rtol=0, atol=1e-12)
    assert 3 < outside_T.sum() < len(outside_T) - 3


# --- advantages ------------------------------------------------------------------------------------------------------


def test_leave_one_out_compares_each_response_with_the_others():
    rewards_S = np.array([1.0, 0.0, 0.25, 0.0])
    found_S = group_advantages(rewards_S, "none", baseline="leave_one_out")
    others = [np.delete(rewards_S, j).mean() for j in range(4)]
    np.testing.assert_allclose(found_S, rewards_S - others, rtol=0, atol=1e-12)
    before_S = group_advantages(
        rewards_S, "none", baseline="leave_one_out", finished_S=np.array([1, 1, 1, 0]), mask="before"
    )
    assert before_S[3] == 0
    np.testing.assert_allclose(before_S[:3], [1 - 0.125, -0.625, 0.25 - 0.5], rtol=0, atol=1e-12)


def test_without_a_deviation_an_advantage_is_a_difference_of_rewards():
    np.testing.assert_array_equal(group_advantages(np.array([1.0, 0.0]), "none"), [0.5, -0.5])


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out", "batch"])
def test_advantages_over_the_batch_are_normalised_over_all_its_responses(baseline):
    objective = Objective(advantage_baseline=baseline, advantage_std="batch", advantage_eps=0.0)
    dice = np.random.default_rng(4)
    groups = [dice.normal(size=size) for size in (4, 2, 7)]
    above = [rewards - rewards.mean() for rewards in groups]
    if baseline == "leave_one_out":
        above = [each * len(each) / (len(each) - 1) for each in above]
    if baseline == "batch":
        above = [rewards - np.concatenate(groups).mean() for rewards in groups]
    deviation = np.concatenate(above).std(ddof=1)
    of_batch = BatchRewards.of(sum(sums_of(rewards, np.ones(len(rewards)), objective) for rewards in groups))
    for rewards, expected in zip(groups, above, strict=True):
        found = group_advantages(rewards, "batch", 0.0, baseline=baseline, of_batch=of_batch)
        np.testing.assert_allclose(found, expected / deviation, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("baseline", ["mean", "batch"])
def test_groups_that_come_for_the_kl_term_alone_leave_the_advantages_of_the_others_as_they_are(baseline):
    how = {"objective__advantage_baseline": baseline, "objective__advantage_std": "batch", "objective__kl_beta": 0.1}
    config = make_config("nowhere", **how, objective__kl_groups="all", train__micro_batch_tokens=4096)
    groups = make_groups(4)
    dull = [replace(group, rewards_S=np.ones(4)) for group in groups[2:]]

    def advantages(batch):
        batches = cut(batch, version=0, config=config)
        return torch.cat([each.advantages_T[each.signal_T] for each in batches])

    alone = advantages(groups[:2])
    assert len(alone) > 2
    assert torch.equal(advantages([*groups[:2], *dull]), alone)


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out", "batch"])
@pytest.mark.parametrize("finished", [[0, 0, 0], [0, 1, 0]])
def test_a_batch_of_truncated_responses_alone_has_no_advantages(baseline, finished):
    """Under ``kl_groups = "all"`` such groups are trained, for the KL term."""
    objective = Objective(advantage_baseline=baseline, advantage_std="batch", advantage_mask="before")
    rewards_S, finished_S = np.array([0.0, 1.0, 0.0]), np.array(finished)
    of_batch = BatchRewards.of(sums_of(rewards_S, finished_S, objective))
    found_S = group_advantages(
        rewards_S, "batch", baseline=baseline, finished_S=finished_S, mask="before", of_batch=of_batch
    )
    np.testing.assert_array_equal(found_S, [0.0, 0.0, 0.0])


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"correction_level": "sequence"}, "only 'decoupled' has weights of whole responses"),
        ({"loss": "cispo", "dual_clip": 3.0}, "no clip of that kind"),
        ({"loss": "dis", "dual_clip": 3.0}, "no clip of that kind"),
        ({"loss": "gspo", "correction": "decoupled"}, "weighs single tokens"),
        ({"loss": "gspo", "correction": "loglinear"}, "weighs single tokens"),
        ({"dual_clip": 1.1}, r"expected more than 1 \+ clip_high"),
    ],
)
def test_keys_that_would_do_nothing_are_refused(keys, said):
    with pytest.raises(ConfigError, match=said):
        Objective(**keys).refuse_impossible(8)


def test_a_dual_clip_of_at_most_one_is_refused():
    with pytest.raises(ValidationError):
        Objective(dual_clip=1.0)
