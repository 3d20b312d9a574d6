"""The loss of MAGIC (report 3.1) as a user writes it: docs/how-to/own-loss.md goes through it."""

import torch


def magic(logprobs, anchor, advantages, weights, low=0.2, high=0.2):
    ratio = torch.exp(logprobs - anchor)
    clipped = ratio.clamp(1 - low, 1 + high)
    return -weights * torch.minimum(ratio * advantages, clipped * advantages)
