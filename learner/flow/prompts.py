"""Prompts: rows in, tokens out, and which ticket gets which. The choice depends on (run seed, ticket) alone.

Rows are the Skywork-OR1-RL-Data schema (``prompt`` a list of messages, ``reward_model.ground_truth`` a JSON list of
golds, or for ability ``code`` of an object of tests) or plain ``{"prompt": "…", "answer": "…"}`` and
``{"prompt": "…", "tests": {…}}``.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...common.config import Data, expand
from ...common.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One problem, ready to be issued."""

    prompt_id: str
    """``<source>:<row>``."""
    tokens_P: np.ndarray
    """After the chat template, generation prompt included; uint32 [P]."""
    ability: str
    ground_truth: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One problem as read, before tokens."""

    prompt_id: str
    messages: tuple[dict[str, str], ...]
    ability: str
    ground_truth: tuple[str, ...]
    difficulty: Any = None
    """``extra_info.model_difficulty``, as it stands in the row."""


class PromptSource:
    """Every usable prompt of a run, and the ticket's choice among them."""

    def __init__(self, prompts: list[Prompt], *, seed: int, dropped: Mapping[str, int] | None = None) -> None:
        self.prompts, self.seed = prompts, seed
        self.dropped = dict(dropped or {})
        """How many rows were left out, by reason."""

    def __len__(self) -> int:
        return len(self.prompts)

    def prompt(self, ticket: int) -> Prompt:
        """Ticket t's prompt: each pass over the prompts is its own permutation, seeded by (run seed, pass)."""
        epoch, position = divmod(ticket, len(self.prompts))
        return self.prompts[_permutation(self.seed, epoch, len(self.prompts))[position]]


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size)


def sampling_seed(run_seed: int, ticket: int) -> int:
    """The group's sampling seed, 62 bits, from (run seed, ticket) alone."""
    return int(np.random.SeedSequence([run_seed, ticket]).generate_state(1, np.uint64)[0]) >> 2


def load_prompts(data: Data, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> PromptSource:
    """Read, check and tokenize every row. ``DataError`` names the row and what it lacks; prompts that are too long, or
    that the offline filter finds nothing to learn from, are dropped and counted."""
    prompts, dropped = [], Counter[str]()
    for row in _rows(data, seed):
        reason = _filtered(row, data)
        if reason is not None:
            dropped[reason] += 1
            continue
        tokens = np.asarray(_tokenize(row, data, tokenizer), dtype=np.uint32)
        if len(tokens) > data.max_prompt_tokens:
            dropped[f"longer than data.max_prompt_tokens = {data.max_prompt_tokens}"] += 1
            continue
        prompts.append(
            Prompt(prompt_id=row.prompt_id, tokens_P=tokens, ability=row.ability, ground_truth=row.ground_truth)
        )
    for reason, count in dropped.items():
        log.warning("%d prompts dropped: %s", count, reason)
    if not prompts:
        why = "; ".join(f"{count} {reason}" for reason, count in dropped.items()) or "there was no row"
        raise DataError(f"{expand(data.path)}: no prompt is left ({why}); give rows, or change the limits")
    return PromptSource(prompts, seed=seed, dropped=dropped)


def _filtered(row: Row, data: Data) -> str | None:
    """Why the offline filter drops a row, or None."""
    if data.difficulty_model is None:
        return None
    known = row.difficulty if isinstance(row.difficulty, dict) else {}
    failures = known.get(data.difficulty_model)
    if failures is None:
        return f"not rated by data.difficulty_model = {data.difficulty_model}"
    if not isinstance(failures, int) or not 0 <= failures <= data.difficulty_tries:
        raise DataError(
            f"{row.prompt_id}: extra_info.model_difficulty[{data.difficulty_model!r}] = {failures!r}: failures are a "
            f"whole number of 0 to data.difficulty_tries = {data.difficulty_tries}"
        )
    return f"solved never or always by {data.difficulty_model}" if failures in (0, data.difficulty_tries) else None


def _tokenize(row: Row, data: Data, tokenizer: PreTrainedTokenizerBase) -> list[int]:
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


def _rows(data: Data, seed: int) -> Iterator[Row]:
    match data.source:
        case "file":
            return _file_rows(Path(expand(data.path)))
        case "hub":
            return _hub_rows(data)
        case "reasoning_gym":
            return _generated_rows(data, seed)


def _file_rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; data.path names a .jsonl or .parquet file of prompts")
    match path.suffix:
        case ".jsonl":
            raw = _jsonl(path)
        case ".parquet":
            raw = _parquet(path)
        case other:
            raise DataError(f"{path}: {other or 'no'} ending; data.path takes .jsonl or .parquet")
    for number, values in raw:
        yield _row(values, f"{path.name}:{number}", f"{path}:{number}")


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: not JSON: {error}") from error


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


def _hub_rows(data: Data) -> Iterator[Row]:
    try:
        import datasets
    except ImportError as error:
        raise DataError("data.source = 'hub' needs the datasets package: pip install 'leeway-rl[learner]'") from error
    try:
        loaded = datasets.load_dataset(data.path, split=data.split)
    except Exception as error:  # the library's own errors are many; the user needs the name and the cause
        raise DataError(f"data.path = {data.path!r}, split {data.split!r}: cannot be loaded: {error}") from error
    for number, values in enumerate(loaded, start=1):
        yield _row(values, f"{data.path}:{number}", f"{data.path} row {number}")


def _generated_rows(data: Data, seed: int) -> Iterator[Row]:
    try:
        import reasoning_gym
    except ImportError as error:
        raise DataError("data.source = 'reasoning_gym' needs its package: pip install 'leeway-rl[learner]'") from error
    try:
        problems = reasoning_gym.create_dataset(data.path, seed=seed, size=data.size, **data.options)
    except (ValueError, TypeError, AssertionError) as error:
        raise DataError(f"data.path = {data.path!r} with data.options {data.options}: {error}") from error
    for number, problem in enumerate(problems):
        values = {"prompt": problem["question"], "answer": str(problem["answer"])}
        yield _row(values, f"{data.path}:{number}", f"{data.path} problem {number}")


def _row(values: Any, prompt_id: str, where: str) -> Row:
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
            parsed = json.loads(text)
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
            tests = json.loads(tests)
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
