"""A model's sizes, from its config.json or from a table of known base models."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from ....common.errors import DataError
from ....common.flops import Sizes, sizes_of
from ....common.preflight.folder import has_weights, read_folder, read_object
from ....common.preflight.hub import folder_of, is_hub_name
from ....common.preflight.weights import TIED
from ....common.rope import Context, context_of

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Keys of models whose layers have several feed-forward parts, of which a token uses some."""
_UNGATED = frozenset(["apertus", "arcee", "gpt_neox", "phi", "starcoder2"])
"""Families whose feed-forward part has two matrices, and not the three of Llama's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape(Sizes):
    """A model's sizes, and what its memory asks for beside them."""

    parameters: int
    """Number of parameters; tied ones count once."""
    tied: bool = False
    """Whether the embedding is the head."""
    weights_here: bool = True
    """Whether ``parameters`` were counted in the weights, or are the known ones of a base model. Otherwise they follow
    from config.json alone."""
    context: Context

    @property
    def head(self) -> int:
        """Parameters of the head, which has as many as the embedding. Neither is larger than any other tensor's."""
        return self.vocabulary * self.hidden

    @property
    def in_layers(self) -> int:
        """Parameters of all layers: those that are neither embedding nor head."""
        return self.parameters - self.head * (1 if self.tied else 2)

    @property
    def largest_tensor(self) -> int:
        """Parameters of the largest tensor."""
        return max(self.head, self.hidden * self.intermediate)


def parameters_of(sizes: Sizes, *, tied: bool, biased: bool, gated: bool = True) -> int:
    """Parameters of a model of Llama's shape. ``biased``: whether query, key and value have a bias, as in Qwen2.
    ``gated``: whether the feed-forward part has a gate. Further norms and biases, which some families have, are left
    out: they are less than a thousandth."""
    wide, narrow = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    attention = 2 * sizes.hidden * (wide + narrow) + (wide + 2 * narrow if biased else 0)
    layer = attention + (3 if gated else 2) * sizes.hidden * sizes.intermediate + 2 * sizes.hidden
    return sizes.layers * layer + sizes.hidden + sizes.vocabulary * sizes.hidden * (1 if tied else 2)


def _qwen2(layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int, vocabulary: int) -> Shape:
    """A base model of the report's family: heads of 128, embedding and head apart."""
    sizes = Sizes(
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=128,
        vocabulary=vocabulary,
    )
    context = Context(131_072, "max_position_embeddings = 131072")
    return Shape(**asdict(sizes), parameters=parameters_of(sizes, tied=False, biased=True), context=context)


BASES = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": _qwen2(28, 1536, 8960, 12, 2, 151_936),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _qwen2(28, 3584, 18_944, 28, 4, 152_064),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": _qwen2(64, 5120, 27_648, 40, 8, 152_064),
}
"""The base models of the shipped presets, from their config.json, for where no hub is at hand."""


def shape_of(model_path: str) -> Shape | None:
    """The sizes of a model folder, of a hub name in this machine's cache, or of a base model in ``BASES``; ``None``
    where ``why_unknown`` says why they cannot be counted. config.json is enough. ``DataError`` where the folder is
    damaged."""
    if is_hub_name(model_path) and model_path in BASES:
        return BASES[model_path]
    folder = folder_of(model_path)
    if folder is None or not (folder / "config.json").is_file():
        return None
    keys = read_object(folder / "config.json")
    context = context_of(keys)
    if context is None or _experts(keys):
        return None
    heads = keys.get("num_attention_heads")
    sizes = sizes_of({**keys, "num_key_value_heads": keys.get("num_key_value_heads") or heads})
    if sizes is None:
        return None
    kind = str(keys.get("model_type"))
    tied = bool(keys.get("tie_word_embeddings", kind in TIED))
    counted = _counted(folder, whole=not is_hub_name(model_path))
    parameters = counted or parameters_of(
        sizes, tied=tied, biased=bool(keys.get("attention_bias")) or kind == "qwen2", gated=kind not in _UNGATED
    )
    return Shape(**asdict(sizes), parameters=parameters, tied=tied, weights_here=counted is not None, context=context)


def why_unknown(model_path: str) -> str:
    """Why ``shape_of`` has no sizes."""
    folder, due = folder_of(model_path), "a folder with its config.json, even without weights, is enough for a plan"
    if folder is None:
        return (
            f"{model_path} is not in the hub's cache here: fetch its sizes with hf download {model_path} config.json, "
            f"or set model.path to its folder ({due})"
        )
    if not (folder / "config.json").is_file():
        return f"{model_path} is not on this machine: {due}"
    if (key := _experts(read_object(folder / "config.json"))) is not None:
        return f"{model_path} has experts ({key} in its config.json), and these layers are not counted here"
    return f"the config.json of {model_path} does not say its sizes as that of a Llama-shaped model does"


def _experts(keys: Mapping[str, Any]) -> str | None:
    # Some models have a list of them, of text and of pictures.
    return next((name for name in _EXPERTS if str(keys.get(name) or 0) not in ("0", "1")), None)


def _counted(folder: Path, *, whole: bool) -> int | None:
    """Parameters by the headers of the weights; None where the weights are not there. ``whole``: whether a folder that
    has some weights has to have all of them, which the hub's cache need not."""
    if not has_weights(folder):
        return None
    try:
        held = read_folder(folder, weights=True).tensors or {}
    except DataError:
        if whole:
            raise
        return None
    return sum(prod(each.shape) for each in held.values())
