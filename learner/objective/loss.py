"""The losses, token by token: MAGIC (report 3.1), GRPO (2.4), vanilla policy gradient (2.3), and what the field
compares with them. Pure. docs/reference/objectives.md has a table of papers, formulas and keys.

Each loss is the sum of its tokens' losses, divided by ``denominator``, which belongs to the whole optimizer step, on
all ranks and in all micro-batches. The released code divides in each micro-batch, which weighs tokens by how the batch
happens to be cut.

All tensors have shape [T] and one floating dtype; log-probabilities are in nats. ρ = π_θ/anchor, where the
anchor is μ or π_old (``objective.correction``).
Log ratios are bounded before they are exponentiated (``ratio.py``).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ...common.config import Objective
from .ratio import beyond, bounded, ratio


class Tokens(NamedTuple):
    """What a loss is a function of. Gradients go through ``logprobs_T`` and ``entropy_T`` alone."""

    logprobs_T: Tensor
    """log π_θ of the taken token."""
    entropy_T: Tensor
    """H(π_θ), 0 where the token gets no entropy term."""
    anchor_T: Tensor
    """Log-probability in the ratio's denominator."""
    advantages_T: Tensor
    lengths_T: Tensor | None = None
    """|y|: trained tokens of the token's response; a loss that is a mean over each response needs it."""
    weights_T: Tensor | None = None
    """w: the correction's weight on the token's policy term. None: 1."""
    log_ratio_T: Tensor | None = None
    """log of ρ of the token's response (``objective.ratio_level``), without a gradient; ``gspo`` needs it."""


OwnTerm: TypeAlias = Callable[[Tokens], Tensor]
"""A loss of the user's: the policy term of every token, its weight included, which training makes smaller."""


def token_loss(objective: Objective, tokens: Tokens, alpha: float, own: OwnTerm | None = None) -> Tensor:
    """-(w·gain + α·H) of every token, divided by |y| where the loss is a mean over each response. ``own``: gives
    -w·gain, where the loss is the user's."""
    gain_T = policy_gain(objective, tokens) if own is None else -own(tokens)
    if tokens.weights_T is not None and own is None:
        gain_T = tokens.weights_T * gain_T
    # At α = 0 the entropy stays out of the graph, so that the token op need not compute its gradient.
    loss_T = -gain_T if alpha == 0.0 else -(gain_T + alpha * tokens.entropy_T)
    if not objective.per_response:
        return loss_T
    assert tokens.lengths_T is not None, f"{objective.loss} needs the lengths of the responses"
    return loss_T / tokens.lengths_T


def policy_gain(objective: Objective, tokens: Tokens) -> Tensor:
    """The policy term of every token, which training makes larger."""
    match objective.loss:
        case "magic" | "grpo" | "dr_grpo":
            return clipped_gain(objective, ratio(tokens.logprobs_T - tokens.anchor_T), tokens.advantages_T)
        case "gspo":
            return clipped_gain(objective, _sequence_ratio(tokens), tokens.advantages_T)
        case "pg":
            return ratio(tokens.logprobs_T - tokens.anchor_T) * tokens.advantages_T
        case "cispo":
            low, high = 1.0 - objective.clip_low, 1.0 + objective.clip_high
            weight_T = ratio(tokens.logprobs_T.detach() - tokens.anchor_T).clamp(low, high)
            return weight_T * tokens.advantages_T * tokens.logprobs_T
        case "dis":
            weight_T = ratio(tokens.logprobs_T.detach() - tokens.anchor_T)
            weight_T = torch.where(bounded_tokens(objective, tokens), 0.0, weight_T)
            return weight_T * tokens.advantages_T * tokens.logprobs_T
        case "dppo":
            kept_T = ~bounded_tokens(objective, tokens)
            return torch.where(kept_T, ratio(tokens.logprobs_T - tokens.anchor_T) * tokens.advantages_T, 0.0)
        case _:
            raise AssertionError(f"{objective.loss} has no term of ours")


def clipped_gain(objective: Objective, ratio_T: Tensor, advantages_T: Tensor) -> Tensor:
    """min(ρA, clip(ρ, 1-ε_low, 1+ε_high)·A), for A < 0 at least c·A where there is a dual clip."""
    clipped_T = ratio_T.clamp(1.0 - objective.clip_low, 1.0 + objective.clip_high)
    gain_T = torch.minimum(ratio_T * advantages_T, clipped_T * advantages_T)
    if objective.dual_clip is None:
        return gain_T
    return torch.where(advantages_T < 0, torch.maximum(gain_T, objective.dual_clip * advantages_T), gain_T)


def bounded_tokens(objective: Objective, tokens: Tokens) -> Tensor:
    """Where the bound of one of our losses takes effect: the clip, the dual clip, the mask or the trust region sets the
    gradient to 0, or CISPO's clip changes the weight. Bool [T]."""
    ratio_T, advantages_T = ratio(tokens.logprobs_T - tokens.anchor_T), tokens.advantages_T
    match objective.loss:
        case "pg":
            return torch.zeros_like(advantages_T, dtype=torch.bool)
        case "cispo":
            return (ratio_T < 1.0 - objective.clip_low) | (ratio_T > 1.0 + objective.clip_high)
        case "dis":  # both ends are outside
            return (ratio_T <= 1.0 - objective.clip_low) | (ratio_T >= 1.0 + objective.clip_high)
        case "dppo":
            away_T = ((advantages_T > 0) & (ratio_T > 1.0)) | ((advantages_T < 0) & (ratio_T < 1.0))
            return away_T & (divergence(objective, tokens.logprobs_T, tokens.anchor_T) > objective.trust_region)
        case "gspo":
            ratio_T = _sequence_ratio(tokens)
    above_T = (ratio_T > 1.0 + objective.clip_high) & (advantages_T > 0)
    below_T = (ratio_T < 1.0 - objective.clip_low) & (advantages_T < 0)
    if objective.dual_clip is None:
        return above_T | below_T
    return above_T | below_T | ((ratio_T > objective.dual_clip) & (advantages_T < 0))


def divergence(objective: Objective, logprobs_T: Tensor, anchor_T: Tensor) -> Tensor:
    """How far π_θ has moved from the anchor, both taken as distributions over "this token or another one": the total
    variation |p - q|, or KL(q ‖ p) with q of the anchor (DPPO, arXiv 2602.04879, binary form). No gradient."""
    p_T, q_T = logprobs_T.detach().exp(), anchor_T.exp()
    if objective.trust_region_by == "tv":
        return (p_T - q_T).abs()
    tiny = torch.finfo(p_T.dtype).tiny
    same_T = q_T * (anchor_T - logprobs_T.detach())
    other_T = (1 - q_T) * (torch.log((1 - q_T).clamp(min=tiny)) - torch.log((1 - p_T).clamp(min=tiny)))
    return torch.where(q_T > 0, same_T, 0.0) + other_T


def _sequence_ratio(tokens: Tokens) -> Tensor:
    """GSPO's ratio s of the token's response. Its value is without a gradient; the gradient is s·∇log π_θ of the token,
    so that over |y| tokens, each divided by |y|, it is the gradient of s (arXiv 2507.18071, GSPO-token)."""
    assert tokens.log_ratio_T is not None, "gspo needs the ratios of the responses"
    return ratio(tokens.log_ratio_T + (tokens.logprobs_T - tokens.logprobs_T.detach()))


def k3(logprobs_T: Tensor, reference_logprobs_T: Tensor) -> Tensor:
    """π_ref/π_θ - log(π_ref/π_θ) - 1 of every token (report 2.4). Never negative; 0 where the two agree."""
    log_ratio_T = bounded(reference_logprobs_T - logprobs_T)
    return torch.expm1(log_ratio_T) - log_ratio_T


def beyond_bound(tokens: Tokens) -> Tensor:
    """Where the log ratio of the policy term, the token's own or its response's, is bounded before it is exponentiated.
    Bool [T]."""
    own_T = tokens.logprobs_T - tokens.anchor_T
    return beyond(own_T if tokens.log_ratio_T is None else tokens.log_ratio_T)


def denominator(objective: Objective, tokens: int, responses: int, longest: int) -> int:
    """What the sum of the token losses is divided by: N_tok or the number of responses of the optimizer step, or for
    ``dr_grpo`` that number times ``longest``, the most tokens that a response may have."""
    if objective.loss == "pg" or objective.per_response:
        return responses
    return responses * longest if objective.loss == "dr_grpo" else tokens
