"""The ratios of whole responses that a training step meets: how far the policy has moved on each response, whatever the
loss makes of it. Every number is the same however the step is cut, because a response lies whole in a micro-batch."""

import torch
from torch import Tensor

from .objective.ratio import ratio
from .objective.sequences import mean_of_each


class SequenceRatios:
    """Adds up the geometric mean of a ratio over each response's trained tokens. Row 0 is π_old/μ, with every response
    once; row l, of the update with local lag l, is π_θ/π_old."""

    COUNT, ABOVE_ONE, SQUARED = range(3)

    def __init__(self, updates: int) -> None:
        self.sums = torch.zeros(updates, 3, dtype=torch.float64)
        self.extremes = torch.full((updates, 2), -torch.inf, dtype=torch.float64)
        """The largest ratio, and the smallest with its sign changed, so that over ranks both are maxima."""

    def add(self, row: int, log_ratios_T: Tensor, responses_T: Tensor) -> None:
        """Add a micro-batch. ``log_ratios_T``: float [T], nats; ``responses_T``: int64 [T]."""
        if not len(log_ratios_T):
            return
        ratios_S = ratio(mean_of_each(log_ratios_T, responses_T))
        # A ratio is close to 1 as a rule. What it is above 1 is added up, so that the spread loses no digits.
        above_S = ratios_S - 1.0
        self.sums[row] += torch.stack([torch.ones_like(above_S), above_S, above_S.square()]).sum(1)
        largest = torch.stack([ratios_S.max(), -ratios_S.min()])
        self.extremes[row] = torch.maximum(self.extremes[row], largest)

    @classmethod
    def metrics(cls, sums: Tensor, extremes: Tensor) -> dict[str, float]:
        """The metrics by name, of what all ranks have added up."""
        metrics: dict[str, float] = {}
        for row, (of_row, (largest, smallest)) in enumerate(zip(sums, extremes.tolist(), strict=True)):
            count = float(of_row[cls.COUNT])
            if not count:
                continue
            name, suffix = ("policy", f"/lag_{row}") if row else ("logprob", "")
            mean = float(of_row[cls.ABOVE_ONE]) / count
            spread = max(0.0, float(of_row[cls.SQUARED]) / count - mean * mean) ** 0.5
            metrics |= {
                f"{name}/sequence_ratio_mean{suffix}": 1.0 + mean,
                f"{name}/sequence_ratio_std{suffix}": spread,
                f"{name}/sequence_ratio_max{suffix}": largest,
                f"{name}/sequence_ratio_min{suffix}": -smallest,
            }
        return metrics
