"""Group-relative advantages (report 2.5) and masks for truncated responses (report 3.2.3). Pure."""

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np

from ...common.config import Baseline, Deviation, Mask, Objective

LEAST_SPREAD = 1e-6
"""The default of ``objective.least_spread``."""


def has_signal(
    rewards_S: np.ndarray,
    finished_S: np.ndarray | None = None,
    mask: Mask = "none",
    least_spread: float = LEAST_SPREAD,
) -> bool:
    """Whether a group has a signal: some advantage is not 0 (report 3.1, the set T̃).

    ``rewards_S``: shape [S]. ``finished_S``: which responses came to an end, bool or 0/1 [S]; a mask needs it.
    ``least_spread``: rewards that lie no further apart count as equal, since sums of floats that are equal on paper
    differ by rounding.
    """
    rewards_S = np.asarray(rewards_S)
    if mask == "none":
        return _differ(rewards_S, least_spread)
    ended_S = _ended(rewards_S, finished_S)
    # ``after``: finished responses with equal rewards still differ from a mean that truncated ones have a part in.
    return int(ended_S.sum()) >= 2 and _differ(rewards_S[ended_S] if mask == "before" else rewards_S, least_spread)


def counts(rewards_S: np.ndarray, finished_S: np.ndarray, objective: Objective) -> bool:
    """Whether a group is one of the D_R groups of a batch: those have a signal by the rules of ``objective`` (report
    3.1, rejection sampling)."""
    return has_signal(rewards_S, finished_S, objective.advantage_mask, objective.least_spread)


def is_trained(rewards_S: np.ndarray, finished_S: np.ndarray, objective: Objective) -> bool:
    """Whether a group enters the batch: as one of those that count, or beside them where a KL term runs over all
    groups."""
    return objective.kl_groups == "all" or counts(rewards_S, finished_S, objective)


class BatchRewards(NamedTuple):
    """The training step's batch, where advantages depend on it: what is left of the rewards once the baseline of their
    group is subtracted, or the rewards themselves where the batch is the baseline."""

    mean: float
    std: float
    """Divided by n-1; 0 for a single response."""

    @classmethod
    def of(cls, sums: Iterable[float]) -> Self:
        """From ``sums_of``, added up over groups and ranks."""
        count, total, squares = sums
        mean = total / max(1.0, count)  # under a mask, every response may be truncated
        return cls(mean, max(0.0, (squares - count * mean * mean) / max(1.0, count - 1)) ** 0.5)


def sums_of(rewards_S: np.ndarray, finished_S: np.ndarray, objective: Objective) -> np.ndarray:
    """A group's part of the ``BatchRewards``: how many, their sum, the sum of their squares. float64 [3]."""
    rewards_S = np.asarray(rewards_S, dtype=np.float64)
    counted = rewards_S[_ended(rewards_S, finished_S)] if objective.advantage_mask == "before" else rewards_S
    if objective.advantage_baseline != "batch" and len(counted):
        counted = _above(counted, counted, objective.advantage_baseline, None)
    return np.array([len(counted), counted.sum(), np.square(counted).sum()])


def group_advantages(
    rewards_S: np.ndarray,
    std: Deviation = "unbiased",
    eps: float = 1e-6,
    *,
    baseline: Baseline = "mean",
    finished_S: np.ndarray | None = None,
    mask: Mask = "none",
    least_spread: float = LEAST_SPREAD,
    of_batch: BatchRewards | None = None,
) -> np.ndarray:
    """A_j = (r_j - mean r) / (std r + eps) for each of the group's S responses (report 2.5).

    ``rewards_S``: shape [S]. ``std``: divided by S-1 ("unbiased", as in the released code) or by S; ``none``: nothing
    is divided; ``batch``: the batch's. ``eps``: the report gives none, the released code has 1e-6. ``baseline``: what
    is subtracted, as ``objective.advantage_baseline`` says. ``mask``: what truncated responses get, those not in
    ``finished_S`` [S]. ``none``: the same as others; ``before``: 0, and mean and std are those of the others;
    ``after``: 0. ``of_batch``: needed where baseline or std is the batch's. Returns float64 [S]: exact zeros where the
    group has no signal (``has_signal``); under a mask that takes two untruncated responses.
    """
    rewards_S = np.asarray(rewards_S, dtype=np.float64)
    if not has_signal(rewards_S, finished_S, mask, least_spread):
        return np.zeros_like(rewards_S)  # the mean of equal rewards may be off by an ulp, which eps would blow up
    if mask == "none":
        return _normalised(rewards_S, rewards_S, std, eps, baseline, of_batch)
    ended_S = _ended(rewards_S, finished_S)
    counted = rewards_S[ended_S] if mask == "before" else rewards_S
    return np.where(ended_S, _normalised(rewards_S, counted, std, eps, baseline, of_batch), 0.0)


def _normalised(
    rewards_S: np.ndarray,
    counted: np.ndarray,
    std: Deviation,
    eps: float,
    baseline: Baseline,
    of_batch: BatchRewards | None,
) -> np.ndarray:
    above_S = _above(rewards_S, counted, baseline, of_batch)
    if std == "none":
        return above_S
    if std == "batch":
        assert of_batch is not None, "the batch's deviation is asked for"
        return above_S / (of_batch.std + eps)
    return above_S / (float(counted.std(ddof=1 if std == "unbiased" else 0)) + eps)


def _above(rewards_S: np.ndarray, counted: np.ndarray, baseline: Baseline, of_batch: BatchRewards | None) -> np.ndarray:
    """The rewards above their baseline. A response that is counted is not in its own baseline under
    ``leave_one_out``: r - (Σ - r)/(n-1) = n/(n-1)·(r - mean)."""
    if baseline == "batch":
        assert of_batch is not None, "the batch's mean is asked for"
        return rewards_S - of_batch.mean
    above_S: np.ndarray = rewards_S - float(counted.mean())
    if baseline != "leave_one_out" or len(counted) == 1:  # one response alone has no others, and stays at 0
        return above_S
    return above_S * (len(counted) / (len(counted) - 1))


def _differ(rewards: np.ndarray, least_spread: float) -> bool:
    return bool(rewards.size) and float(rewards.max()) - float(rewards.min()) > least_spread


def _ended(rewards_S: np.ndarray, finished_S: np.ndarray | None) -> np.ndarray:
    assert finished_S is not None, "a mask needs to know what was truncated"
    assert len(finished_S) == len(rewards_S)
    return np.asarray(finished_S).astype(bool)
