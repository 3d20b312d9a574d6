"""Model folders of a few thousand parameters, as transformers writes them, with the tiny preset's tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from leeway_rl.common.config import PRESETS, Config, compose

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
SIZES: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": 32},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"head_dim": 64},
    "gemma": {"head_dim": 64},
    "gemma3_text": {"head_dim": 64, "sliding_window": 32},
    "phi3": {},
    "smollm3": {},
    "olmo2": {},
}
"""Those that can be trained and sampled, and what they need beside ``SIZES``."""
OTHERS: dict[str, dict[str, Any]] = {
    "gpt_oss": {"head_dim": 32, "num_local_experts": 2, "num_experts_per_tok": 1, "rope_parameters": None},
    "gemma2": {"head_dim": 64},
    "mamba": {},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "qwen3_moe": {"head_dim": 64, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
    "gpt2": {"n_positions": 512},
    "granite": {"logits_scaling": 2.0},
}


def make_folder(folder: Path, kind: str = "qwen2", *, shards: str = "1GB", noise: float = 0.0, **changes: Any) -> Path:
    """Write it, random weights and all. ``noise``: the standard deviation of what is added to every weight, so that
    none, as a bias or a scale, is what it would be if it were left out."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    known = {**FAMILIES, **OTHERS}.get(kind, {})
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **known, **changes}))
    if noise:
        with torch.no_grad():
            for tensor in {id(each): each for each in model.state_dict(keep_vars=True).values()}.values():
                tensor += noise * torch.randn(tensor.shape)
    model.save_pretrained(folder, max_shard_size=shards)
    for name in TOKENIZER:
        shutil.copy(PRESETS / "tiny/model" / name, folder)
    return folder


def change(file: Path, **keys: Any) -> None:
    """Set keys of a JSON file; those that are None are taken out."""
    found = {**json.loads(file.read_text()), **keys}
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def asking(folder: Path | str, *settings: str) -> Config:
    """The tiny preset's configuration on another model."""
    return compose(["tiny"], [f"model.path={folder}", *settings])
