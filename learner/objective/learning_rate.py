"""The learning rate of a training step: a base, a warm-up and a schedule, and how far the data may be trusted. Pure.

With b the base (``train.learning_rate``, of the step's stage or as an operator has turned it), W
``train.warmup_steps``, S ``train.steps`` and f ``train.final_share``, training step k = 0 … S-1 has::

    k < W       b·(k+1)/W                            so no step has a learning rate of 0
    constant    b
    linear      b·(1 - (1-f)·p)                      p = (k-W)/(S-1-W): 0 in the first step after the warm-up,
    cosine      b·(f + (1-f)·(1 + cos πp)/2)         1 in the run's last

It depends on the configuration and the step alone, so a run that is resumed goes on where it was.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...common.config import Config, LearningRateByEss


def learning_rate(config: Config, step: int) -> float:
    """The learning rate of training step ``step``. ``config``: the configuration in the step's stage."""
    train = config.train
    if step < train.warmup_steps:
        return train.learning_rate * ((step + 1) / train.warmup_steps)
    if train.schedule == "constant":
        return train.learning_rate
    past = (step - train.warmup_steps) / max(1, train.steps - 1 - train.warmup_steps)
    falls = past if train.schedule == "linear" else (1 - math.cos(math.pi * past)) / 2
    return train.learning_rate * (1 - (1 - train.final_share) * falls)


def ess_factor(ess: float, rule: LearningRateByEss) -> float:
    """What the learning rate of an update is multiplied by where its responses have the effective sample size ``ess``,
    as a share (0 to 1) of their number: √ess (VCPO, arXiv 2602.17616), or ess itself."""
    return {"none": 1.0, "sqrt": math.sqrt(ess), "linear": ess}[rule]


def response_log_weights(logprobs_T: Tensor, behaviour_T: Tensor, responses_T: Tensor) -> Tensor:
    """log π_old/μ of each response: the sum over its trained tokens. ``logprobs_T``, ``behaviour_T``: log π_old and
    log μ, float [T], nats. ``responses_T``: int64 [T], which response a token belongs to. Returns float64, one number
    a response that has a trained token."""
    found, place_T = torch.unique(responses_T, return_inverse=True)
    sums_S = torch.zeros(len(found), dtype=torch.float64)
    return sums_S.index_add_(0, place_T, logprobs_T.double() - behaviour_T.double())


def ess_sums(log_weights_S: Tensor, largest: float) -> Sequence[float]:
    """(B, Σw, Σw²) of B responses, with w in units of e^``largest``, so that nothing overflows."""
    weights_S = torch.exp(log_weights_S - largest)
    return float(len(weights_S)), float(weights_S.sum()), float(weights_S.square().sum())


def ess_share(count: float, weights: float, squares: float) -> float:
    """(Σw)²/(B·Σw²), from ``ess_sums`` over all ranks: 1 where all weights are equal, 1/B where one carries all."""
    return weights * weights / (count * squares)
