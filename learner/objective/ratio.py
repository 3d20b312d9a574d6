"""Ratios of probabilities from differences of their logarithms, bounded so that floating point can hold them. Pure."""

import torch
from torch import Tensor

LOG_RATIO_BOUND = 20.0
"""Nats; e^20 is 4.9e8. A larger ratio says only that the two policies have nothing to do with each other. In float32
its products would overflow to ∞ and, with an advantage of 0, to NaN."""


def bounded(log_ratio_T: Tensor) -> Tensor:
    """``log_ratio_T`` clamped to ±``LOG_RATIO_BOUND``; beyond it no gradient flows. Within it the bits stay the same.

    The second term is 0, except where the log ratio is NaN or infinite. A clamp alone would give that a gradient of 0,
    and a broken policy would go unnoticed.
    """
    return log_ratio_T.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND) + 0.0 * log_ratio_T


def ratio(log_ratio_T: Tensor) -> Tensor:
    """e^x of the bounded log ratio."""
    return torch.exp(bounded(log_ratio_T))


def beyond(log_ratio_T: Tensor) -> Tensor:
    """For each log ratio, whether the bound changes it. Bool [T]."""
    return log_ratio_T.abs() > LOG_RATIO_BOUND
