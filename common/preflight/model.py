"""Does the checks of a model in their order, for a process that is about to load it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from ..config import Config, expand
from ..errors import ConfigError, DataError
from ..rope import context_of, why_not_packed, why_too_long
from .architecture import text_keys, why_no_language_model, why_not_sampled_by_torch, why_not_trained
from .folder import ModelFolder, read_folder
from .hub import folder_of, is_hub_name, refuse_unreachable
from .tokens import load_tokenizer, why_no_tokenizer, why_other_tokenizer
from .vllm_cpu import why_head_size
from .weights import why_not_whole, why_quantised

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


Use = Literal["train", "load", "sample"]
"""What a process is about to do with a model. ``train`` and ``load`` need the weights in the folder. For ``sample`` the
weights come by Redis, and the folder gives the rest."""


def check_model(config: Config, *uses: Use, ask_hub: bool = True) -> ModelFolder | None:
    """Refuse the model that ``config.model.path`` names, before it loads, if it cannot be used in these ways here.

    Returns what is known of it; None for a hub name that is not in this machine's cache. ``ask_hub``: whether to ask
    the hub for such a name. Raises ``DataError`` for a model that cannot be used, and ``ConfigError`` for a key that
    does not fit it.
    """
    said = config.model.path
    path = folder_of(said)
    if path is None:
        if ask_hub:
            refuse_unreachable(said)
        return None
    whole = not is_hub_name(said)  # otherwise it lies in the hub's cache, which fetches what it lacks
    found = read_folder(path, weights=whole and ("train" in uses or "load" in uses))
    keys = text_keys(found.keys)
    for why in _reasons(config, found, uses, whole=whole):
        if why is not None:
            raise DataError(f"model {path}: {why}")
    if (longer := why_too_long(config.tokens_by_key, f"model {path}", context_of(keys))) is not None:
        raise DataError(longer)
    if "train" in uses and found.tensors is not None:
        parameters = sum(prod(header.shape) for header in found.tensors.values())
        if (why := config.weights.why_too_large(parameters)) is not None:
            raise ConfigError(f"model {path}: {why}")
    if "sample" in uses and (why := why_not_spread(keys, config.rollout.tensor_parallel)) is not None:
        raise ConfigError(f"model {path}: {why}")
    return found


def _reasons(config: Config, found: ModelFolder, uses: Collection[Use], *, whole: bool) -> Iterator[str | None]:
    """The reasons against the model, one check after the other. Cheap checks, and those that explain others, go
    first."""
    keys = found.keys
    yield why_no_language_model(keys)
    yield why_quantised(keys, found.tensors)
    if "train" in uses:
        yield why_not_trained(keys)
        yield why_not_packed(keys, config.longest_sequence)
    if "sample" in uses and config.rollout.engine == "torch":
        yield why_not_sampled_by_torch(keys)
    if found.tensors is not None:
        yield why_not_whole(keys, found.tensors)
    if "sample" in uses and config.rollout.engine == "vllm":
        yield why_head_size(text_keys(keys))
    if whole:
        yield why_no_tokenizer(found.path)


def load_tokenizer_of(said: str) -> tuple[PreTrainedTokenizerBase, int | None]:
    """(the tokenizer of ``model.path``, how many tokens the model has; None if unknown). ``DataError`` if there is no
    tokenizer, or it belongs to another model."""
    tokenizer = load_tokenizer(expand(said))
    path = folder_of(said)
    if path is None or not (path / "config.json").is_file():
        return tokenizer, None
    found = read_folder(path, weights=False)
    # If config.json does not say what ends a response, transformers' default for the kind of model does.
    keys = {"eos_token_id": getattr(load_config(path), "eos_token_id", None), **found.keys}
    if (why := why_other_tokenizer(keys, found.generation, tokenizer)) is not None:
        raise DataError(f"model {path}: {why}")
    vocabulary = text_keys(found.keys).get("vocab_size")
    return tokenizer, vocabulary if isinstance(vocabulary, int) else None


def load_config(path: Path) -> PretrainedConfig:
    """The language model's configuration as transformers reads it; ``DataError`` if it cannot."""
    from transformers import AutoConfig

    try:
        return cast("PretrainedConfig", AutoConfig.from_pretrained(path, trust_remote_code=False).get_text_config())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        said = " ".join(str(error).split())[:300]
        raise DataError(f"model {path}: transformers cannot use its config.json: {said}") from error


def why_not_spread(keys: Mapping[str, Any], ranks: int) -> str | None:
    """Why vLLM cannot spread the model over ``ranks`` GPUs; None if it can."""
    heads = keys.get("num_attention_heads")
    shared = keys.get("num_key_value_heads") or heads
    if ranks == 1 or not isinstance(heads, int) or not isinstance(shared, int):
        return None
    if heads % ranks:
        return (
            f"rollout.tensor_parallel = {ranks} does not divide its {heads} attention heads (num_attention_heads); "
            f"{_divisors(heads)} do"
        )
    if shared % ranks and ranks % shared:
        return (
            f"rollout.tensor_parallel = {ranks} neither divides its {shared} heads of keys and values "
            f"(num_key_value_heads) nor is a multiple of them; {_divisors(shared)} divide them"
        )
    return None


def _divisors(number: int) -> str:
    return ", ".join(str(each) for each in range(1, min(number, 64) + 1) if number % each == 0)
