"""The cosine between the gradients of successive updates, over the whole model and all ranks.

Gradients of fresh data are close to orthogonal from one update to the next; where they stay aligned, the updates add
up and overshoot: a sign of instability under stale data (GAC, arXiv 2603.01501). It is measured here, and nothing is
projected.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CHUNK = 1 << 24
"""Elements that are multiplied and summed at a time, in float32; the sums of chunks add up in float64."""


class GradientCosine:
    """Watches the gradients that an optimizer is given, and keeps a copy of the last ones.

    torch's AdamW sees the gradients at every ZeRO stage and under offload: the whole of them on each rank at stage 0,
    and else the rank's own part, where it lies. A sum over ranks counts each of them once, or all of them as often as
    there are ranks, which a cosine does not notice. Nor does it notice clipping, which has gone before.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._last: dict[Tensor, Tensor] = {}
        """The gradients of the update before, by what they are of."""
        self._dot = self._squares = 0.0
        self._squares_before: float | None = None
        optimizer.register_step_pre_hook(self._see)

    def _see(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Take in the gradients of one call of the optimizer. DeepSpeed makes several for one update."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient, last = parameter.grad.detach(), self._last.get(parameter)
                self._squares += dot(gradient, gradient)
                if last is None:
                    self._last[parameter] = gradient.clone()
                else:
                    self._dot += dot(gradient, last)
                    last.copy_(gradient)

    def cosine(self, reduce: Callable[[Tensor], Tensor]) -> float | None:
        """The cosine between the gradients of the update just made and of the one before. None where there was none
        before, since this learner started, or where either is 0. ``reduce`` sums over the ranks. Collective."""
        dot_, squares = reduce(torch.tensor([self._dot, self._squares], dtype=torch.float64)).tolist()
        before, self._squares_before = self._squares_before, squares
        self._dot = self._squares = 0.0
        return dot_ / math.sqrt(squares * before) if before and squares else None


def dot(one: Tensor, other: Tensor) -> float:
    """The sum of the products of two tensors' elements."""
    parts = zip(one.flatten().split(CHUNK), other.flatten().split(CHUNK), strict=True)
    return float(torch.stack([torch.dot(left, right).double() for left, right in parts]).sum())
