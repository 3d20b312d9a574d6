"""Does the checks of a model in their order, for a process that is about to load it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, cast

from ..config import Config, expand
from ..errors import ConfigError, DataError
from ..rope import context_of, why_not_packed, why_too_long
from .architecture import (
    text_keys,
    why_no_language_model,
    why_not_sampled_by_torch,
    why_not_sampled_by_vllm,
    why_not_trained,
)
from .folder import ModelFolder, has_weights, read_folder
from .hub import folder_of, is_hub_name, refuse_unreachable
from .tokens import load_tokenizer, why_no_tokenizer, why_other_tokenizer
from .vllm_cpu import why_head_size
from .weights import why_not_whole, why_quantised

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


Use = Literal["train", "refer", "load", "sample"]
"""What a process is about to do with a model. ``train``, ``refer`` (be the reference of the KL term) and ``load`` need
the weights in the folder. For ``sample`` the weights come by Redis, and the folder gives the rest."""


def check_model(config: Config, *uses: Use, dry_run: bool = False) -> ModelFolder | None:
    """Refuse the model that ``config.model.path`` names, before it loads, if it cannot be used in these ways here.

    Returns what is known of it; None for a hub name that is not in this machine's cache. ``dry_run``: ask no hub for
    such a name, and take a folder without any weights for one whose weights lie elsewhere. Raises ``DataError`` for a
    model that cannot be used, and ``ConfigError`` for a key that does not fit it.
    """
    path = folder_of(said := config.model.path)
    if path is None:
        if not dry_run:
            refuse_unreachable(said)
        return None
    # The hub's cache fetches what it lacks.
    whole = not is_hub_name(said) and not (dry_run and not has_weights(path))
    found = read_folder(path, weights=whole and not {"train", "refer", "load"}.isdisjoint(uses))
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
    if "train" in uses or "refer" in uses:
        yield why_not_trained(keys)
        yield why_not_packed(keys, config.longest_sequence)
    if "sample" in uses and config.rollout.engine == "torch":
        yield why_not_sampled_by_torch(keys)
    if found.tensors is not None:
        yield why_not_whole(keys, found.tensors)
    if "sample" in uses and config.rollout.engine == "vllm":
        yield why_not_sampled_by_vllm(keys, config.longest_sequence)
        yield why_head_size(text_keys(keys))
    if whole and "refer" not in uses:
        yield why_no_tokenizer(found.path)


def check_reference(config: Config, said: str, *, dry_run: bool = False) -> None:
    """Refuse ``said``, one of the models of the run's KL terms, as ``check_model`` does, before it loads: if it cannot
    be a reference here, or has not as many tokens as ``model.path``."""
    if said == config.model.path:
        return
    if folder_of(said) is None:
        if not dry_run:
            refuse_unreachable(said, "objective.reference")
        return
    try:
        found = check_model(config.of_model(said), "refer", dry_run=dry_run)
    except DataError as error:
        raise DataError(f"objective.reference = {said!r}: {error}") from None
    theirs = None if found is None else _vocabulary(found)
    ours = _vocabulary(read_folder(path, weights=False)) if _lies(path := folder_of(config.model.path)) else None
    if None not in (ours, theirs) and ours != theirs:
        raise DataError(
            f"objective.reference = {said!r} has {theirs:,} tokens (vocab_size), and model.path = "
            f"{config.model.path!r} has {ours:,}: the KL term compares the same tokens, so both need one vocabulary"
        )


def refuse_other_tokens(config: Config, tokenizer: PreTrainedTokenizerBase) -> None:
    """``DataError`` if a model of the KL terms has a tokenizer of its own, with other tokens than ``tokenizer``, that
    of ``model.path``."""
    for said in config.references:
        if said == config.model.path or not _lies(path := folder_of(said)) or why_no_tokenizer(path) is not None:
            continue
        if load_tokenizer(expand(said)).get_vocab() != tokenizer.get_vocab():
            raise DataError(
                f"objective.reference = {said!r}: its tokenizer has other tokens than that of model.path = "
                f"{config.model.path!r}, so its probabilities are of other texts"
            )


def _lies(path: Path | None) -> TypeGuard[Path]:
    return path is not None and (path / "config.json").is_file()


def _vocabulary(found: ModelFolder) -> int | None:
    size = text_keys(found.keys).get("vocab_size")
    return size if isinstance(size, int) else None


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
    return tokenizer, _vocabulary(found)


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
