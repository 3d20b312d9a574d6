"""Tells vLLM what a model's ``config.json`` does not say or says in another way: its context, and the arithmetic of
its output projection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common.rope import context_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def overridden(config: PretrainedConfig, head_dtype: str) -> PretrainedConfig:
    """``with_its_context``, and with the dtype of the output projection, ``float32`` or ``model``. vLLM reads that from
    the model's config alone."""
    config = with_its_context(config)
    config.head_dtype = head_dtype
    return config


def with_its_context(config: PretrainedConfig) -> PretrainedConfig:
    """``config`` with the context of ``common/rope.py`` where yarn lengthens it (vLLM's ``hf_overrides``).

    vLLM takes ``max_position_embeddings`` for the longer context already, and refuses what is past it. Its yarn goes by
    ``original_max_position_embeddings`` and ``factor``, which stay as they are. For a linear rope vLLM multiplies the
    context itself.
    """
    text = config.get_text_config()
    context = context_of(text.to_dict())
    if context is not None and (getattr(text, "rope_parameters", None) or {}).get("rope_type") == "yarn":
        text.max_position_embeddings = context.tokens
    return config
