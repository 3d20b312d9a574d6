"""What a training step counts over all ranks: sums over its tokens by staleness and by local lag, and its groups'
rewards and lengths. Every number is the same on each rank."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..common.config import Objective
from . import memory, own_loss
from .objective.correction import anchor, outside
from .objective.loss import Tokens, beyond_bound, bounded_tokens, k3
from .objective.ratio import beyond, ratio
from .objective.token_op import TokenOutput
from .packing import MicroBatch, ScoredGroup, staleness_of
from .policy import Policy
from .sequence_ratios import SequenceRatios


class Tally:
    """Sums over tokens, taken micro-batch by micro-batch and then over the ranks. Some have every token once, under
    π_old, by staleness. Others have every token in every update, by staleness and by local lag."""

    COUNT, ABS_DIFF, WEIGHT, WEIGHT_SQUARED, ENTROPY, LOGPROB, STALENESS, CUT, USED, CLIPPED = range(10)
    UP, UP_ENTROPY, DOWN, DOWN_ENTROPY = range(10, 14)  # tokens with an advantage above 0, and with one below
    COLUMNS = 14
    LAG_COUNT, LAG_CLIPPED, LAG_SHIFT, LAG_KL = range(4)
    OF_DRIFT, OF_WEIGHT, OF_RATIO, OF_KL = range(4)

    def __init__(self, objective: Objective, updates: int, *, against_reference: bool = False) -> None:
        """``updates``: N_SGD. ``against_reference``: micro-batches have log π_ref."""
        self.objective, self.updates, self.against_reference = objective, updates, against_reference
        self.loss = torch.zeros((), dtype=torch.float64)
        self.sums = torch.zeros(0, self.COLUMNS, dtype=torch.float64)
        self.by_lag = torch.zeros(updates, 4, dtype=torch.float64)
        self.largest = torch.zeros(0, dtype=torch.float64)
        self.ratios = SequenceRatios(updates)
        self.beyond = torch.zeros(4, dtype=torch.float64)

    def add_measured(self, batch: MicroBatch, output: TokenOutput) -> None:
        """Add a micro-batch's ``output`` under π_old. Every token of the step is added once."""
        logprobs_T = output.logprobs_T.detach().cpu().double()
        diff_T = logprobs_T - batch.behaviour_logprobs_T.double()
        weight_T = ratio(diff_T)  # π_old/μ
        entropy_T = output.entropy_T.detach().cpu().double()
        up_T, down_T = (batch.advantages_T > 0).double(), (batch.advantages_T < 0).double()
        columns = {
            self.COUNT: torch.ones_like(diff_T),
            self.ABS_DIFF: diff_T.abs(),
            self.WEIGHT: weight_T,
            self.WEIGHT_SQUARED: weight_T.square(),
            self.ENTROPY: entropy_T,
            self.LOGPROB: logprobs_T,
            self.STALENESS: batch.staleness_T.double(),
            self.CUT: outside(self.objective, _weighed(batch, diff_T)).double(),
            self.UP: up_T,
            self.UP_ENTROPY: up_T * entropy_T,
            self.DOWN: down_T,
            self.DOWN_ENTROPY: down_T * entropy_T,
        }
        self._add(batch, columns)
        self.beyond[self.OF_DRIFT] += beyond(diff_T).sum()
        self.beyond[self.OF_WEIGHT] += beyond(_weighed(batch, diff_T)).sum()
        self.ratios.add(0, diff_T, batch.responses_T)
        self.largest.scatter_reduce_(0, batch.staleness_T, diff_T.abs(), "amax")

    def add_update(self, batch: MicroBatch, output: TokenOutput, lag: int, denominator: int) -> None:
        """Add a micro-batch's ``output`` in an update, before which the training step has made ``lag`` updates."""
        assert output.loss_sum is not None
        self.loss += output.loss_sum.detach().cpu().double() / denominator / self.updates
        logprobs_T = output.logprobs_T.cpu()
        old_T = logprobs_T if batch.old_logprobs_T is None else batch.old_logprobs_T
        tokens, own = self._tokens(batch, logprobs_T, lag), own_loss.of(self.objective)
        clipped_T = bounded_tokens(self.objective, tokens) if own is None else own.stopped(len(logprobs_T))
        clipped_T = clipped_T.double()
        self.beyond[self.OF_RATIO] += beyond_bound(tokens).sum()
        self._add(batch, {self.USED: torch.ones_like(clipped_T), self.CLIPPED: clipped_T})
        self.by_lag[lag, self.LAG_COUNT] += len(logprobs_T)
        self.by_lag[lag, self.LAG_CLIPPED] += clipped_T.sum()
        shift_T = logprobs_T.double() - old_T.double()
        self.by_lag[lag, self.LAG_SHIFT] += shift_T.abs().sum()
        if lag:  # in the first update it is 1
            self.ratios.add(lag, shift_T, batch.responses_T)
        if batch.reference_logprobs_T is not None:
            self.by_lag[lag, self.LAG_KL] += k3(logprobs_T.double(), batch.reference_logprobs_T.double()).sum()
            self.beyond[self.OF_KL] += beyond(batch.reference_logprobs_T - logprobs_T).sum()

    def _tokens(self, batch: MicroBatch, logprobs_T: Tensor, lag: int) -> Tokens:
        objective = self.objective
        anchor_T, _ = anchor(
            objective,
            logprobs_T,
            batch.behaviour_logprobs_T,
            batch.old_logprobs_T,
            batch.staleness_T,
            lag / self.updates,
        )
        terms = (logprobs_T, logprobs_T, anchor_T, batch.advantages_T, batch.lengths_T)
        return Tokens(*terms, log_ratio_T=batch.log_ratio_T)

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
        """e_k over all ranks, in nats per token: exact, or -mean log π_old of the sampled tokens. Collective."""
        count, entropy, logprob = policy.reduce(self.sums.sum(0))[[self.COUNT, self.ENTROPY, self.LOGPROB]].tolist()
        return (entropy if estimate == "exact" else -logprob) / count

    def metrics(self, policy: Policy) -> dict[str, float]:
        """The metrics by name, over all ranks. Collective."""
        self._grow(int(policy.reduce(torch.tensor(len(self.sums)), largest=True)))
        own = (self.sums, self.by_lag, self.ratios.sums, self.beyond, self.loss)
        sums, by_lag, ratios, beyond_sums, loss = reduced(policy, *own)
        largest, extremes = reduced(policy, self.largest, self.ratios.extremes, largest=True)
        total = sums.sum(0)
        tokens = float(total[self.COUNT])
        metrics = {
            "loss": float(loss),
            "entropy/policy": float(total[self.ENTROPY]) / tokens,
            "entropy/sampled": -float(total[self.LOGPROB]) / tokens,
            "batch/tokens": tokens,
            "staleness/token_mean": float(total[self.STALENESS]) / tokens,
            **self._beyond(beyond_sums),
            **self._drift(total, float(largest.max()), ""),
            **self._by_sign(total),
            **SequenceRatios.metrics(ratios, extremes),
            **self._lags(by_lag),
        }
        for staleness in torch.nonzero(sums[:, self.COUNT]).flatten().tolist():
            count = float(sums[staleness, self.COUNT])
            metrics |= {
                f"tokens/staleness_{staleness}": count,
                f"entropy/policy/staleness_{staleness}": float(sums[staleness, self.ENTROPY]) / count,
                **self._drift(sums[staleness], float(largest[staleness]), f"/staleness_{staleness}"),
            }
        return metrics

    def _beyond(self, sums: Tensor) -> dict[str, float]:
        metrics = {"logprob/beyond_bound": float(sums[self.OF_DRIFT])}
        if not self.objective.own_loss:  # what a loss of the user's exponentiates, nobody bounds
            metrics["policy/beyond_bound"] = float(sums[self.OF_RATIO])
        if self.objective.correction_level != "token":
            metrics["policy/correction_beyond_bound"] = float(sums[self.OF_WEIGHT])
        if self.against_reference:
            metrics["kl/beyond_bound"] = float(sums[self.OF_KL])
        return metrics

    def _by_sign(self, sums: Tensor) -> dict[str, float]:
        """The entropy of the tokens whose response is pushed up, and of those pushed down, where there are any."""
        signs = {"up": (self.UP, self.UP_ENTROPY), "down": (self.DOWN, self.DOWN_ENTROPY)}
        return {
            f"entropy/policy/{name}": float(sums[entropy] / sums[count])
            for name, (count, entropy) in signs.items()
            if sums[count]
        }

    def _drift(self, sums: Tensor, largest: float, suffix: str) -> dict[str, float]:
        count = float(sums[self.COUNT])
        drift = {
            f"logprob/abs_diff_mean{suffix}": float(sums[self.ABS_DIFF]) / count,
            f"logprob/abs_diff_max{suffix}": largest,
            # (Σw)²/(n Σw²): the share of the tokens that would be worth as much with equal weights
            f"logprob/ess{suffix}": float(sums[self.WEIGHT].square() / (count * sums[self.WEIGHT_SQUARED])),
            f"policy/clip_fraction{suffix}": float(sums[self.CLIPPED] / sums[self.USED]),
        }
        if self.objective.correction in ("decoupled", "loglinear"):
            drift[f"policy/correction_bounded{suffix}"] = float(sums[self.CUT]) / count
        return drift

    def _lags(self, by_lag: Tensor) -> dict[str, float]:
        count = by_lag[:, self.LAG_COUNT]
        metrics = {"policy/updates": float(self.updates)}
        if self.against_reference:
            metrics["kl/reference"] = float(by_lag[:, self.LAG_KL].sum() / count.sum())
        if self.updates == 1:
            return metrics
        metrics["staleness/local_lag_mean"] = float((count * torch.arange(self.updates)).sum() / count.sum())
        for lag in range(self.updates):
            metrics |= {
                f"tokens/lag_{lag}": float(count[lag]),
                f"policy/clip_fraction/lag_{lag}": float(by_lag[lag, self.LAG_CLIPPED] / count[lag]),
                f"policy/shift/lag_{lag}": float(by_lag[lag, self.LAG_SHIFT] / count[lag]),
            }
        return metrics


def reduced(policy: Policy, *tensors: Tensor, largest: bool = False) -> list[Tensor]:
    """Element-wise sums (or maxima) over the ranks of several float64 tensors, in one exchange. Collective."""
    flat = policy.reduce(torch.cat([tensor.flatten() for tensor in tensors]), largest=largest)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def _weighed(batch: MicroBatch, log_weights_T: Tensor) -> Tensor:
    """log π_old/μ of what the correction weighs: the token, or its response where that is found."""
    return log_weights_T if batch.log_weights_T is None else batch.log_weights_T.double()


def batch_metrics(policy: Policy, groups: Sequence[ScoredGroup], version: int) -> dict[str, float]:
    """Rewards, lengths in sampled tokens and head staleness of the groups, and the largest rank's memory, as metrics by
    name. Collective."""
    none = np.zeros(0)
    lengths_S = np.concatenate([none, *(group.responses.sampled_S[group.trained_S] for group in groups)])
    # A group that several ranks share is counted on the rank that has its first response.
    begun = [group for group in groups if group.trained_S[0]]
    heads_G = np.array([staleness_of(group.responses, version).max(initial=0) for group in begun], dtype=np.float64)
    sums = [
        len(begun),
        len(lengths_S),
        sum(float(group.rewards_S[group.trained_S].sum()) for group in groups),
        float(lengths_S.sum()),
        sum(int((group.responses.finished_S[group.trained_S] == 0).sum()) for group in groups),
        float(heads_G.sum()),
    ]
    count, responses, rewards, length, truncated, head = policy.reduce(torch.tensor(sums, dtype=torch.float64)).tolist()
    most = [float(lengths_S.max(initial=0)), float(heads_G.max(initial=0)), *map(float, memory.peaks())]
    longest, oldest, device, host = policy.reduce(torch.tensor(most, dtype=torch.float64), largest=True).tolist()
    return {
        "batch/groups": count,
        "batch/responses": responses,
        "reward/trained_mean": rewards / responses,
        "response/length_mean": length / responses,
        "response/length_max": longest,
        "response/truncated_share": truncated / responses,
        "staleness/head_mean": head / count,
        "staleness/head_max": oldest,
        "memory/device_peak_bytes": device,
        "memory/host_peak_bytes": host,
    }
