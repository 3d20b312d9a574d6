"""Loads a model's tokenizer, and checks that it belongs to the model. It imports transformers, but never torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..large_imports import large_import
from .architecture import text_keys
from .folder import LFS_POINTER, read_object, some

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken", "tekken.json", "spiece.model")
"""Files that tokenizers are read from. Without any of them transformers makes an empty one: prompts have 0 tokens."""


def hide_torch() -> None:
    """Hide torch from transformers for as long as this process lives, unless it is imported already. It is for
    processes that compute nothing: torch makes the import of transformers take four times as long and three times the
    memory."""
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # It would advise to install torch.


def why_no_tokenizer(folder: Path) -> str | None:
    """Why the folder has no tokenizer, as far as its files tell; None if it has one."""
    if not any(list(folder.glob(pattern)) for pattern in (*FILES, "*.model", "*vocab*")):
        due = "expected tokenizer.json and tokenizer_config.json, as its tokenizer's save_pretrained writes them"
        return f"it has no tokenizer: {due}"
    for pattern in FILES:
        for file in folder.glob(pattern):
            with file.open("rb") as opened:
                if opened.read(len(LFS_POINTER)) == LFS_POINTER:
                    return f"{file.name} is a pointer of git-lfs instead of the file: run git lfs pull in its folder"
    return None


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or a hub name. ``DataError`` if there is none, or it cannot be read."""
    folder = Path(path)
    if folder.is_dir() and (why := why_no_tokenizer(folder)) is not None:
        raise DataError(f"model {path}: {why}")
    with large_import():
        from transformers import AutoTokenizer
        from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    except Exception as error:  # the libraries' own errors are many, bare Exceptions among them
        if (folder / "tokenizer.json").is_file():
            read_object(folder / "tokenizer.json")  # this error names the file; the library's own does not
        said = " ".join(str(error).split())[:300]
        raise DataError(f"model {path}: its tokenizer cannot be loaded: {said or type(error).__name__}") from error
    finally:
        logging.set_verbosity(level)
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise DataError(f"model {path}: its tokenizer is empty: it has {len(tokenizer)} tokens, all of them special")
    return tokenizer


def ends_of(keys: Mapping[str, Any], generation: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of the tokens that end a response: all that config, generation config or tokenizer call eos."""
    found = [keys.get("eos_token_id"), text_keys(keys).get("eos_token_id"), generation.get("eos_token_id")]
    found.append(tokenizer.eos_token_id)
    return {end for entry in found for end in (entry if isinstance(entry, list) else [entry]) if isinstance(end, int)}


def why_other_tokenizer(
    keys: Mapping[str, Any], generation: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase
) -> str | None:
    """Why tokenizer and model do not belong together; None if they do. It is usual that the model has more tokens than
    the tokenizer, and that an unused special token lies beyond the model's last."""
    ends, vocabulary = ends_of(keys, generation, tokenizer), text_keys(keys).get("vocab_size")
    if not ends:
        return "no token ends its responses: set eos_token_id in its generation_config.json"
    if not isinstance(vocabulary, int):
        return None
    if min(ends) >= vocabulary:
        past = f"eos_token_id {some([*map(str, sorted(ends))])} is past its vocabulary (vocab_size {vocabulary})"
        return f"{past}: no token that it can sample ends a response"
    added = set(tokenizer.added_tokens_decoder)
    beyond = [text for text, number in tokenizer.get_vocab().items() if number >= vocabulary and number not in added]
    if beyond:
        return (
            f"its tokenizer has {len(beyond)} tokens past its vocabulary (vocab_size {vocabulary}), "
            f"{some([repr(text) for text in sorted(beyond)])}: it is another model's"
        )
    return None


def why_unusable(tokens: Sequence[int] | np.ndarray, vocabulary: int | None) -> str | None:
    """Why a model of ``vocabulary`` tokens cannot read a prompt; None if it can."""
    if not len(tokens):
        return "the prompt has 0 tokens: the tokenizer or its chat template makes nothing of it"
    if vocabulary is not None and (largest := max(tokens)) >= vocabulary:
        return f"token {largest} of the prompt is past the model's vocabulary (vocab_size {vocabulary})"
    return None
