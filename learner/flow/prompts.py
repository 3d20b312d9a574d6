"""Reads the prompts of a source, and says what they are. ``common/prompts.py`` says what a row is."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...common.config import Config, Data, Reward, expand
from ...common.errors import DataError
from ...common.gym import gym_rows
from ...common.hub import hub_rows
from ...common.preflight.tokens import why_unusable
from ...common.prompts import Row, row_of, tokenize
from ...common.rows import file_rows, under_known_names
from ...common.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One problem, ready to be issued."""

    prompt_id: str
    """``<source>:<row>``. Of several sources, it begins with the source's name."""
    tokens_P: np.ndarray
    """The prompt's tokens after the chat template, generation prompt included; uint32 [P]."""
    ability: str
    ground_truth: tuple[str, ...]
    row: str = ""
    """The row as one JSON object, where reward functions or an environment are given it."""


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Every usable prompt of a source."""

    prompts: list[Prompt]
    dropped: Mapping[str, int] = field(default_factory=dict)
    """How many rows were left out, by reason."""

    def __len__(self) -> int:
        return len(self.prompts)


def prompts_of(
    config: Config,
    source: Data,
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: int | None = None,
    *,
    most: int | None = None,
) -> PromptSource:
    """``load_prompts`` for a ``source`` of a run: judged by what the run judges it by, and with the columns that its
    environment is given."""
    return load_prompts(
        source,
        tokenizer,
        seed=config.flow.seed,
        vocabulary=vocabulary,
        most=most,
        rewards=config.rewards_of(source),
        whole=config.environment is not None,
    )


def load_prompts(
    data: Data,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    vocabulary: int | None = None,
    most: int | None = None,
    rewards: Sequence[Reward] = (),
    whole: bool = False,
) -> PromptSource:
    """Read, check and tokenize every row, or the first ``most``. Prompts that are too long, or that the offline filter
    finds nothing to learn from, are dropped and counted. ``seed``: the run's, for generated problems. ``vocabulary``:
    how many tokens the model has, where that is known. ``rewards``: what judges the rows, where it is not their ability
    alone. ``whole``: whether the columns of rows are needed, whatever the rewards. ``DataError`` names a row that
    cannot be used and what it lacks."""
    prompts, dropped = [], Counter[str]()
    for row in islice(_rows(data, seed, rewards, whole), most):
        reason = _filtered(row, data)
        if reason is not None:
            dropped[reason] += 1
            continue
        tokens = np.asarray(tokenize(row, data, tokenizer), dtype=np.uint32)
        if (why := why_unusable(tokens, vocabulary)) is not None:
            raise DataError(f"{row.where or row.prompt_id}: {why}")
        if len(tokens) > data.max_prompt_tokens:
            dropped[f"longer than data.max_prompt_tokens = {data.max_prompt_tokens}"] += 1
            continue
        prompts.append(
            Prompt(
                prompt_id=row.prompt_id,
                tokens_P=tokens,
                ability=row.ability,
                ground_truth=row.ground_truth,
                row=row.columns,
            )
        )
    for reason, count in dropped.items():
        log.warning("%s%s dropped: %s", f"{data.name}: " if data.name else "", counted(count, "prompt"), reason)
    if not prompts:
        why = "; ".join(f"{count} {reason}" for reason, count in dropped.items()) or "there was no row"
        named = f"data source {data.name}: " if data.name else ""
        raise DataError(f"{named}{expand(data.path)}: no prompt is left ({why}); give rows, or change the limits")
    return PromptSource(prompts, dropped)


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


def _rows(data: Data, seed: int, rewards: Sequence[Reward], whole: bool) -> Iterator[Row]:
    """The rows of the source. What it yields is read alike, and says for itself which defaults hold."""
    match data.source:
        case "file":
            found = _file_rows(Path(expand(data.path)), data)
        case "hub":
            found = _hub_rows(data)
        case "reasoning_gym":
            found = _generated_rows(data, seed, judged=bool(rewards))
    for values, prompt_id, where, defaults in found:
        yield row_of(values, prompt_id, where, defaults, rewards, whole=whole)


_Found: TypeAlias = "tuple[Any, str, str, Data | None]"
"""A row's values, its prompt's id, where it stands, and what holds for it if it says nothing itself."""


def _file_rows(path: Path, data: Data) -> Iterator[_Found]:
    for number, values in file_rows(path, data.columns):
        yield values, f"{data.name or path.name}:{number}", f"{path}:{number}", data


def _hub_rows(data: Data) -> Iterator[_Found]:
    for number, values in hub_rows(data.path, split=data.split):
        where = f"{data.path} row {number}"
        yield under_known_names(values, data.columns, where), f"{data.name or data.path}:{number}", where, data


def _generated_rows(data: Data, seed: int, *, judged: bool) -> Iterator[_Found]:
    for number, values in gym_rows(data.path, seed=seed, size=data.size, options=data.options):
        where = f"{data.path} problem {number - 1}"
        yield values, f"{data.name or data.path}:{number - 1}", where, data if judged else None
