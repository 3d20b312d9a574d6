"""The gradient norm, and what it is held to."""

from torch import nn


def clip_gradients(module: nn.Module, max_norm: float) -> float:
    """Scale the gradients down to the global L2 norm ``max_norm`` (0: leave them) and return the norm they had.

    Raises ``FloatingPointError`` where it is not finite: a step with it would destroy the weights.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.grad is not None]
    if max_norm > 0:
        norm = float(nn.utils.clip_grad_norm_(parameters, max_norm))
    else:
        norm = float(
            nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        )
    return finite(norm)


def finite(norm: float) -> float:
    """``norm``; ``FloatingPointError`` where it is not finite."""
    if norm != norm or norm in (float("inf"), float("-inf")):
        raise FloatingPointError(f"the gradient norm is {norm}: log-probabilities or weights have overflowed")
    return norm
