"""One training step on this rank's share of the batch: measure, forward, backward, update (report 3.1, 3.2).

Everything is global: the loss is a mean over the tokens of all ranks, and metrics are the same on every rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..common.config import Config, Objective
from .objective import entropy as controller_rules
from .objective.advantage import group_advantages
from .objective.entropy import ControllerState
from .objective.loss import clipped_tokens, magic_token_loss
from .objective.token_op import TokenOutput
from .packing import MicroBatch, ScoredGroup, empty_micro_batch, micro_batches, staleness_of

if TYPE_CHECKING:
    from .model import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    metrics: dict[str, float]
    """By name as in docs and ``leeway status``; over all ranks, the same on each."""
    controller: ControllerState
    """The entropy controller's state for the next step."""


def train_step(
    policy: Policy, groups: Sequence[ScoredGroup], *, version: int, controller: ControllerState, config: Config
) -> StepResult:
    """Train ``policy`` on ``groups`` (this rank's share, whole groups, possibly none) and give back what was measured.

    ``version``: training steps completed before this one; staleness is counted from it. The groups should carry a
    signal: one without adds nothing but its entropy. Collective. Raises ``ValueError`` where no rank has a token.
    """
    batches = cut(groups, version=version, config=config)
    tokens = int(policy.reduce(torch.tensor(sum(len(batch.taken_T) for batch in batches))))
    if tokens == 0:
        raise ValueError("a training step needs at least one response token on some rank")
    batches = _as_many_on_every_rank(policy, batches)

    measured = None
    alpha = 0.0
    if config.entropy.control == "adaptive" and controller.coefficient > 0:
        # α_k needs e_k before the update. With a coefficient of 0 it is 0 whatever e_k, and the pass is spared.
        measured = _measure_entropy(policy, batches, tokens, config)
        alpha = controller_rules.alpha(controller, measured, config.entropy.target)

    tally = _Tally(config.objective)
    for number, batch in enumerate(batches):
        output = surrogate_sum(policy, batch, config.objective, alpha)
        assert output.loss_sum is not None
        policy.backward(output.loss_sum, tokens=tokens, last=number == len(batches) - 1)
        tally.add(batch, output)
    grad_norm = policy.step()

    metrics = {"grad_norm": grad_norm, **tally.metrics(policy, tokens), **_batch_metrics(policy, groups, version)}
    estimate = metrics["entropy/policy"] if config.entropy.estimate == "exact" else metrics["entropy/sampled"]
    # Both passes see π_old, so the second differs from the first by nothing but rounding; the rule uses one number.
    next_controller = _next(controller, estimate if measured is None else measured, config)
    metrics |= {
        "entropy/alpha": alpha,
        "entropy/coefficient": controller.coefficient,
        "entropy/target": config.entropy.target,
    }
    return StepResult(metrics=metrics, controller=next_controller)


def cut(groups: Sequence[ScoredGroup], *, version: int, config: Config) -> list[MicroBatch]:
    """The micro-batches of ``groups`` with their advantages, by the configuration's rules."""
    objective = config.objective
    advantages = [group_advantages(g.rewards_S, objective.advantage_std, objective.advantage_eps) for g in groups]
    return micro_batches(groups, advantages, version=version, token_budget=config.train.micro_batch_tokens)


def surrogate_sum(module: nn.Module | Policy, batch: MicroBatch, objective: Objective, alpha: float) -> TokenOutput:
    """The micro-batch's MAGIC loss **summed** over its tokens, with log-probabilities and entropies.

    ``module``: a ``PolicyModule``, plain or in a ``Policy``. Divide by N_tok of the whole step, not of the micro-batch.
    """
    advantages_T, behaviour_T = batch.advantages_T, batch.behaviour_logprobs_T

    def loss_of(logprobs_C: Tensor, entropy_C: Tensor, chunk: slice) -> Tensor:
        return magic_token_loss(
            logprobs_C,
            behaviour_T[chunk].to(logprobs_C.device),
            advantages_T[chunk].to(logprobs_C.device),
            entropy_C,
            alpha,
            objective.clip_low,
            objective.clip_high,
        )

    return module(batch, loss_of)


def _next(controller: ControllerState, entropy: float, config: Config) -> ControllerState:
    if config.entropy.control == "none":
        return controller
    return controller_rules.next_state(controller, entropy, config.entropy.target, config.entropy.delta)


def _as_many_on_every_rank(policy: Policy, batches: list[MicroBatch]) -> list[MicroBatch]:
    most = int(policy.reduce(torch.tensor(len(batches)), largest=True))
    return batches + [empty_micro_batch()] * (most - len(batches))


@torch.no_grad()
def _measure_entropy(policy: Policy, batches: Sequence[MicroBatch], tokens: int, config: Config) -> float:
    """e_k over all ranks, before the update: exact, or -mean log π_old of the sampled tokens."""
    total = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        output = policy(batch)
        values_T = output.entropy_T if config.entropy.estimate == "exact" else -output.logprobs_T
        total += values_T.sum(dtype=torch.float64).cpu()
    return float(policy.reduce(total)) / tokens


class _Tally:
    """Sums over tokens, by staleness, gathered micro-batch by micro-batch and then over the ranks."""

    COUNT, ABS_DIFF, WEIGHT, WEIGHT_SQUARED, CLIPPED, ENTROPY, LOGPROB, STALENESS = range(8)

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.loss = torch.zeros((), dtype=torch.float64)
        self.sums = torch.zeros(0, 8, dtype=torch.float64)
        self.largest = torch.zeros(0, dtype=torch.float64)

    def add(self, batch: MicroBatch, output: TokenOutput) -> None:
        assert output.loss_sum is not None
        self.loss += output.loss_sum.detach().cpu().double()
        if len(batch.taken_T) == 0:
            return
        logprobs_T = output.logprobs_T.cpu()
        diff_T = logprobs_T.double() - batch.behaviour_logprobs_T.double()
        weight_T = diff_T.exp()  # π_old/μ
        clipped_T = clipped_tokens(
            logprobs_T,
            batch.behaviour_logprobs_T,
            batch.advantages_T,
            self.objective.clip_low,
            self.objective.clip_high,
        )
        columns = (
            torch.ones_like(diff_T),
            diff_T.abs(),
            weight_T,
            weight_T.square(),
            clipped_T.double(),
            output.entropy_T.cpu().double(),
            logprobs_T.double(),
            batch.staleness_T.double(),
        )
        self._grow(int(batch.staleness_T.max()) + 1)
        self.sums.index_add_(0, batch.staleness_T, torch.stack(columns, dim=1))
        self.largest.scatter_reduce_(0, batch.staleness_T, diff_T.abs(), "amax")

    def _grow(self, buckets: int) -> None:
        more = buckets - len(self.sums)
        if more > 0:
            self.sums = torch.cat([self.sums, self.sums.new_zeros(more, 8)])
            self.largest = torch.cat([self.largest, self.largest.new_zeros(more)])

    def metrics(self, policy: Policy, tokens: int) -> dict[str, float]:
        """Over all ranks. Collective."""
        self._grow(int(policy.reduce(torch.tensor(len(self.sums)), largest=True)))
        sums, largest = policy.reduce(self.sums), policy.reduce(self.largest, largest=True)
        total = sums.sum(0)
        metrics = {
            "loss": float(policy.reduce(self.loss)) / tokens,
            "entropy/policy": float(total[self.ENTROPY]) / tokens,
            "entropy/sampled": -float(total[self.LOGPROB]) / tokens,
            "batch/tokens": float(tokens),
            "staleness/token_mean": float(total[self.STALENESS]) / tokens,
            **self._drift(total, float(largest.max()), ""),
        }
        for staleness in torch.nonzero(sums[:, self.COUNT]).flatten().tolist():
            metrics[f"tokens/staleness_{staleness}"] = float(sums[staleness, self.COUNT])
            metrics |= self._drift(sums[staleness], float(largest[staleness]), f"/staleness_{staleness}")
        return metrics

    def _drift(self, sums: Tensor, largest: float, suffix: str) -> dict[str, float]:
        count = float(sums[self.COUNT])
        return {
            f"logprob/abs_diff_mean{suffix}": float(sums[self.ABS_DIFF]) / count,
            f"logprob/abs_diff_max{suffix}": largest,
            # (Σw)²/(n Σw²): the share of the tokens that the same weights, all equal, would be worth
            f"logprob/ess{suffix}": float(sums[self.WEIGHT].square() / (count * sums[self.WEIGHT_SQUARED])),
            f"policy/clip_fraction{suffix}": float(sums[self.CLIPPED]) / count,
        }


def _batch_metrics(policy: Policy, groups: Sequence[ScoredGroup], version: int) -> dict[str, float]:
    """What the groups were like: rewards, lengths, head staleness. Collective."""
    none = np.zeros(0)
    lengths_S = np.concatenate([none, *(group.responses.lengths_S for group in groups)])
    heads_G = np.array([staleness_of(group.responses, version).max(initial=0) for group in groups], dtype=np.float64)
    sums = [
        len(groups),
        len(lengths_S),
        sum(float(group.rewards_S.sum()) for group in groups),
        float(lengths_S.sum()),
        sum(int((group.responses.finished_S == 0).sum()) for group in groups),
        float(heads_G.sum()),
    ]
    count, responses, rewards, length, truncated, head = policy.reduce(torch.tensor(sums, dtype=torch.float64)).tolist()
    most = [float(lengths_S.max(initial=0)), float(heads_G.max(initial=0))]
    longest, oldest = policy.reduce(torch.tensor(most, dtype=torch.float64), largest=True).tolist()
    return {
        "batch/groups": count,
        "batch/responses": responses,
        "reward/trained_mean": rewards / responses,
        "response/length_mean": length / responses,
        "response/length_max": longest,
        "response/truncated_share": truncated / responses,
        "staleness/head_mean": head / count,
        "staleness/head_max": oldest,
    }
