"""Ratios of probabilities from differences of their logarithms, kept where floating point can hold them. Pure."""

from __future__ import annotations

import torch
from torch import Tensor

LOG_RATIO_BOUND = 20.0
"""Nats. e^20 is 4.9e8: beyond that a ratio says no more than that two policies have nothing to do with each other, and
in float32 its products overflow to ∞ and, with an advantage of 0, to NaN."""


def bounded(log_ratio_T: Tensor) -> Tensor:
    """``log_ratio_T`` within ±``LOG_RATIO_BOUND``; beyond it no gradient flows. Within it, the same bits.

    The second term is 0 but where the log ratio is no number: a clamp alone would give that a gradient of 0, and a
    broken policy would go on unseen.
    """
    return log_ratio_T.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND) + 0.0 * log_ratio_T


def ratio(log_ratio_T: Tensor) -> Tensor:
    """e^x of the bounded log ratio."""
    return torch.exp(bounded(log_ratio_T))


def beyond(log_ratio_T: Tensor) -> Tensor:
    """Which log ratios the bound changes. Bool [T]."""
    return log_ratio_T.abs() > LOG_RATIO_BOUND
