"""Checks, before a run starts, whether tokenizer and rows can be used. ``leeway up`` and its ``--dry-run`` call it.

It is a process of its own so that torch can be kept out. It reads a configuration (TOML) and writes one JSON object.
"""

import json
import sys
from collections import Counter
from functools import partial
from typing import Any

from ..common.config import Config, Data, parse
from ..common.errors import DataError, told
from ..common.preflight.hub import folder_of
from ..common.preflight.model import load_tokenizer_of, refuse_other_tokens
from ..common.preflight.tokens import hide_torch
from .flow.prompts import prompts_of

ROWS = {"file": 20_000, "reasoning_gym": 200}
"""How many rows are checked, by ``data.source``: a few seconds' worth. The learner checks all of them."""


def look(config: Config) -> dict[str, Any]:
    """What the operator is to know of tokenizer and rows, as JSON. ``DataError`` where they cannot be used."""
    if folder_of(config.model.path) is None:
        return {"unchecked": "the tokenizer and the rows: the model is not on this machine"}
    tokenizer, vocabulary = load_tokenizer_of(config.model.path)
    refuse_other_tokens(config, tokenizer)
    found: dict[str, Any] = {"template": tokenizer.chat_template is not None, "tokens": len(tokenizer)}
    return found | {"sources": [_look_at(config, source, tokenizer, vocabulary) for source in config.sources]}


def _look_at(config: Config, data: Data, tokenizer: Any, vocabulary: int | None) -> dict[str, Any]:
    if data.source not in ROWS:
        return {"unchecked": f"the rows: data.source = {data.source!r} is read by the learner"}
    most = ROWS[data.source]
    load = partial(prompts_of, config, data, tokenizer, vocabulary)
    try:
        source = load(most=most)
    except DataError:  # the first rows may leave no prompt, or one may be wrong, so all rows decide
        source = load()
    lengths = [len(prompt.tokens_P) for prompt in source.prompts]
    seen = len(source) + sum(source.dropped.values())
    return {
        "rows": seen,
        "all": seen < most or (data.source == "reasoning_gym" and data.size <= most),
        "dropped": dict(source.dropped),
        "shortest": min(lengths),
        "longest": max(lengths),
        "abilities": dict(Counter(prompt.ability for prompt in source.prompts)),
    }


if __name__ == "__main__":
    hide_torch()
    sys.exit(told("", lambda: print(json.dumps(look(parse(sys.stdin.read()))))))
