"""Rotary position embeddings: how long a context they give, and whether a pass's other tokens change them. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Context(NamedTuple):
    """The longest sequence that a model is made for."""

    tokens: int
    source: str
    """The keys of its ``config.json`` that say so."""


def context_of(keys: Mapping[str, Any]) -> Context | None:
    """The context of a model, from the keys of its ``config.json``; None if they do not say.

    For most models ``max_position_embeddings`` is the context, lengthened or not (Llama 3, LongRoPE, yarn as it is
    published). If a model is lengthened by hand, as Qwen's model cards describe, yarn is added and that key stays as it
    is: the context is then ``factor`` times ``original_max_position_embeddings``, which by transformers' default is
    ``max_position_embeddings``. With a linear rope ``factor`` always counts, as in vLLM. With a dynamic one it does
    not: positions past ``max_position_embeddings`` change there with the longest sequence of a pass.
    """
    plain = keys.get("max_position_embeddings")
    if not isinstance(plain, int):
        return None
    rope = _rope(keys)
    kind, factor = rope.get("rope_type") or rope.get("type"), rope.get("factor")
    before, name = plain, "max_position_embeddings"
    if kind == "yarn":
        original = keys.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
        before, name = (original, "original_max_position_embeddings") if original else (before, name)
    counts = kind in ("yarn", "linear") and "gemma3" not in str(
        keys.get("model_type")
    )  # gemma3 states the longer context
    if counts and isinstance(factor, (int, float)) and (longer := int(before * factor)) > plain:
        return Context(longer, f"{name} {before} x factor {factor:g} of its {kind} rope = {longer}")
    return Context(plain, f"max_position_embeddings = {plain}")


def why_too_long(said: Mapping[str, int], model: str, context: Context | None) -> str | None:
    """Why a prompt with its response would not fit into the context of ``model``; None if it fits, or if the context is
    not known. ``said``: tokens of each, by the keys that ask for them."""
    longest = sum(said.values())
    if context is None or longest <= context.tokens:
        return None
    parts = " + ".join(f"{name} {tokens}" for name, tokens in said.items())
    return f"{parts} = {longest} is more than the context of {model}: {context.source}; ask for fewer"


def why_not_packed(keys: Mapping[str, Any], longest: int) -> str | None:
    """Why a model cannot be trained with several responses in one row, from the keys of its ``config.json``; None if it
    can. ``longest``: most tokens of a prompt and its response.

    LongRoPE uses its long factors for every token of a pass in which one position is past
    ``original_max_position_embeddings``. So a short response would get other log-probabilities beside a long one than
    alone, as it was sampled.
    """
    for rope in _ropes(_rope(keys)):
        kind = rope.get("rope_type") or rope.get("type")
        original = rope.get("original_max_position_embeddings") or keys.get("original_max_position_embeddings")
        if kind in ("longrope", "su") and original is not None and longest > original:
            return (
                f"its {kind} changes for every token of a pass once one is past position {original}, and a prompt with "
                f"its response may have {longest}: packed responses would change each other. Up to {original} "
                "(data.max_prompt_tokens + train.max_response_tokens) it can be trained"
            )
    return None


def _rope(keys: Mapping[str, Any]) -> Mapping[str, Any]:
    found = keys.get("rope_parameters") or keys.get("rope_scaling")
    return found if isinstance(found, Mapping) else {}


def _ropes(found: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The rope parameters: one set for the model, or one for each kind of layer."""
    parts = [part for part in found.values() if isinstance(part, Mapping)]
    return parts or [found]
