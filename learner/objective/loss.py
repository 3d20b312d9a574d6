"""The MAGIC loss, token by token (report 3.1). Pure."""

from __future__ import annotations

import torch
from torch import Tensor


def magic_token_loss(
    logprobs_T: Tensor,
    behaviour_logprobs_T: Tensor,
    advantages_T: Tensor,
    entropy_T: Tensor,
    alpha: float,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """-[min(ρ A, clip(ρ, 1-clip_low, 1+clip_high) A) + α H] of every token, ρ = π_θ/μ (report 3.1, ratio coupled).

    All tensors have shape [T] and one floating dtype; log-probabilities in nats. The loss of an optimizer step is
    the sum over **all** its tokens divided by N_tok, their number on all ranks and in all micro-batches: dividing in
    each micro-batch, as the released code does, would weigh tokens by how the batch happens to be cut.
    """
    ratio_T = torch.exp(logprobs_T - behaviour_logprobs_T)
    clipped_T = ratio_T.clamp(1.0 - clip_low, 1.0 + clip_high)
    surrogate_T = torch.minimum(ratio_T * advantages_T, clipped_T * advantages_T)
    if alpha == 0.0:
        return -surrogate_T  # entropy stays out of the graph, which spares the token op its gradient
    return -(surrogate_T + alpha * entropy_T)


def clipped_tokens(
    logprobs_T: Tensor, behaviour_logprobs_T: Tensor, advantages_T: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """Where the clip took the gradient away: ρ > 1+clip_high with A > 0, or ρ < 1-clip_low with A < 0. Bool [T]."""
    ratio_T = torch.exp(logprobs_T - behaviour_logprobs_T)
    above_T = (ratio_T > 1.0 + clip_high) & (advantages_T > 0)
    below_T = (ratio_T < 1.0 - clip_low) & (advantages_T < 0)
    return above_T | below_T
