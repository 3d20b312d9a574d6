"""Log ratios of whole responses, from those of their tokens. Pure.

They run over the trained tokens of a response: not over those that an environment wrote, nor over those that
``flow.overflow = "mask"`` leaves out. What is truncated counts like anything else. A response lies whole in one
micro-batch, so how a batch is cut makes no difference.
"""

import torch
from torch import Tensor

from ...common.config import Level


def of_responses(log_ratios_T: Tensor, responses_T: Tensor, lengths_T: Tensor, level: Level) -> Tensor:
    """For each token the log ratio of its response: the sum over its tokens (``sequence``), or their mean, which is the
    log of the geometric mean (``geometric``); its own for ``token``.

    ``log_ratios_T``: float [T], nats. ``responses_T``: int64 [T], which response a token belongs to. ``lengths_T``:
    int64 [T], trained tokens of that response. No gradient.
    """
    if level == "token" or not len(log_ratios_T):
        return log_ratios_T
    sums_S = torch.zeros(int(responses_T.max()) + 1, dtype=torch.float64, device=log_ratios_T.device)
    sums_S.index_add_(0, responses_T, log_ratios_T.detach().double())
    found_T = sums_S[responses_T]
    return (found_T / lengths_T if level == "geometric" else found_T).to(log_ratios_T.dtype)


def mean_of_each(values_T: Tensor, responses_T: Tensor) -> Tensor:
    """The mean over each response's tokens. ``values_T``: float [T]. ``responses_T``: int64 [T], which response a token
    belongs to; those of a response stand together. float64, one number a response, in their order."""
    _, place_T, lengths_S = torch.unique_consecutive(responses_T, return_inverse=True, return_counts=True)
    sums_S = torch.zeros(len(lengths_S), dtype=torch.float64)
    sums_S.index_add_(0, place_T, values_T.double())
    means_S: Tensor = sums_S / lengths_S
    return means_S
