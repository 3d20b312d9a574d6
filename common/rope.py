"""Rotary position embeddings that depend on what shares a pass. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def why_not_packed(keys: Mapping[str, Any], longest: int) -> str | None:
    """Why a model cannot be trained with several responses in one row, from the keys of its ``config.json``; None where
    it can. ``longest``: tokens of a prompt and its response at most.

    LongRoPE takes its long factors for every token of a pass that holds one position past
    ``original_max_position_embeddings``: a short response would get other log-probabilities beside a long one than by
    itself, where it was sampled.
    """
    for rope in _ropes(keys.get("rope_parameters") or keys.get("rope_scaling") or {}):
        kind = rope.get("rope_type") or rope.get("type")
        original = rope.get("original_max_position_embeddings") or keys.get("original_max_position_embeddings")
        if kind in ("longrope", "su") and original is not None and longest > original:
            return (
                f"its {kind} changes for every token of a pass once one is past position {original}, and a prompt with "
                f"its response may have {longest}: packed responses would change each other. Up to {original} "
                "(data.max_prompt_tokens + train.max_response_tokens) it can be trained"
            )
    return None


def _ropes(found: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """One for the model, or one for each kind of layer."""
    parts = [part for part in found.values() if isinstance(part, Mapping)]
    return parts or [found]
