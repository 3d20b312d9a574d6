"""The problems that a model is asked: a file's rows, tokenized. A row that cannot be used is named and left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.config import Config
from ..common.errors import DataError
from ..common.limits import MOST_RESPONSES
from ..common.preflight.tokens import why_unusable
from ..common.prompts import in_their_words, row_of, sampling_seed, tokenize
from ..common.rows import file_rows
from ..common.texts import defect
from ..common.types import Ticket
from ..common.weights import Stamp
from ..common.wording import counted
from .record import Identity, identity_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One usable row."""

    problem_id: str
    """The row's ``id``, or ``<file>:<row>`` where it has none."""
    place: int
    """The number of the row in the file, from 0. With the run's seed it decides what is sampled."""
    tokens_P: np.ndarray
    """The prompt's tokens after the chat template, generation prompt included; uint32 [P]."""
    ability: str
    ground_truth: tuple[str, ...]
    responses: int
    """How many responses are to be sampled."""
    identity: Identity
    row: str = ""
    """The row as one JSON object, where reward functions are given it."""


ORIGIN = "leeway:row"
"""Key of a prepared row that says where it is in the user's own file, and what its columns are called there."""


def load_problems(
    path: Path,
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
    responses: int,
    complain: Callable[[str], None],
    *,
    vocabulary: int | None = None,
) -> tuple[list[Problem], int]:
    """The usable problems in the order of the file, and how many rows the file has. ``complain`` is called for each
    other row with its file, its row and what is wrong; for a prepared row these are the file and row that it came from.
    A row's own ``responses`` overrides the argument. ``DataError`` where no row can be used."""
    found: dict[str, Problem] = {}
    place = -1
    for place, (number, values) in enumerate(file_rows(path, config.source.columns)):
        where, theirs = origin_of(values, f"{path}:{number}")
        try:
            whole = config.environment is not None
            row = row_of(values, f"{path.name}:{number}", where, config.source, config.rewards, whole=whole)
            problem_id = id_of(values, row.prompt_id, where)
            if problem_id in found:
                raise DataError(f"{where}: id {problem_id!r} is also in an earlier row")
            tokens = np.asarray(tokenize(row, config.source, tokenizer), dtype=np.uint32)
            if (why := why_unusable(tokens, vocabulary)) is not None:
                raise DataError(f"{where}: {why}")
            if len(tokens) > config.source.max_prompt_tokens:
                most = config.source.max_prompt_tokens
                raise DataError(
                    f"{where}: the prompt has {counted(len(tokens), 'token')}; --max-prompt-tokens is {most}"
                )
            found[problem_id] = Problem(
                problem_id=problem_id,
                place=place,
                tokens_P=tokens,
                ability=row.ability,
                ground_truth=row.ground_truth,
                row=row.columns,
                responses=_responses_of(values, responses, where),
                identity=identity_of(row),
            )
        except DataError as error:
            complain(f"{error}{in_their_words(str(error).removeprefix(where), theirs)}")
    if not found:
        raise DataError(f"{path}: no row can be used ({counted(place + 1, 'row')})")
    return list(found.values()), place + 1


def origin_of(values: Any, where: str) -> tuple[str, dict[str, str]]:
    """For a prepared row, file and row of the user's own and the names of its columns there, by ours. For any other
    row, ``where`` and no names."""
    origin = values.get(ORIGIN) if isinstance(values, dict) else None
    if not isinstance(origin, dict) or not isinstance(origin.get("at"), str):
        return where, {}
    return origin["at"], dict(origin.get("columns") or {})


def id_of(values: Mapping[str, Any], otherwise: str, where: str) -> str:
    """A row's own id as text, or ``otherwise`` where it has none. ``DataError`` where the id cannot be used."""
    found = values.get("id")
    if found is None:
        return otherwise
    if not isinstance(found, (str, int)) or isinstance(found, bool):
        raise DataError(f"{where}: id must be a text or a whole number, found {str(found)[:80]!r}")
    if (wrong := defect(str(found))) is not None:
        raise DataError(f"{where}: id: {wrong}")
    return str(found)


def _responses_of(values: dict[str, Any], otherwise: int, where: str) -> int:
    if values.get("responses") is None:
        return otherwise
    said = values["responses"]
    number = int(said) if isinstance(said, str) and said.isdecimal() else said  # CSV has only texts
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST_RESPONSES:
        raise DataError(f"{where}: responses must be a whole number of 1 to {MOST_RESPONSES}, found {str(said)[:80]!r}")
    return number


def ticket_of(problem: Problem, config: Config, stamp: Stamp, rows: int, top_p: float) -> Ticket:
    """The ticket that asks ``problem`` of the weights ``stamp``. The file has ``rows`` rows. Every version is asked
    with the same seeds, under ticket numbers of its own."""
    return Ticket(
        ticket=stamp.version * rows + problem.place,
        incarnation=stamp.incarnation,
        min_version=stamp.version,
        stage=0,
        prompt_id=problem.problem_id,
        prompt_tokens_P=problem.tokens_P,
        group_size=problem.responses,
        max_new_tokens=config.train.max_response_tokens,
        temperature=config.flow.temperature,
        seed=sampling_seed(config.flow.seed, problem.place),
        ability=problem.ability,
        ground_truth=problem.ground_truth,
        row=problem.row,
        top_p=top_p,
    )
