"""The objectives as one would write them down: token by token over whole logits, gradients by autograd. Nothing is
packed, chunked or shared, and nothing comes from the learner. Slow and plain on purpose."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from leeway_rl.common.config import Config, Objective
from leeway_rl.learner.packing import ScoredGroup
from torch import Tensor


def advantages(rewards: Sequence[float], finished: Sequence[int], objective: Objective) -> list[float]:
    """Report 2.5 and 3.2.3, of one group."""
    ended = [bool(end) for end in finished]
    masked = objective.advantage_mask != "none"
    counted = [r for r, end in zip(rewards, ended, strict=True) if end or objective.advantage_mask != "before"]
    if len(set(counted)) < 2 or (masked and sum(ended) < 2):
        return [0.0] * len(rewards)
    std = (statistics.stdev if objective.advantage_std == "unbiased" else statistics.pstdev)(counted)
    scale = std + objective.advantage_eps
    return [
        0.0 if masked and not end else (r - statistics.fmean(counted)) / scale
        for r, end in zip(rewards, ended, strict=True)
    ]


def responses_of(group: ScoredGroup) -> Iterator[tuple[list[int], list[float], list[int]]]:
    """Of each response: its tokens, log μ of each, and the version that sampled each."""
    start = 0
    for number, length in enumerate(group.responses.lengths_S.tolist()):
        versions = [0] * length
        for response, version, first, end in group.responses.spans.tolist():
            if response == number:
                versions[first:end] = [version] * (end - first)
        own = slice(start, start + length)
        yield group.responses.tokens_T[own].tolist(), group.responses.logprobs_T[own].tolist(), versions
        start += length


def loss(
    model: torch.nn.Module,
    groups: Sequence[ScoredGroup],
    config: Config,
    *,
    alpha: float,
    version: int = 0,
    lag: float = 0.0,
    old: Sequence[float] = (),
    reference: Sequence[float] = (),
) -> Tensor:
    """The step's loss under a transformers ``model``. ``old`` and ``reference``: log π_old and log π_ref of every
    token, responses one after the other."""
    objective, total, tokens, responses = config.objective, torch.zeros((), dtype=torch.float64), 0, 0
    for group in groups:
        # Advantages and log-probabilities are single precision wherever they are kept or sent.
        each = [float(np.float32(a)) for a in advantages(group.rewards_S, group.responses.finished_S, objective)]
        signal = any(each)
        for a, (taken, behaviour, versions) in zip(each, responses_of(group), strict=True):
            prompt = group.ticket.prompt_tokens_P.tolist()
            logits_LV = model(torch.tensor([prompt + taken])).logits[0] / config.flow.temperature
            for t, token in enumerate(taken):
                log_softmax_V = torch.log_softmax(logits_LV[len(prompt) - 1 + t], -1)
                logprob, entropy = log_softmax_V[token], -(log_softmax_V.exp() * log_softmax_V).sum()
                here = tokens + t
                total = total + _token_loss(
                    objective,
                    logprob,
                    entropy,
                    a,
                    alpha if signal else 0.0,
                    behaviour[t],
                    old[here] if old else None,
                    reference[here] if reference else None,
                    version - versions[t],
                    lag,
                    len(taken),
                    objective.kl_beta if signal or objective.kl_groups == "all" else 0.0,
                )
            tokens, responses = tokens + len(taken), responses + 1
    return total / (tokens if objective.loss == "magic" else responses)


def _token_loss(objective, logprob, entropy, a, alpha, mu, old, reference, staleness, lag, length, beta) -> Tensor:
    anchor, weight = torch.tensor(mu, dtype=logprob.dtype), 1.0
    if objective.correction != "none":
        now = logprob.detach()
        if lag == 0:
            anchor = now
        elif objective.correction == "loglinear":
            anchor = (lag * mu + staleness * now) / (staleness + lag)
        else:
            anchor = torch.tensor(old, dtype=logprob.dtype)
        weight = float(torch.exp(anchor - mu))
        if objective.correction == "old":
            weight = 1.0
        elif objective.correction_bound == "truncate":
            weight = min(weight, objective.correction_cap)
        elif not objective.correction_range[0] <= weight <= objective.correction_range[1]:
            weight = 0.0
    ratio = torch.exp(logprob - anchor)
    gain = ratio * a
    if objective.loss != "pg":
        gain = torch.minimum(gain, ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high) * a)
    value = weight * gain + alpha * entropy
    if beta:
        value = value - beta * (torch.exp(reference - logprob) - (reference - logprob) - 1)
    return -value / (length if objective.loss == "grpo" else 1)
