"""A model of a few thousand parameters, and groups for it, shared by the learner's tests and their second process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from leeway_rl.common.config import Config
from leeway_rl.common.types import Responses, Ticket
from leeway_rl.learner.packing import ScoredGroup

VOCABULARY = 61


def make_model(folder: Path, kind: str = "qwen2", **changes: Any) -> str:
    """Random weights in Hugging Face layout; returns the folder."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config_class = {
        "qwen2": transformers.Qwen2Config,
        "llama": transformers.LlamaConfig,
        "gpt2": transformers.GPT2Config,
        "gemma2": transformers.Gemma2Config,
        "lfm2": transformers.Lfm2Config,
        "granite": transformers.GraniteConfig,
        "nemotron": transformers.NemotronConfig,
    }[kind]
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "initializer_range": 0.3,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config_class(**(shape | changes)))
    model.save_pretrained(folder)
    return str(folder)


def make_config(model_path: str, **changes: Any) -> Config:
    """A configuration for it; ``changes`` are ``section__key=value``."""
    values: dict[str, Any] = {
        "model": {"path": model_path, "dtype": "float32"},
        "data": {"path": "none.jsonl", "max_prompt_tokens": 16},
        "train": {
            "steps": 3,
            "groups_per_step": 4,
            "group_size": 4,
            "max_response_tokens": 12,
            "learning_rate": 1e-3,
            "micro_batch_tokens": 64,
        },
    }
    for key, value in changes.items():
        section, name = key.split("__")
        values.setdefault(section, {})[name] = value
    return Config.model_validate(values)


def make_groups(count: int = 4, *, version: int = 0, seed: int = 0, size: int = 4) -> list[ScoredGroup]:
    """Groups of random tokens, lengths, behaviour log-probabilities and spans of up to three versions back."""
    random = np.random.default_rng(seed)
    return [_group(ticket, size, version, random) for ticket in range(count)]


def _group(ticket: int, size: int, version: int, random: np.random.Generator) -> ScoredGroup:
    lengths_S = random.integers(1, 12, size)
    spans = []
    for response, length in enumerate(lengths_S):
        newest, split = max(0, version - int(random.integers(0, 3))), int(random.integers(0, length))
        if split and newest:
            spans += [(response, newest - 1, 0, split), (response, newest, split, length)]
        else:
            spans += [(response, newest, 0, length)]
    total = int(lengths_S.sum())
    rewards_S = np.zeros(size)
    rewards_S[: 1 + ticket % (size - 1)] = 1.0
    return ScoredGroup(
        ticket=Ticket(
            ticket=ticket,
            incarnation=0,
            min_version=0,
            stage=0,
            prompt_id=f"test:{ticket}",
            prompt_tokens_P=random.integers(0, VOCABULARY, random.integers(2, 9)).astype(np.uint16),
            group_size=size,
            max_new_tokens=12,
            temperature=1.0,
            seed=ticket,
            ability="math",
            ground_truth=("1",),
        ),
        responses=Responses(
            group_id=f"{ticket}-0",
            tokens_T=random.integers(0, VOCABULARY, total).astype(np.uint16),
            logprobs_T=random.normal(-4.0, 0.5, total).astype(np.float32),
            lengths_S=lengths_S.astype(np.uint32),
            finished_S=(lengths_S < 11).astype(np.uint8),
            spans=np.array(spans, dtype=np.uint32),
            worker="test",
            seconds=0.1,
        ),
        rewards_S=rewards_S,
    )


def with_turns(groups: list[ScoredGroup], seed: int = 0) -> list[ScoredGroup]:
    """The groups with one or two pieces of most responses of three tokens or more marked as observed."""
    random = np.random.default_rng(seed)
    return [replace(group, responses=_in_turns(group.responses, random)) for group in groups]


def _in_turns(responses: Responses, random: np.random.Generator) -> Responses:
    observed: list[tuple[int, int, int]] = []
    for response, length in enumerate(responses.lengths_S.tolist()):
        for low, high in ((1, length // 2), (length // 2 + 1, length - 1)) if length > 6 else ((1, length - 1),):
            if high > low and random.random() < 0.8:
                start = int(random.integers(low, high))
                observed.append((response, start, int(random.integers(start + 1, high + 1))))
    spans = []
    for response, version, start, end in responses.spans.tolist():
        for owner, first, last in observed:
            if owner == response and first < end and last > start:
                spans += [(response, version, start, first)] * (first > start)
                start = min(last, end)
        spans += [(response, version, start, end)] * (end > start)
    found = replace(
        responses,
        observed=np.array(observed, np.uint32).reshape(-1, 3),
        spans=np.array(spans, np.uint32),
        environment_S=random.normal(size=len(responses.lengths_S)),
    )
    logprobs_T = np.where(found.sampled_T, responses.logprobs_T, np.nan).astype(np.float32)
    return replace(found, logprobs_T=logprobs_T)
