"""Attention of packed responses: each response sees its own prompt and itself, and no other response.

The function is registered with transformers as ``leeway_packed``, so that any model which leaves attention to that
interface can be trained. Transformers makes no mask for a name that it does not know. None is needed here: every
response goes through torch's own causal attention by itself, so a row of L tokens costs neither L² memory nor attention
across responses. That is the reference, and the CPU's way. On a GPU a kernel of ``one_call.py`` takes all responses of
the row at once.
"""

from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.config import Config
from ..common.errors import ConfigError, DataError
from . import one_call
from .one_call import Backend, Kernel
from .packing import Layout

# None of the names may have "flash" in it: transformers would take it for an attention of its own.
NAMES: dict[Backend, str] = {"sdpa": "leeway_packed", "varlen": "leeway_packed_varlen", "flash": "leeway_packed_fa"}
QUADRATIC_BYTES = 1 << 28
"""Scores of the longest response up to this size are nobody's trouble, so small models are trained in float32 too."""

Heads = tuple[Tensor, Tensor, Tensor]
"""Query, key and value of some tokens, each [1, heads, tokens, head width]."""


def register(backend: Backend = "sdpa") -> str:
    """Make the function known to transformers. Returns the ``attn_implementation`` to load a model with."""
    from transformers import AttentionInterface

    kernel = None if backend == "sdpa" else one_call.load(backend)
    AttentionInterface.register(NAMES[backend], partial(packed_attention, kernel=kernel))
    return NAMES[backend]


def choose(config: Config, shape: Any) -> Backend:
    """How this machine computes attention for a model of ``shape`` (its transformers config), by ``train.attention``.

    Raises ``ConfigError`` where it cannot, or where the scores of the longest response would have to be held whole.
    """
    text, asked, half = shape.get_text_config(), config.train.attention, config.model.dtype == "bfloat16"
    heads, gpu = text.num_attention_heads, torch.cuda.is_available()
    key_heads = getattr(text, "num_key_value_heads", None) or heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    too_wide = f"the model's heads are {width} wide, and its kernel takes {one_call.WIDEST} at most"
    wide = too_wide if width > one_call.WIDEST else None
    if asked in ("varlen", "flash"):
        why = None if gpu else "it needs a GPU, and torch finds none here"
        why = why or one_call.why_missing(asked) or wide
        why = why or (None if half else "it computes in bfloat16 alone, and model.dtype is 'float32'")
        if why is not None:
            raise ConfigError(f"train.attention = {asked!r}: {why}; 'auto' or 'sdpa' is right")
        return asked
    if asked == "auto" and gpu and half and wide is None:
        for backend in ("varlen", "flash"):
            if one_call.why_missing(backend) is None:
                return backend
    longest, window = config.longest_sequence, getattr(text, "sliding_window", None)
    scores, why = 4 * heads * longest**2, None
    if key_heads != heads and (not half or wide is not None):
        why = f"{heads} heads share {key_heads} of keys, which torch's kernels for long rows take in bfloat16 alone"
    elif window is not None and window < longest:
        why = f"its sliding window of {window} tokens needs a mask of the square of the length"
    if gpu and why is not None and scores > QUADRATIC_BYTES:
        raise ConfigError(
            f"train.attention = {asked!r} with model.dtype = {config.model.dtype!r} on a GPU: {why}; the scores of "
            f"{longest} tokens would take {scores / 1e9:.1f} GB in every layer. model.dtype = 'bfloat16' with "
            "train.attention = 'auto' is right"
        )
    return "sdpa"


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout | None = None,
    kernel: Kernel | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each prompt and response of ``layout`` (``MicroBatch.layout``).

    ``query``: [1, heads, L, head width], ``key`` and ``value`` the same with as many or fewer heads. Returns
    [1, L, heads, head width] and None. ``kernel``: what takes all responses at once on a GPU; without it, and on the
    CPU, they are taken one by one. ``sliding_window``: how many tokens a token sees at most, itself included.
    Raises ``DataError`` where the model asks for another kind of attention.
    """
    asked = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    if asked:
        raise DataError(f"{type(module).__name__} needs {asked[0]} in its attention, which is not supported")
    if layout is None:
        raise DataError(f"{type(module).__name__} is not told by its model where packed responses end")
    assert attention_mask is None
    # Rotary embeddings leave query and key in float32 under autocast, which would cast them for the product anyway.
    query, key = query.to(value.dtype), key.to(value.dtype)
    if kernel is not None and query.device.type != "cpu":
        return in_one_call(kernel, (query, key, value), layout, scaling, sliding_window), None
    return one_by_one((query, key, value), layout, scaling, sliding_window), None


def one_by_one(heads: Heads, layout: Layout, scaling: float | None = None, window: int | None = None) -> Tensor:
    """The reference: torch's own attention for each response of ``layout``. Returns [1, L, heads, head width]."""
    query, key, value = heads
    sizes = [size for group in layout for size in group]
    parts = zip(query.split(sizes, dim=2), key.split(sizes, dim=2), value.split(sizes, dim=2), strict=True)
    outputs: list[Tensor] = []
    for prompt, *responses in layout:
        shared, own = next(parts), [next(parts) for _ in responses]
        sequences: list[tuple[Heads, ...]] = [(shared, each) for each in own if each[0].shape[2]]
        for number, sequence in enumerate(sequences or [(shared,)]):
            output = _causal(sequence, scaling, window)
            # The prompt's part is the same for every response: it is kept once.
            outputs.append(output if number == 0 else output[:, :, prompt:])
    return torch.cat(outputs, dim=2).transpose(1, 2)


def _causal(sequence: tuple[Heads, ...], scaling: float | None, window: int | None) -> Tensor:
    """Attention over one sequence, given as parts that follow one another."""
    query, key, value = (torch.cat(parts, dim=2) for parts in zip(*sequence, strict=True))
    tokens, mask = query.shape[2], None
    if window is not None and tokens > window:
        mask = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).tril().triu(1 - window)
    return F.scaled_dot_product_attention(
        query, key, value, mask, is_causal=mask is None, scale=scaling, enable_gqa=key.shape[1] != query.shape[1]
    )


def in_one_call(
    kernel: Kernel, heads: Heads, layout: Layout, scaling: float | None = None, window: int | None = None
) -> Tensor:
    """The same as ``one_by_one`` by one call of ``kernel``, to which every response comes with a copy of its prompt."""
    bounds, lengths = _bounds(layout, heads[0].device)
    longest = max(lengths)
    query, key, value = (_with_prompts(each[0].transpose(0, 1), layout) for each in heads)
    window = window if window is not None and window < longest else None
    output = kernel(query, key, value, bounds, longest, scaling, window)
    kept, parts = [], iter(output.split(lengths))
    for prompt, *responses in layout:
        for number in range(max(1, sum(size > 0 for size in responses))):
            # As in the reference, the prompt's part is kept once.
            kept.append(next(parts) if number == 0 else next(parts)[prompt:])
    return torch.cat(kept)[None]


def _with_prompts(tokens: Tensor, layout: Layout) -> Tensor:
    """[L, heads, head width] with each group's prompt before each of its responses."""
    parts, found = iter(tokens.split([size for group in layout for size in group])), []
    for _, *responses in layout:
        prompt = next(parts)
        own = [part for part in (next(parts) for _ in responses) if len(part)]
        found += [piece for part in own for piece in (prompt, part)] or [prompt]
    return torch.cat(found)


@lru_cache(maxsize=4)
def _bounds(layout: Layout, device: torch.device) -> tuple[Tensor, list[int]]:
    """Where each sequence begins, and the end of the last (int32), and their lengths. Every layer of a pass asks, and a
    copy from the host would make each of them wait."""
    lengths = []
    for prompt, *responses in layout:
        lengths += [prompt + size for size in responses if size] or [prompt]
    return torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32), lengths


def difference(
    backend: Backend, *, heads: int, key_heads: int, width: int, layout: Layout, device: torch.device, seed: int = 0
) -> dict[str, float]:
    """How far ``backend`` is from the reference in bfloat16 on ``device``: of the output and of the gradients by query,
    key and value, the largest difference as a share of the reference's largest element.

    The reference is ``one_by_one`` of the same values in float32. A check on a GPU calls it; rounding to bfloat16 alone
    gives up to 2^-8.
    """
    ours_by = one_by_one if backend == "sdpa" else partial(in_one_call, one_call.load(backend))
    dice = torch.Generator().manual_seed(seed)
    tokens = sum(map(sum, layout))
    values = [
        torch.randn(1, count, tokens, width, generator=dice).to(device, torch.bfloat16)
        for count in (heads, key_heads, key_heads)
    ]
    weight = torch.randn(1, tokens, heads, width, generator=dice).to(device)
    results = []
    for dtype, way in ((torch.float32, one_by_one), (torch.bfloat16, ours_by)):
        leaves = [value.detach().to(dtype).requires_grad_() for value in values]
        output = way((leaves[0], leaves[1], leaves[2]), layout)
        gradients = torch.autograd.grad((output.float() * weight).sum(), leaves)
        results.append([output.detach(), *gradients])
    names = ("output", "by query", "by key", "by value")
    return {
        name: float((ours.float() - exact).abs().max() / exact.abs().max())
        for name, exact, ours in zip(names, *results, strict=True)
    }
