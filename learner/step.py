"""One training step on this rank's share of the batch: measure, then N_SGD times forward, backward, update (report 3.1,
3.2.5, 4.1).

Everything is global: a loss is divided by a number of all ranks, and metrics are the same on every rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..common.config import Config, Objective, Train
from .objective import entropy as controller_rules
from .objective.advantage import group_advantages
from .objective.correction import anchor, outside
from .objective.entropy import ControllerState
from .objective.loss import clipped_tokens, denominator, grpo_token_loss, k3, magic_token_loss, pg_token_loss
from .objective.ratio import beyond, ratio
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


@dataclass(frozen=True, slots=True)
class _MiniBatch:
    """This rank's part of what one SGD update takes."""

    batches: list[MicroBatch]
    """As many on every rank."""
    denominator: int
    """What the sum of its tokens' losses over all ranks is divided by."""


def train_step(
    policy: Policy, groups: Sequence[ScoredGroup], *, version: int, controller: ControllerState, config: Config
) -> StepResult:
    """Train ``policy`` on ``groups`` (this rank's share, whole groups, possibly none) and give back what was measured.

    ``version``: training steps completed before this one; staleness is counted from it. ``config``: as it is in the
    stage of this step. The policy term of a group
    without a signal is 0, and it gets no entropy term. Collective. Raises ``ValueError`` where no rank has a token.
    """
    policy.sample_at(config.flow.temperature)
    parts = _mini_batches(policy, groups, version, config)
    updates = len(parts) * config.train.reuse
    tally = _Tally(config.objective, updates)
    # π_old is what the first update's own pass sees. A pass before it is spared unless something must be known earlier
    # (α_k needs e_k) or there are updates whose pass sees a policy that has moved.
    measure_first = updates > 1 or controller_rules.needs_entropy(controller, config.entropy)
    if measure_first:
        parts = [replace(part, batches=_measured(policy, part.batches, tally)) for part in parts]
    measured = tally.entropy(policy, config.entropy.estimate) if measure_first else 0.0
    alpha = controller_rules.step_alpha(controller, measured, config.entropy)

    grad_norms = []
    for lag in range(updates):
        _accumulate(policy, parts[lag % len(parts)], config.objective, alpha, lag, tally, measure=not measure_first)
        grad_norms.append(policy.step())

    metrics = {
        "grad_norm": sum(grad_norms) / updates,
        "grad_norm_max": max(grad_norms),
        **tally.metrics(policy),
        **_batch_metrics(policy, groups, version),
        "entropy/alpha": alpha,
        "entropy/coefficient": controller.coefficient,
        "entropy/target": config.entropy.target,
    }
    if not measure_first:
        measured = metrics["entropy/policy" if config.entropy.estimate == "exact" else "entropy/sampled"]
    return StepResult(metrics=metrics, controller=controller_rules.state_after(controller, measured, config.entropy))


def cut(groups: Sequence[ScoredGroup], *, version: int, config: Config) -> list[MicroBatch]:
    """The micro-batches of ``groups`` with their advantages, by the configuration's rules."""
    objective = config.objective
    advantages = [
        group_advantages(
            group.rewards_S,
            objective.advantage_std,
            objective.advantage_eps,
            finished_S=group.responses.finished_S,
            mask=objective.advantage_mask,
        )
        for group in groups
    ]
    bound = config.flow.max_staleness if config.flow.overflow == "mask" else None
    budget = config.train.micro_batch_tokens
    return micro_batches(groups, advantages, version=version, token_budget=budget, max_staleness=bound)


def surrogate_sum(
    module: nn.Module | Policy, batch: MicroBatch, objective: Objective, alpha: float, lag: float = 0.0
) -> TokenOutput:
    """The micro-batch's loss **summed** over its tokens, with log-probabilities and entropies.

    ``module``: a ``PolicyModule``, plain or in a ``Policy``. ``lag``: updates made in this training step / N_SGD.
    Divide by the ``denominator`` of the whole optimizer step, not of the micro-batch.
    """

    def loss_of(logprobs_C: Tensor, entropy_C: Tensor, chunk: slice) -> Tensor:
        def own(tensor_T: Tensor) -> Tensor:
            return tensor_T[chunk].to(logprobs_C.device)

        old_C = None if batch.old_logprobs_T is None else own(batch.old_logprobs_T)
        behaviour_C, staleness_C = own(batch.behaviour_logprobs_T), own(batch.staleness_T)
        anchor_C, weights_C = anchor(objective, logprobs_C, behaviour_C, old_C, staleness_C, lag)
        signal_C, lengths_C = own(batch.signal_T).to(logprobs_C.dtype), own(batch.lengths_T)
        terms = (logprobs_C, anchor_C, own(batch.advantages_T), entropy_C * signal_C, alpha)
        clips = (objective.clip_low, objective.clip_high)
        match objective.loss:
            case "magic":
                loss_C = magic_token_loss(*terms, *clips, weights_T=weights_C)
            case "grpo":
                loss_C = grpo_token_loss(*terms, *clips, lengths_C, weights_T=weights_C)
            case "pg":
                loss_C = pg_token_loss(*terms, weights_T=weights_C)
        if objective.kl_beta == 0:
            return loss_C
        assert batch.reference_logprobs_T is not None, "the KL term needs the reference's log-probabilities"
        kl_C = objective.kl_beta * k3(logprobs_C, own(batch.reference_logprobs_T))
        kl_C = kl_C / lengths_C if objective.loss == "grpo" else kl_C
        return loss_C + (kl_C if objective.kl_groups == "all" else kl_C * signal_C)

    return module(batch, loss_of)


def _accumulate(
    policy: Policy, part: _MiniBatch, objective: Objective, alpha: float, lag: int, tally: _Tally, *, measure: bool
) -> None:
    """Forward and backward over a mini-batch, ``lag`` updates into the training step."""
    for number, batch in enumerate(part.batches):
        output = surrogate_sum(policy, batch, objective, alpha, lag / tally.updates)
        assert output.loss_sum is not None
        policy.backward(output.loss_sum, denominator=part.denominator, last=number == len(part.batches) - 1)
        tally.add_update(batch, output, lag, part.denominator)
        if measure:
            tally.add_measured(batch, output)


@torch.no_grad()
def _measured(policy: Policy, batches: Sequence[MicroBatch], tally: _Tally) -> list[MicroBatch]:
    """``batches`` with log π_old, by a forward pass before the training step's first update."""
    found = []
    for batch in batches:
        output = policy(batch)
        tally.add_measured(batch, output)
        found.append(replace(batch, old_logprobs_T=output.logprobs_T.cpu()))
    return found


# --- cutting ---------------------------------------------------------------------------------------------------------


def size_of(groups: Sequence[ScoredGroup], batches: Sequence[MicroBatch]) -> tuple[int, int]:
    """(trained tokens, responses) of ``groups``, whose micro-batches are ``batches``."""
    return sum(len(batch.taken_T) for batch in batches), sum(len(group.rewards_S[group.trained]) for group in groups)


def split(tickets: Sequence[int], train: Train) -> list[int]:
    """Which mini-batch each of the training step's groups falls into: D_T at a time, in ticket order."""
    ranks = np.argsort(np.argsort(np.asarray(tickets, dtype=np.int64), kind="stable"), kind="stable")
    return (ranks // (train.minibatch_groups or len(tickets))).tolist()


def _mini_batches(policy: Policy, groups: Sequence[ScoredGroup], version: int, config: Config) -> list[_MiniBatch]:
    own = [group.ticket.ticket for group in groups]
    everyone = sorted(set(_of_all_ranks(policy, own)))  # several ranks may share a group
    place = dict(zip(everyone, split(everyone, config.train), strict=True))
    parts = []
    for number in range(max(place.values(), default=0) + 1):
        mine = [group for group in groups if place[group.ticket.ticket] == number]
        batches = cut(mine, version=version, config=config)
        tokens, responses = policy.reduce(torch.tensor(size_of(mine, batches))).tolist()
        if tokens == 0:
            raise ValueError("a training step needs at least one response token on some rank")
        batches = _as_many_on_every_rank(policy, batches)
        batches = [policy.with_reference(batch) for batch in batches]
        parts.append(_MiniBatch(batches, denominator(config.objective.loss, tokens, responses)))
    return parts


def _of_all_ranks(policy: Policy, own: Sequence[int]) -> list[int]:
    """The concatenation of every rank's ``own``, by rank. Collective."""
    counts = torch.zeros(policy.world, dtype=torch.int64)
    counts[policy.rank] = len(own)
    counts = policy.reduce(counts)
    values = torch.zeros(int(counts.sum()), dtype=torch.int64)
    start = int(counts[: policy.rank].sum())
    values[start : start + len(own)] = torch.tensor(own, dtype=torch.int64)
    return policy.reduce(values).tolist()


def _as_many_on_every_rank(policy: Policy, batches: list[MicroBatch]) -> list[MicroBatch]:
    most = int(policy.reduce(torch.tensor(len(batches)), largest=True))
    return batches + [empty_micro_batch()] * (most - len(batches))


# --- counting --------------------------------------------------------------------------------------------------------


class _Tally:
    """Sums over tokens, gathered micro-batch by micro-batch and then over the ranks: of every token once, under π_old,
    by staleness; and of every token in every update, by staleness and by local lag."""

    COUNT, ABS_DIFF, WEIGHT, WEIGHT_SQUARED, ENTROPY, LOGPROB, STALENESS, CUT, USED, CLIPPED, BEYOND = range(11)
    LAG_COUNT, LAG_CLIPPED, LAG_SHIFT, LAG_KL = range(4)

    def __init__(self, objective: Objective, updates: int) -> None:
        self.objective, self.updates = objective, updates
        self.loss = torch.zeros((), dtype=torch.float64)
        self.sums = torch.zeros(0, 11, dtype=torch.float64)
        self.by_lag = torch.zeros(updates, 4, dtype=torch.float64)
        self.largest = torch.zeros(0, dtype=torch.float64)

    def add_measured(self, batch: MicroBatch, output: TokenOutput) -> None:
        """``output``: under π_old. Every token of the step once."""
        logprobs_T = output.logprobs_T.detach().cpu().double()
        diff_T = logprobs_T - batch.behaviour_logprobs_T.double()
        weight_T = ratio(diff_T)  # π_old/μ
        columns = {
            self.COUNT: torch.ones_like(diff_T),
            self.ABS_DIFF: diff_T.abs(),
            self.WEIGHT: weight_T,
            self.WEIGHT_SQUARED: weight_T.square(),
            self.ENTROPY: output.entropy_T.detach().cpu().double(),
            self.LOGPROB: logprobs_T,
            self.STALENESS: batch.staleness_T.double(),
            self.CUT: outside(self.objective, diff_T).double(),
            self.BEYOND: beyond(diff_T).double(),
        }
        self._add(batch, columns)
        self.largest.scatter_reduce_(0, batch.staleness_T, diff_T.abs(), "amax")

    def add_update(self, batch: MicroBatch, output: TokenOutput, lag: int, denominator: int) -> None:
        """``output``: of the update that is the training step's ``lag``-th."""
        assert output.loss_sum is not None
        self.loss += output.loss_sum.detach().cpu().double() / denominator / self.updates
        logprobs_T = output.logprobs_T.cpu()
        old_T = logprobs_T if batch.old_logprobs_T is None else batch.old_logprobs_T
        clipped_T = self._clipped(batch, logprobs_T, lag).double()
        self._add(batch, {self.USED: torch.ones_like(clipped_T), self.CLIPPED: clipped_T})
        self.by_lag[lag, self.LAG_COUNT] += len(logprobs_T)
        self.by_lag[lag, self.LAG_CLIPPED] += clipped_T.sum()
        self.by_lag[lag, self.LAG_SHIFT] += (logprobs_T.double() - old_T.double()).abs().sum()
        if batch.reference_logprobs_T is not None:
            self.by_lag[lag, self.LAG_KL] += k3(logprobs_T.double(), batch.reference_logprobs_T.double()).sum()

    def _clipped(self, batch: MicroBatch, logprobs_T: Tensor, lag: int) -> Tensor:
        objective = self.objective
        if objective.loss == "pg":
            return torch.zeros(len(logprobs_T), dtype=torch.bool)
        anchor_T, _ = anchor(
            objective,
            logprobs_T,
            batch.behaviour_logprobs_T,
            batch.old_logprobs_T,
            batch.staleness_T,
            lag / self.updates,
        )
        return clipped_tokens(logprobs_T, anchor_T, batch.advantages_T, objective.clip_low, objective.clip_high)

    def _add(self, batch: MicroBatch, columns: dict[int, Tensor]) -> None:
        self._grow(int(batch.staleness_T.max()) + 1 if len(batch.staleness_T) else 0)
        for column, values_T in columns.items():
            self.sums[:, column].index_add_(0, batch.staleness_T, values_T)

    def _grow(self, buckets: int) -> None:
        more = buckets - len(self.sums)
        if more > 0:
            self.sums = torch.cat([self.sums, self.sums.new_zeros(more, self.sums.shape[1])])
            self.largest = torch.cat([self.largest, self.largest.new_zeros(more)])

    def entropy(self, policy: Policy, estimate: str) -> float:
        """e_k over all ranks: exact, or -mean log π_old of the sampled tokens. Collective."""
        count, entropy, logprob = policy.reduce(self.sums.sum(0))[[self.COUNT, self.ENTROPY, self.LOGPROB]].tolist()
        return (entropy if estimate == "exact" else -logprob) / count

    def metrics(self, policy: Policy) -> dict[str, float]:
        """Over all ranks. Collective."""
        self._grow(int(policy.reduce(torch.tensor(len(self.sums)), largest=True)))
        sums, largest = policy.reduce(self.sums), policy.reduce(self.largest, largest=True)
        total, loss = sums.sum(0), float(policy.reduce(self.loss))
        tokens = float(total[self.COUNT])
        metrics = {
            "loss": loss,
            "entropy/policy": float(total[self.ENTROPY]) / tokens,
            "entropy/sampled": -float(total[self.LOGPROB]) / tokens,
            "batch/tokens": tokens,
            "staleness/token_mean": float(total[self.STALENESS]) / tokens,
            "logprob/beyond_bound": float(total[self.BEYOND]),
            **self._drift(total, float(largest.max()), ""),
            **self._lags(policy.reduce(self.by_lag)),
        }
        for staleness in torch.nonzero(sums[:, self.COUNT]).flatten().tolist():
            count = float(sums[staleness, self.COUNT])
            metrics[f"tokens/staleness_{staleness}"] = count
            metrics[f"entropy/policy/staleness_{staleness}"] = float(sums[staleness, self.ENTROPY]) / count
            metrics |= self._drift(sums[staleness], float(largest[staleness]), f"/staleness_{staleness}")
        return metrics

    def _drift(self, sums: Tensor, largest: float, suffix: str) -> dict[str, float]:
        count = float(sums[self.COUNT])
        drift = {
            f"logprob/abs_diff_mean{suffix}": float(sums[self.ABS_DIFF]) / count,
            f"logprob/abs_diff_max{suffix}": largest,
            # (Σw)²/(n Σw²): the share of the tokens that the same weights, all equal, would be worth
            f"logprob/ess{suffix}": float(sums[self.WEIGHT].square() / (count * sums[self.WEIGHT_SQUARED])),
            f"policy/clip_fraction{suffix}": float(sums[self.CLIPPED] / sums[self.USED]),
        }
        if self.objective.correction != "none":
            drift[f"policy/correction_bounded{suffix}"] = float(sums[self.CUT]) / count
        return drift

    def _lags(self, by_lag: Tensor) -> dict[str, float]:
        count = by_lag[:, self.LAG_COUNT]
        metrics = {"policy/updates": float(self.updates)}
        if self.objective.kl_beta > 0:
            metrics["kl/reference"] = float(by_lag[:, self.LAG_KL].sum() / count.sum())
        if self.updates == 1:
            return metrics
        metrics["staleness/local_lag_mean"] = float((count * torch.arange(self.updates)).sum() / count.sum())
        for lag in range(self.updates):
            metrics[f"tokens/lag_{lag}"] = float(count[lag])
            metrics[f"policy/clip_fraction/lag_{lag}"] = float(by_lag[lag, self.LAG_CLIPPED] / count[lag])
            metrics[f"policy/shift/lag_{lag}"] = float(by_lag[lag, self.LAG_SHIFT] / count[lag])
        return metrics


def _batch_metrics(policy: Policy, groups: Sequence[ScoredGroup], version: int) -> dict[str, float]:
    """What the groups were like: rewards, lengths, head staleness. Collective."""
    none = np.zeros(0)
    lengths_S = np.concatenate([none, *(group.responses.lengths_S[group.trained] for group in groups)])
    # A group that ranks share counts where its first response is.
    begun = [group for group in groups if group.trained.start == 0]
    heads_G = np.array([staleness_of(group.responses, version).max(initial=0) for group in begun], dtype=np.float64)
    sums = [
        len(begun),
        len(lengths_S),
        sum(float(group.rewards_S[group.trained].sum()) for group in groups),
        float(lengths_S.sum()),
        sum(int((group.responses.finished_S[group.trained] == 0).sum()) for group in groups),
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
