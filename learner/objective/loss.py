"""The losses, token by token: MAGIC (report 3.1), GRPO (2.4), vanilla policy gradient (2.3). Pure.

Each loss is the sum of its tokens' losses, divided by ``denominator``, which belongs to the whole optimizer step, on
all ranks and in all micro-batches. The released code divides in each micro-batch, which weighs tokens by how the batch
happens to be cut.

All tensors have shape [T] and one floating dtype; log-probabilities are in nats. ρ = π_θ/anchor, where the
anchor is μ or π_old (``objective.correction``). ``weights_T`` is the correction's weight w on a token's policy term
(``None``: 1).
Log ratios are bounded before they are exponentiated (``ratio.py``).
"""

import torch
from torch import Tensor

from ...common.config import Loss
from .ratio import bounded, ratio


def magic_token_loss(
    logprobs_T: Tensor,
    anchor_logprobs_T: Tensor,
    advantages_T: Tensor,
    entropy_T: Tensor,
    alpha: float,
    clip_low: float,
    clip_high: float,
    *,
    weights_T: Tensor | None = None,
) -> Tensor:
    """-[w·min(ρ A, clip(ρ, 1-clip_low, 1+clip_high) A) + α H] of every token (report 3.1). Divided by N_tok."""
    surrogate_T = _clipped_surrogate(logprobs_T, anchor_logprobs_T, advantages_T, clip_low, clip_high, weights_T)
    if alpha == 0.0:
        return -surrogate_T  # entropy stays out of the graph, so that the token op need not compute its gradient
    return -(surrogate_T + alpha * entropy_T)


def grpo_token_loss(
    logprobs_T: Tensor,
    anchor_logprobs_T: Tensor,
    advantages_T: Tensor,
    entropy_T: Tensor,
    alpha: float,
    clip_low: float,
    clip_high: float,
    lengths_T: Tensor,
    *,
    weights_T: Tensor | None = None,
) -> Tensor:
    """-(1/|y|)·[w·min(ρ A, clip(ρ, 1-clip_low, 1+clip_high) A) + α H] (report 2.4, where α = 0). Divided by the
    number of responses. ``lengths_T``: |y| of the token's response."""
    magic_T = magic_token_loss(
        logprobs_T, anchor_logprobs_T, advantages_T, entropy_T, alpha, clip_low, clip_high, weights_T=weights_T
    )
    return magic_T / lengths_T


def pg_token_loss(
    logprobs_T: Tensor,
    anchor_logprobs_T: Tensor,
    advantages_T: Tensor,
    entropy_T: Tensor,
    alpha: float,
    *,
    weights_T: Tensor | None = None,
) -> Tensor:
    """-(w·ρ A + α H) of every token (report 2.3, where α = 0): no clip. Divided by the number of responses."""
    surrogate_T = ratio(logprobs_T - anchor_logprobs_T) * advantages_T
    if weights_T is not None:
        surrogate_T = weights_T * surrogate_T
    return -surrogate_T if alpha == 0.0 else -(surrogate_T + alpha * entropy_T)


def k3(logprobs_T: Tensor, reference_logprobs_T: Tensor) -> Tensor:
    """π_ref/π_θ - log(π_ref/π_θ) - 1 of every token (report 2.4). Never negative; 0 where the two agree."""
    log_ratio_T = bounded(reference_logprobs_T - logprobs_T)
    return torch.expm1(log_ratio_T) - log_ratio_T


def denominator(loss: Loss, tokens: int, responses: int) -> int:
    """What the sum of the token losses is divided by: N_tok, or the number of responses, of the optimizer step."""
    return tokens if loss == "magic" else responses


def clipped_tokens(
    logprobs_T: Tensor, anchor_logprobs_T: Tensor, advantages_T: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """Where the clip sets the gradient to 0: ρ > 1+clip_high with A > 0, or ρ < 1-clip_low with A < 0. Bool [T]."""
    ratio_T = ratio(logprobs_T - anchor_logprobs_T)
    above_T = (ratio_T > 1.0 + clip_high) & (advantages_T > 0)
    below_T = (ratio_T < 1.0 - clip_low) & (advantages_T < 0)
    return above_T | below_T


def _clipped_surrogate(
    logprobs_T: Tensor,
    anchor_logprobs_T: Tensor,
    advantages_T: Tensor,
    clip_low: float,
    clip_high: float,
    weights_T: Tensor | None,
) -> Tensor:
    ratio_T = ratio(logprobs_T - anchor_logprobs_T)
    clipped_T = ratio_T.clamp(1.0 - clip_low, 1.0 + clip_high)
    surrogate_T = torch.minimum(ratio_T * advantages_T, clipped_T * advantages_T)
    return surrogate_T if weights_T is None else weights_T * surrogate_T
