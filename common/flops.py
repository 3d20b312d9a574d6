"""How many floating-point operations training takes, by a model's shape and the lengths of its sequences, and what a
card can do. Pure arithmetic, of dense models of Llama's shape: Qwen2, Qwen3, Llama, Mistral.

A product of [m, k] and [k, n] takes 2·m·k·n operations. Norms, softmax and embeddings are left out, as in PaLM
(Chowdhery et al. 2022, arXiv 2204.02311, appendix B), whose model FLOPs utilisation (MFU) this is for: the operations
that the model needs, as a share of what the devices could do in that time. What is computed again to save memory does
not count. Here as there a backward pass takes twice its forward pass; unlike there, attention is counted by the real
lengths, and of its square only the half that causality leaves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of a model, by the names of its config.json."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int


def sizes_of(keys: Mapping[str, Any]) -> Sizes | None:
    """The sizes in the keys of a config.json; None where one is missing or no size. Whether the layers are of Llama's
    kind is not said there: ``layer_weights`` tells it, compared with the model's own."""
    try:
        heads, hidden = int(keys["num_attention_heads"]), int(keys["hidden_size"])
        found = Sizes(
            layers=int(keys["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(keys["intermediate_size"]),
            heads=heads,
            kv_heads=int(keys["num_key_value_heads"]),
            head_dim=int(keys.get("head_dim") or hidden // heads),
            vocabulary=int(keys["vocab_size"]),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return found if min(astuple(found)) > 0 else None


def layer_weights(shape: Sizes) -> int:
    """Elements of the matrices that every token goes through, of all layers, without embedding and head."""
    attention = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_dim
    return shape.layers * (attention + 3 * shape.hidden * shape.intermediate)


def flops_per_token(shape: Sizes, context: float, *, head: bool = True) -> float:
    """Operations of the forward pass of one token that sees ``context`` tokens. ``head``: whether its logits are
    computed."""
    attention = 4 * shape.layers * shape.heads * shape.head_dim * context  # its scores, and the sum of the values
    return 2 * layer_weights(shape) + attention + (2 * shape.hidden * shape.vocabulary if head else 0)


def layer_flops(shape: Sizes, groups: Iterable[Sequence[int]]) -> float:
    """Operations of a forward pass through the layers, over ``groups`` of sequences that share a prompt: the tokens of
    the prompt, which is computed once, then those that each response adds."""
    total = 0.0
    for prompt, *responses in groups:
        total += prompt * flops_per_token(shape, prompt / 2, head=False)
        total += sum(own * flops_per_token(shape, prompt + own / 2, head=False) for own in responses)
    return total


def training_flops(
    shape: Sizes, groups: Iterable[Sequence[int]], targets: int, *, passes: int = 1, before: float = 0
) -> float:
    """Operations of ``passes`` forward and backward passes over ``groups`` (as ``layer_flops`` takes them), which have
    ``targets`` tokens whose logits are computed. ``before``: forward passes that have no backward pass, as those for
    log π_old and for a reference model; one over a part of them is a part of a pass."""
    forward = layer_flops(shape, groups) + targets * 2 * shape.hidden * shape.vocabulary
    return (3 * passes + before) * forward


PEAK_TFLOPS = {
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA A100-PCIE-40GB": 312.0,
    "NVIDIA A100 80GB PCIe": 312.0,
    "NVIDIA L40S": 362.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100 NVL": 835.0,
    "NVIDIA H100 80GB HBM3": 989.0,
    "NVIDIA H200 NVL": 835.0,
    "NVIDIA H200": 989.0,
    "NVIDIA B200": 2250.0,
}
"""Dense bfloat16 TFLOP/s of a whole card, by the name that CUDA gives it, from NVIDIA's data sheets of each card, which
print twice that for matrices with 2:4 sparsity. A part of a card (MIG) has another name, and is not here."""
