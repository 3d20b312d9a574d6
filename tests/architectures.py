"""The architectures of docs/reference/models.md: of each a small model that has what its code can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "initializer_range": 0.1,
}
"""Beside those of ``model_folders``. vLLM's attention on the CPU takes no heads narrower than 32."""
NOISE = 0.05
"""The standard deviation of what every weight is changed by, so that biases and scales count."""
SLIDING = {"sliding_window": 16}
"""Shorter than most prompts with their responses, so that it counts."""
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
ROUTED = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
LATENT = {
    **ROUTED,
    "kv_lora_rank": 512,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 64,
    "v_head_dim": 32,
    "head_dim": 64,
    "num_key_value_heads": 4,
}
GRANITE = {
    "logits_scaling": 8.0,
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.02,
}
MIXED = "layers that would mix packed responses"
OWN = "an attention that would mix packed responses"


@dataclass(frozen=True, slots=True)
class Architecture:
    """A kind of model."""

    kind: str
    """Its ``model_type`` in config.json."""
    models: str
    """Published models of it, for people."""
    keys: dict[str, Any] = field(default_factory=dict)
    """Of its ``config.json``, beside ``SIZES``."""
    refused: str = ""
    """Part of the words by which it is refused, where it is."""
    engines: tuple[str, ...] = ("torch", "vllm")
    """Those that can sample from it."""


ARCHITECTURES = [
    Architecture("qwen2", "Qwen2, Qwen2.5, QwQ, DeepSeek-R1-Distill-Qwen, Skywork-OR1"),
    Architecture("qwen3", "Qwen3 0.6B to 32B"),
    Architecture("qwen3_moe", "Qwen3-30B-A3B, Qwen3-235B-A22B", EXPERTS),
    Architecture("qwen2_moe", "Qwen1.5-MoE, Qwen2-57B-A14B", {**EXPERTS, "shared_expert_intermediate_size": 48}),
    Architecture("llama", "Llama 2 and 3, DeepSeek-R1-Distill-Llama, SmolLM2"),
    Architecture("mistral", "Mistral 7B", SLIDING),
    Architecture("ministral", "Ministral 8B", SLIDING),
    Architecture("ministral3", "the text part of Ministral 3"),
    Architecture("mixtral", "Mixtral 8x7B", LOCAL),
    Architecture("gemma", "Gemma 1"),
    Architecture("gemma3_text", "Gemma 3 1B, and the text part of the larger ones", SLIDING),
    Architecture("phi", "Phi-1.5, Phi-2 (a head with a bias)", engines=("torch",)),
    Architecture("phi3", "Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini, Phi-4-reasoning"),
    Architecture("phimoe", "Phi-3.5-MoE (a head with a bias)", {**LOCAL, "lm_head_bias": True}, engines=("torch",)),
    Architecture("olmo2", "OLMo 2"),
    Architecture("olmo3", "OLMo 3", SLIDING),
    Architecture("olmoe", "OLMoE", {"num_experts": 4, "num_experts_per_tok": 2}),
    Architecture("glm", "GLM-4-9B (glm-4-9b-hf)"),
    Architecture("glm4", "GLM-4-0414, GLM-Z1"),
    Architecture("glm4_moe", "GLM-4.5, GLM-4.6", {**ROUTED, "num_nextn_predict_layers": 0}),
    Architecture("deepseek_v2", "DeepSeek-V2, DeepSeek-V2-Lite", LATENT, engines=("torch",)),
    Architecture(
        "deepseek_v3",
        "DeepSeek-V3, DeepSeek-R1, Moonlight",
        {**LATENT, "topk_method": "noaux_tc", "scoring_func": "sigmoid"},
        engines=("torch",),
    ),
    Architecture("smollm3", "SmolLM3", {"no_rope_layer_interval": 2}),
    Architecture("granite", "Granite 3 (scaled logits)", GRANITE),
    Architecture("cohere", "Command R, Aya Expanse (scaled logits)", {"logit_scale": 0.25}),
    Architecture("cohere2", "Command R7B, Command A (scaled logits)", {"sliding_window": 64, "logit_scale": 0.25}),
    Architecture("exaone4", "EXAONE 4", SLIDING),
    Architecture("seed_oss", "Seed-OSS"),
    Architecture("ernie4_5", "ERNIE 4.5 0.3B"),
    Architecture("hunyuan_v1_dense", "Hunyuan dense"),
    Architecture("minimax_m2", "MiniMax-M2", {**LOCAL, "rotary_dim": 16}, engines=("torch",)),
    Architecture("apertus", "Apertus"),
    Architecture("arcee", "AFM-4.5B"),
    Architecture("starcoder2", "StarCoder2", SLIDING),
    Architecture("gpt_neox", "Pythia", engines=("torch",)),
    Architecture("gpt2", "GPT-2", {"n_positions": 512}),
    Architecture("gemma2", "Gemma 2", SLIDING, "softcap in its attention"),
    Architecture("gpt_oss", "gpt-oss", {**LOCAL, "rope_parameters": None}, "attention sinks"),
    Architecture("qwen3_next", "Qwen3-Next", EXPERTS, MIXED),
    Architecture("qwen3_5_text", "the text part of Qwen3.5", {}, MIXED),
    Architecture("falcon_h1", "Falcon-H1", {}, MIXED),
    Architecture("granitemoehybrid", "Granite 4", {}, MIXED),
    Architecture("nemotron_h", "Nemotron-H, Nemotron 3", {}, MIXED),
    Architecture("lfm2", "LFM2", {}, MIXED),
    Architecture("mamba", "Mamba", {}, MIXED),
    Architecture("nemotron", "Minitron, Nemotron-4", {}, OWN),
    Architecture("stablelm", "StableLM 2", {}, OWN),
]
