"""Prompts: rows of a file in, messages and tokens out; and the seed that a ticket is sampled by.

Rows are the Skywork-OR1-RL-Data schema (``prompt`` a list of messages, ``reward_model.ground_truth``) or plain:
``{"prompt": "…", "answer": "…"}``, ``{"prompt": "…", "tests": {…}}``, ``{"entry": {…}}``. What each ability is judged
by stands in ``ground_truth.py``.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import Data
from .errors import DataError
from .ground_truth import REASONING_GYM, ground_truth_of
from .long_integers import loads
from .texts import defect

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One problem as read, before tokens."""

    prompt_id: str
    messages: tuple[dict[str, str], ...]
    ability: str
    ground_truth: tuple[str, ...]
    difficulty: Any = None
    """``extra_info.model_difficulty``, as it stands in the row."""


BOXED = "\n\nLet's think step by step and output the final answer within \\boxed{}."
"""The demand for a boxed answer, as the published prompts have it."""


def sampling_seed(run_seed: int, ticket: int) -> int:
    """The group's sampling seed, 62 bits, from (run seed, ticket) alone."""
    return int(np.random.SeedSequence([run_seed, ticket]).generate_state(1, np.uint64)[0]) >> 2


def opens_reasoning(prompt_tail: str) -> bool:
    """Whether a prompt that ends so has opened the reasoning: some chat templates do, and the response then begins in
    the middle of it."""
    return prompt_tail.rstrip().endswith("<think>")


def decoder_of(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[int]], str]:
    """What makes text of tokens: without special ones, but with the marks of reasoning, which some tokenizers count
    among them. Without those, open reasoning would be graded as the answer."""
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    added = added() if callable(added) else added
    special = {number for number, token in added.items() if getattr(token, "special", False)}
    hidden = special | set(tokenizer.all_special_ids)
    hidden -= {number for number in hidden if str(tokenizer.convert_ids_to_tokens(number)).strip() in REASONING_MARKS}

    def decode(tokens: list[int]) -> str:
        return str(tokenizer.decode([token for token in tokens if token not in hidden], skip_special_tokens=False))

    return decode


REASONING_MARKS = frozenset(["<think>", "</think>"])


def tokenize(row: Row, data: Data, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The row's tokens after the chat template, generation prompt included; ``data`` says what is put around it."""
    messages = list(row.messages)
    suffix = data.suffix if data.suffix is not None else BOXED if row.ability == REASONING_GYM else ""
    if suffix:
        last = messages[-1]
        messages[-1] = {**last, "content": last["content"] + suffix}
    if data.examples:
        turns = [({"role": "user", "content": q}, {"role": "assistant", "content": a}) for q, a in data.examples]
        opening = 1 if messages[0]["role"] == "system" else 0
        messages[opening:opening] = [message for turn in turns for message in turn]
    if data.system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": data.system})
    if tokenizer.chat_template is None:
        return tokenizer("\n".join(message["content"] for message in messages))["input_ids"]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def file_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(number from 1, values) of each row of a .jsonl, .jsonl.gz or .parquet file; a line that is not JSON is a
    ``DataError`` in the place of its values. Raises ``DataError`` where the file as a whole cannot be read."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; a .jsonl or .parquet file of prompts is due")
    match path.suffix:
        case ".jsonl" | ".gz":
            return _jsonl(path)
        case ".parquet":
            return _parquet(path)
        case other:
            raise DataError(f"{path}: {other or 'no'} ending; prompts are read from .jsonl or .parquet")


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    number = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if line.strip():
                    yield number, _json(line, f"{path}:{number}")
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}:{number + 1}: the file breaks off here: {error}") from error


def _json(line: bytes, where: str) -> Any:
    """The values of one line, or what is wrong with it."""
    try:
        return loads(line.decode())
    except UnicodeDecodeError as error:
        return DataError(f"{where}: not UTF-8: byte {line[error.start]:#04x} at position {error.start + 1} of the line")
    except (ValueError, RecursionError) as error:
        return DataError(f"{where}: not JSON: {error}")


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    number = 0
    batches = file.iter_batches(batch_size=1024)
    while True:
        try:
            batch = next(batches, None)
            rows = [] if batch is None else batch.to_pylist()
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: rows {number + 1} and on cannot be read: {error}") from error
        if batch is None:
            return
        for values in rows:
            number += 1
            yield number, values


def row_of(values: Any, prompt_id: str, where: str, data: Data | None = None) -> Row:
    """The row in ``values``, of a file or of a published set; ``DataError`` says what is wrong at ``where``. ``data``
    says what holds for rows that say nothing themselves."""
    if isinstance(values, DataError):
        raise values
    if not isinstance(values, dict):
        raise DataError(f"{where}: a row is an object with prompt and answer, found {type(values).__name__}")
    entry = values.get("entry")
    prompt = values.get("prompt")
    if prompt is None and isinstance(entry, dict):
        prompt = entry.get("question")
    if "prompt" not in values and prompt is None:
        raise DataError(f"{where}: key 'prompt' is missing; keys found: {', '.join(map(str, values)) or 'none'}")
    messages, truth = _messages(prompt, where), ground_truth_of(values, where, data)
    for text in (*(message["content"] for message in messages), *truth.golds):
        if (wrong := defect(text)) is not None:
            raise DataError(f"{where}: {wrong}")
    return Row(
        prompt_id=prompt_id,
        messages=messages,
        ability=truth.ability,
        ground_truth=truth.golds,
        difficulty=extra.get("model_difficulty") if isinstance(extra := values.get("extra_info"), dict) else None,
    )


def _messages(prompt: Any, where: str) -> tuple[dict[str, str], ...]:
    if isinstance(prompt, str) and prompt:
        return ({"role": "user", "content": prompt},)
    if isinstance(prompt, (list, tuple)) and prompt and all(map(_is_message, prompt)):
        return tuple({"role": m["role"], "content": m["content"]} for m in prompt)
    raise DataError(f"{where}: prompt is a text or a list of {{role, content}} messages, found {str(prompt)[:80]!r}")


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
