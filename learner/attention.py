"""Attention of packed responses: each response sees its own prompt and itself, and no other response.

The function is registered with transformers as ``leeway_packed``, so that any model which leaves attention to that
interface can be trained. Transformers makes no mask for a name that it does not know. None is needed here: every
response goes through torch's own causal attention by itself, so a row of L tokens costs neither L² memory nor attention
across responses.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.errors import DataError
from .packing import Layout

NAME = "leeway_packed"

Heads = tuple[Tensor, Tensor, Tensor]
"""Query, key and value of some tokens, each [1, heads, tokens, head width]."""


def register() -> str:
    """Make the function known to transformers. Returns the ``attn_implementation`` to load a model with."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
    return NAME


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each prompt and response of ``layout`` (``MicroBatch.layout``).

    ``query``: [1, heads, L, head width], ``key`` and ``value`` the same with as many or fewer heads. Returns
    [1, L, heads, head width] and None. ``sliding_window``: how many tokens a token sees at most, itself included.
    Raises ``DataError`` where the model asks for another kind of attention.
    """
    asked = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    if asked:
        raise DataError(f"{type(module).__name__} needs {asked[0]} in its attention, which is not supported")
    assert attention_mask is None
    # Rotary embeddings leave query and key in float32 under autocast, which would cast them for the product anyway.
    query, key = query.to(value.dtype), key.to(value.dtype)
    sizes = [size for group in layout for size in group]
    parts = zip(query.split(sizes, dim=2), key.split(sizes, dim=2), value.split(sizes, dim=2), strict=True)
    outputs: list[Tensor] = []
    for prompt, *responses in layout:
        shared, own = next(parts), [next(parts) for _ in responses]
        sequences: list[tuple[Heads, ...]] = [(shared, each) for each in own if each[0].shape[2]]
        for number, sequence in enumerate(sequences or [(shared,)]):
            output = _causal(sequence, scaling, sliding_window)
            # The prompt's part is the same for every response: it is kept once.
            outputs.append(output if number == 0 else output[:, :, prompt:])
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _causal(sequence: tuple[Heads, ...], scaling: float | None, window: int | None) -> Tensor:
    """Attention over one sequence, given as parts that follow one another."""
    query, key, value = (torch.cat(parts, dim=2) for parts in zip(*sequence, strict=True))
    tokens, mask = query.shape[2], None
    if window is not None and tokens > window:
        mask = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).tril().triu(1 - window)
    return F.scaled_dot_product_attention(
        query, key, value, mask, is_causal=mask is None, scale=scaling, enable_gqa=key.shape[1] != query.shape[1]
    )
