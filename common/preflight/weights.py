"""Checks by headers alone that the tensors of a model folder are those that its ``config.json`` promises. Pure.

transformers fills missing tensors at random and leaves surplus ones out, both with no more than a warning. So a policy
that is half random would train.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from .folder import Header, some

PLAIN = frozenset(
    ["llama", "mistral", "ministral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "smollm3", "olmo2"]
)
"""Families in which every layer has the same tensors, under the names of Llama."""
TIED = frozenset(["cohere", "cohere2", "ernie4_5", "gemma", "gemma2", "gemma3_text", "smollm3", "starcoder2"])
"""Families whose output projection is the embedding if ``config.json`` does not say."""
_OWN_WIDTH = frozenset(["gemma", "gemma2", "gemma3_text", "qwen3"])
"""Families whose heads are not hidden_size / num_attention_heads wide if ``config.json`` does not say."""
_FLOATS = frozenset(["F64", "F32", "F16", "BF16"])
_LAYER = re.compile(r"(?:model\.)?layers\.(\d+)\.(.+\.(?:weight|bias))")


def why_quantised(keys: Mapping[str, Any], tensors: Mapping[str, Header] | None) -> str | None:
    """Why these are not the weights themselves but quantised ones; None if they are."""
    said = keys.get("quantization_config") or keys.get("compression_config")
    if said:
        method = said.get("quant_method") if isinstance(said, Mapping) else None
        by = f" by {method}" if method else ""
        return (
            f"it is quantised{by} (quantization_config): give the model that it was made from, in bfloat16 or float32"
        )
    for name, header in (tensors or {}).items():
        if header.dtype not in _FLOATS and name.endswith("weight"):  # masks of old checkpoints are no weights
            return f"{name} is {header.dtype}: it is quantised; give the model that it was made from"
    return None


def why_not_whole(keys: Mapping[str, Any], tensors: Mapping[str, Header]) -> str | None:
    """Which weights are missing, surplus, or of another shape; None if all are there, or if the family is not one of
    ``PLAIN``: the learner then finds out when it loads them."""
    if keys.get("model_type") not in PLAIN or not isinstance(layers := keys.get("num_hidden_layers"), int):
        return None
    found: dict[int, set[str]] = defaultdict(set)
    for name in tensors:
        if (match := _LAYER.fullmatch(name)) is not None:
            found[int(match[1])].add(match[2])
    if more := [number for number in sorted(found) if number >= layers]:
        return f"config.json says num_hidden_layers = {layers}, and the weights have layers up to {more[-1]}"
    if gone := [str(number) for number in range(layers) if number not in found]:
        return f"config.json says num_hidden_layers = {layers}, and the weights have no layer {some(gone)}"
    every = set().union(*found.values())
    if lost := [f"layers.{number}.{name}" for number in range(layers) for name in sorted(every - found[number])]:
        return f"the weights lack {some(lost)}, which other layers have"
    return _why_not_ends(keys, tensors) or _why_other_shapes(keys, tensors)


def _why_not_ends(keys: Mapping[str, Any], tensors: Mapping[str, Header]) -> str | None:
    for name in ("embed_tokens.weight", "norm.weight"):
        if name not in tensors and f"model.{name}" not in tensors:
            return f"the weights lack model.{name}"
    tied = keys.get("tie_word_embeddings", keys["model_type"] in TIED)
    if not tied and "lm_head.weight" not in tensors:
        return "the weights lack lm_head.weight, and config.json does not say tie_word_embeddings = true"
    return None


def _why_other_shapes(keys: Mapping[str, Any], tensors: Mapping[str, Header]) -> str | None:
    shapes = _shapes(keys)
    for name, header in tensors.items():
        part = name.removesuffix(".weight").rpartition(".")[2]
        due = shapes.get(part) if name.endswith(".weight") else None
        if due is not None and header.shape != due[0]:
            return f"{name} is {list(header.shape)}, and config.json makes it {list(due[0])} ({due[1]})"
    return None


def _shapes(keys: Mapping[str, Any]) -> dict[str, tuple[tuple[int, int], str]]:
    """(shape, keys that give it) by the last part of a tensor's name."""
    try:
        vocabulary, hidden, heads = keys["vocab_size"], keys["hidden_size"], keys["num_attention_heads"]
        width = keys.get("head_dim") or (keys["head_dim"] if keys["model_type"] in _OWN_WIDTH else hidden // heads)
        shared, between = keys["num_key_value_heads"] or heads, keys["intermediate_size"]
        key_value = ((shared * width, hidden), "num_key_value_heads x head_dim, hidden_size")
        return {
            "embed_tokens": ((vocabulary, hidden), "vocab_size, hidden_size"),
            "lm_head": ((vocabulary, hidden), "vocab_size, hidden_size"),
            "q_proj": ((heads * width, hidden), "num_attention_heads x head_dim, hidden_size"),
            "k_proj": key_value,
            "v_proj": key_value,
            "o_proj": ((hidden, heads * width), "hidden_size, num_attention_heads x head_dim"),
            "up_proj": ((between, hidden), "intermediate_size, hidden_size"),
            "down_proj": ((hidden, between), "hidden_size, intermediate_size"),
        }
    except (KeyError, TypeError, ZeroDivisionError):
        return {}  # a key was left out, and transformers' own default holds
