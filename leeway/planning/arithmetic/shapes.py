"""A model's sizes, from its config.json or from a table of known base models."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from ....common.config import expand
from ....common.flops import Sizes, sizes_of
from ....common.preflight.folder import read_header, read_object
from ....common.rope import Context, context_of

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Keys of models whose layers have several feed-forward parts, of which a token uses some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape(Sizes):
    """A model's sizes, and what its memory asks for beside them."""

    parameters: int
    """Number of parameters; tied ones count once."""
    tied: bool = False
    """Whether the embedding is the head."""
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


def parameters_of(
    *, layers: int, hidden: int, intermediate: int, wide: int, narrow: int, vocabulary: int, tied: bool, biased: bool
) -> int:
    """Parameters of a model of Llama's shape. ``wide`` and ``narrow``: width of all query heads and of all key heads.
    ``biased``: whether query, key and value have a bias, as in Qwen2."""
    attention = 2 * hidden * wide + 2 * hidden * narrow + (wide + 2 * narrow if biased else 0)
    layer = attention + 3 * hidden * intermediate + 2 * hidden
    return layers * layer + hidden + vocabulary * hidden * (1 if tied else 2)


def _qwen2(layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int, vocabulary: int) -> Shape:
    """A base model of the report's family: heads of 128, embedding and head apart."""
    sizes = {"layers": layers, "hidden": hidden, "intermediate": intermediate, "vocabulary": vocabulary}
    parameters = parameters_of(**sizes, wide=128 * heads, narrow=128 * kv_heads, tied=False, biased=True)
    context = Context(131_072, "max_position_embeddings = 131072")
    heads_of = {"heads": heads, "kv_heads": kv_heads, "head_dim": 128}
    return Shape(**sizes, **heads_of, parameters=parameters, tied=False, context=context)


BASES = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": _qwen2(28, 1536, 8960, 12, 2, 151_936),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _qwen2(28, 3584, 18_944, 28, 4, 152_064),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": _qwen2(64, 5120, 27_648, 40, 8, 152_064),
}
"""The base models of the shipped presets, from their config.json, for where no hub is at hand."""


def shape_of(model_path: str) -> Shape | None:
    """The sizes of a local model folder, or of a base model in ``BASES``; ``None`` where neither knows, or where
    ``why_unknown`` says why they cannot be counted."""
    folder = Path(expand(model_path))
    if not (folder / "config.json").is_file():
        return BASES.get(model_path)
    keys = read_object(folder / "config.json")
    context = context_of(keys)
    if context is None or _experts(keys):
        return None
    heads = keys.get("num_attention_heads")
    sizes = sizes_of({**keys, "num_key_value_heads": keys.get("num_key_value_heads") or heads})
    return None if sizes is None else _shape(sizes, keys, context, folder)


def why_unknown(model_path: str) -> str:
    """Why ``shape_of`` has no sizes."""
    config = Path(expand(model_path)) / "config.json"
    if config.is_file() and (key := _experts(read_object(config))):
        return f"{model_path} has experts ({key} in its config.json), and these layers are not counted here"
    return f"{model_path} is no local folder with a config.json of a Llama-shaped model, and none of {', '.join(BASES)}"


def _experts(keys: Mapping[str, Any]) -> str | None:
    return next((name for name in _EXPERTS if (keys.get(name) or 0) > 1), None)


def _shape(sizes: Sizes, keys: Mapping[str, Any], context: Context, folder: Path) -> Shape:
    tied = bool(keys.get("tie_word_embeddings"))
    # The headers of the weights know best. A folder without weights is counted by its sizes.
    counted = sum(prod(each.shape) for path in folder.glob("*.safetensors") for each in read_header(path).values())
    parameters = counted or parameters_of(
        layers=sizes.layers,
        hidden=sizes.hidden,
        intermediate=sizes.intermediate,
        vocabulary=sizes.vocabulary,
        wide=sizes.heads * sizes.head_dim,
        narrow=sizes.kv_heads * sizes.head_dim,
        tied=tied,
        biased=bool(keys.get("attention_bias")) or keys.get("model_type") == "qwen2",
    )
    return Shape(**asdict(sizes), parameters=parameters, tied=tied, context=context)
