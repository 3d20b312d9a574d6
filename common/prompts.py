"""Prompts: rows of a file in, messages and tokens out; and the seed that a ticket is sampled by.

Rows are the Skywork-OR1-RL-Data schema (``prompt`` a list of messages, ``reward_model.ground_truth`` a JSON list of
golds, or for ability ``code`` of an object of tests) or plain ``{"prompt": "…", "answer": "…"}`` and
``{"prompt": "…", "tests": {…}}``.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import Data
from .errors import DataError
from .long_integers import loads

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


def sampling_seed(run_seed: int, ticket: int) -> int:
    """The group's sampling seed, 62 bits, from (run seed, ticket) alone."""
    return int(np.random.SeedSequence([run_seed, ticket]).generate_state(1, np.uint64)[0]) >> 2


def opens_reasoning(prompt_tail: str) -> bool:
    """Whether a prompt that ends so has opened the reasoning: some chat templates do, and the response then begins in
    the middle of it."""
    return prompt_tail.rstrip().endswith("<think>")


def tokenize(row: Row, data: Data, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The row's tokens after the chat template, generation prompt included; ``data`` says what is put around it."""
    messages = list(row.messages)
    if data.suffix:
        last = messages[-1]
        messages[-1] = {**last, "content": last["content"] + data.suffix}
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
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield number, loads(line)
            except json.JSONDecodeError as error:
                yield number, DataError(f"{path}:{number}: not JSON: {error}")


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    number = 0
    for batch in file.iter_batches(batch_size=1024):
        for values in batch.to_pylist():
            number += 1
            yield number, values


def row_of(values: Any, prompt_id: str, where: str) -> Row:
    """The row in ``values``, of a file or of a published set; ``DataError`` says what is wrong at ``where``."""
    if isinstance(values, DataError):
        raise values
    if not isinstance(values, dict):
        raise DataError(f"{where}: a row is an object with prompt and answer, found {type(values).__name__}")
    if "prompt" not in values:
        raise DataError(f"{where}: key 'prompt' is missing; keys found: {', '.join(map(str, values)) or 'none'}")
    ability = str(values["ability"]) if "ability" in values else "code" if "tests" in values else "math"
    return Row(
        prompt_id=prompt_id,
        messages=_messages(values["prompt"], where),
        ability=ability,
        ground_truth=_tests(values, where) if ability == "code" else _golds(values, where),
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


def _golds(values: dict[str, Any], where: str) -> tuple[str, ...]:
    if "reward_model" in values:
        text = _ground_truth(values, where)
        try:
            parsed = loads(text, long=str)
        except json.JSONDecodeError:
            parsed = text  # a bare gold, as some published rows have it
        answer = parsed if isinstance(parsed, (list, str)) else text  # not through float: 0.50 stays 0.50
    elif "answer" in values:
        answer = values["answer"]
    else:
        raise DataError(f"{where}: a row without an answer; give 'answer' or 'reward_model.ground_truth'")
    golds = answer if isinstance(answer, list) else [answer]
    if not golds or not all(isinstance(gold, (str, int, float)) and str(gold).strip() for gold in golds):
        raise DataError(f"{where}: answer is a text or a list of texts, found {str(answer)[:80]!r}")
    return tuple(str(gold) for gold in golds)


def _tests(values: dict[str, Any], where: str) -> tuple[str, ...]:
    """One JSON text, an object or a list of tests. What is in it is the verifier's to read, and to refuse."""
    tests = values["tests"] if "tests" in values else _ground_truth(values, where)
    if isinstance(tests, str):
        try:
            tests = loads(tests)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: the tests of a code row are JSON: {error}") from error
    if not isinstance(tests, (dict, list)) or not tests:
        raise DataError(f"{where}: the tests of a code row are an object that is not empty, found {str(tests)[:80]!r}")
    return (json.dumps(tests),)


def _ground_truth(values: dict[str, Any], where: str) -> str:
    model = values.get("reward_model")
    text = model.get("ground_truth") if isinstance(model, dict) else None
    if not isinstance(text, str) or not text:
        raise DataError(f"{where}: reward_model.ground_truth is a JSON text, found {str(text)[:80]!r}")
    return text
