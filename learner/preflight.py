"""Whether tokenizer and rows can be used, before anything starts: ``leeway up`` and its ``--dry-run`` ask.

A process of its own, which keeps torch out: with it the tokenizer's package takes four times as long to import, and
three times the memory, and nothing here computes. Configuration (TOML) in, one JSON object out.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from ..common.config import Config, parse
from ..common.errors import DataError, told
from ..common.preflight.hub import folder_of
from ..common.preflight.model import load_tokenizer_of
from .flow.prompts import PromptSource, load_prompts

ROWS = {"file": 20_000, "reasoning_gym": 200}
"""Rows that are looked at, by ``data.source``: a few seconds' worth. The learner looks at all of them."""


def look(config: Config) -> dict[str, Any]:
    """What is to be known of the rows. ``DataError`` where tokenizer or rows cannot be used."""
    if folder_of(config.model.path) is None:
        return {"unchecked": "the tokenizer and the rows: the model is not on this machine"}
    tokenizer, vocabulary = load_tokenizer_of(config.model.path)
    found: dict[str, Any] = {"template": tokenizer.chat_template is not None, "tokens": len(tokenizer)}
    if config.data.source not in ROWS:
        return found | {"unchecked": f"the rows: data.source = {config.data.source!r} is read by the learner"}
    most = ROWS[config.data.source]
    source = _first(config, tokenizer, vocabulary, most)
    lengths = [len(prompt.tokens_P) for prompt in source.prompts]
    seen = len(source) + sum(source.dropped.values())
    return found | {
        "rows": seen,
        "all": seen < most or (config.data.source == "reasoning_gym" and config.data.size <= most),
        "dropped": source.dropped,
        "shortest": min(lengths),
        "longest": max(lengths),
        "abilities": dict(Counter(prompt.ability for prompt in source.prompts)),
    }


def _first(config: Config, tokenizer: Any, vocabulary: int | None, most: int) -> PromptSource:
    try:
        return load_prompts(config.data, tokenizer, seed=config.flow.seed, vocabulary=vocabulary, most=most)
    except DataError:  # of these none may be left, or one be wrong: all of them decide
        return load_prompts(config.data, tokenizer, seed=config.flow.seed, vocabulary=vocabulary)


if __name__ == "__main__":
    # Not there, as far as transformers can see: it then leaves everything out that computes.
    sys.modules["torch"] = None  # type: ignore[assignment]
    sys.exit(told("", lambda: print(json.dumps(look(parse(sys.stdin.read()))))))
