"""Behaviour correction: the anchor of the ratio when the sampler's policy μ is older than the learner's. Pure.

``none``: ρ = π_θ/μ (coupled). The others: ρ = π_θ/π_old, where π_old is the policy at the start of the training step.
``old`` leaves it at that, whatever sampled the data (report 3.1). ``decoupled`` and ``loglinear`` also weight the
token's advantage with the bounded π_old/μ.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...common.config import Objective
from .ratio import ratio


class Anchor(NamedTuple):
    """The denominator of each token's ratio, and the token's weight. Neither carries a gradient."""

    logprobs_T: Tensor
    """Log-probability in the ratio's denominator: log μ or log π_old, in nats."""
    weights_T: Tensor | None
    """Bounded π_old/μ. ``None``: 1 for every token."""


def anchor(
    objective: Objective,
    logprobs_T: Tensor,
    behaviour_logprobs_T: Tensor,
    old_logprobs_T: Tensor | None,
    staleness_T: Tensor,
    lag: float,
    log_weights_T: Tensor | None = None,
) -> Anchor:
    """The anchor of every token, from log π_θ, log μ, log π_old (``None``: not computed) and the staleness in versions,
    all [T].

    ``log_weights_T``: log π_old/μ of the tokens' responses, where ``objective.correction_level`` is not the token.
    ``lag``: local lag as a share of the training step, updates made / N_SGD. It is 0 in the first update, where π_θ is
    π_old.
    """
    if objective.correction == "none":
        return Anchor(behaviour_logprobs_T, None)
    if lag == 0.0:
        old_T = logprobs_T.detach()
    elif objective.correction == "loglinear":
        old_T = loglinear(logprobs_T.detach(), behaviour_logprobs_T, staleness_T, lag)
    else:
        assert old_logprobs_T is not None, f"{objective.correction} needs log π_old after the first update"
        old_T = old_logprobs_T
    if objective.correction == "old":
        return Anchor(old_T, None)
    own_T = old_T - behaviour_logprobs_T if log_weights_T is None else log_weights_T
    return Anchor(old_T, bounded_weights(objective, own_T))


def loglinear(logprobs_T: Tensor, behaviour_logprobs_T: Tensor, staleness_T: Tensor, lag: float) -> Tensor:
    """log π_old by interpolation: on a straight line over the version, from log μ at v - staleness to log π_θ at v +
    lag.

    ``lag`` > 0. At staleness 0 it is log μ, since π_old is then the sampler's policy.
    """
    share_T = staleness_T.to(logprobs_T.dtype) / (staleness_T.to(logprobs_T.dtype) + lag)
    return behaviour_logprobs_T + share_T * (logprobs_T - behaviour_logprobs_T)


def bounded_weights(objective: Objective, log_weights_T: Tensor) -> Tensor:
    """w = π_old/μ of every token, at most C (``truncate``), or 0 outside the range (``mask``)."""
    weights_T = ratio(log_weights_T)
    if objective.correction_bound == "truncate":
        return weights_T.clamp(max=objective.correction_cap)
    return torch.where(outside(objective, log_weights_T), torch.zeros_like(weights_T), weights_T)


def outside(objective: Objective, log_weights_T: Tensor) -> Tensor:
    """For each token, whether the bound changes its weight. Bool [T]."""
    weights_T = ratio(log_weights_T)
    if objective.correction_bound == "truncate":
        return weights_T > objective.correction_cap
    low, high = objective.correction_range
    return (weights_T < low) | (weights_T > high)
