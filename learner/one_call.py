"""Kernels for a GPU that take many sequences in one call: torch's own, and FlashAttention's where it is installed.

They have never been run from here on a GPU. What they are called with is tested (``tests/learner/test_attention.py``).
"""

import inspect
from collections.abc import Callable
from importlib.util import find_spec
from math import sqrt
from typing import Any, Literal

from torch import Tensor

Backend = Literal["sdpa", "varlen", "flash"]
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, int, float | None, int | None], Tensor]
"""``kernel(query, key, value, bounds, longest, scaling, window)``: causal attention within each sequence. The first
three are [tokens, heads, head width]; key and value have fewer heads where heads share them. ``bounds``: int32, where
each sequence begins, and the end of the last. ``longest``: tokens of the longest. ``window``: tokens that a token sees,
itself included."""

WIDEST = 256
"""The widest head that either kernel takes."""
_NEEDS = {"varlen": "torch.nn.attention.varlen", "flash": "flash_attn"}
_IS_IN = {"varlen": "torch 2.10 and later", "flash": "the package flash-attn"}


def why_missing(backend: Backend) -> str | None:
    """What this Python lacks for ``backend``; ``None`` where it has it."""
    if backend == "sdpa" or find_spec(_NEEDS[backend]) is not None:
        return None
    return f"{_NEEDS[backend]} is not installed, which is in {_IS_IN[backend]}"


def load(backend: Backend) -> Kernel:
    """The kernel of ``backend``, ``varlen`` or ``flash``."""
    if backend == "varlen":
        from torch.nn.attention.varlen import varlen_attn

        return of_torch(varlen_attn)
    from flash_attn import flash_attn_varlen_func

    return of_flash_attention(flash_attn_varlen_func)


def of_torch(varlen_attn: Callable[..., Any]) -> Kernel:
    """The kernel over torch's function, which 2.10, 2.11 and 2.12 each gave other parameters. What a release lacks is
    made up for: a scale by scaling the query, shared keys by repeating them. 2.10 has no window."""
    takes = inspect.signature(varlen_attn).parameters

    def kernel(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bounds: Tensor,
        longest: int,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        more: dict[str, Any] = {}
        if "window_size" in takes:
            more["window_size"] = (-1 if window is None else window - 1, 0)
        else:
            assert window is None, "this torch has no window in its varlen_attn"
            more["is_causal"] = True
        if "scale" in takes:
            more["scale"] = scaling
        elif scaling is not None:
            query = query * (scaling * sqrt(query.shape[-1]))
        if (shared := query.shape[1] // key.shape[1]) > 1:
            if "enable_gqa" in takes:
                more["enable_gqa"] = True
            else:
                key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
        output: Tensor = varlen_attn(query, key, value, bounds, bounds, longest, longest, **more)
        return output

    return kernel


def of_flash_attention(flash_attn_varlen_func: Callable[..., Any]) -> Kernel:
    """The kernel over the function of FlashAttention 2, which takes shared keys as they are."""

    def kernel(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bounds: Tensor,
        longest: int,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        output: Tensor = flash_attn_varlen_func(
            query,
            key,
            value,
            bounds,
            bounds,
            longest,
            longest,
            softmax_scale=scaling,
            causal=True,
            window_size=(-1 if window is None else window - 1, -1 if window is None else 0),
        )
        return output

    return kernel
