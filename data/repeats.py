"""Steps that compare rows: duplicates, and what repeats an evaluation problem."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from ..common.errors import DataError
from .near import EvaluationSet, Match, near_duplicates
from .normalise import normalise
from .reading import files_of, rows_of
from .sources import FORMATS, RowError, working_row
from .stages import Drop, Judgement, Stage, in_batches
from .step import Context, Options


class Duplicates(Options):
    """Options of ``duplicates``."""

    across: bool = False
    """Compare rows of different sources; earlier sources of the recipe are preferred."""


def duplicates(stage: Stage, options: Duplicates, context: Context) -> Iterator[list[Judgement]]:
    """Drop exact and near duplicates, within each source or across all; the first one stays."""
    texts = [normalise(text) for text in _column(stage, "problem")]
    kinds = [tuple(row.values()) for rows in stage.rows(*_kind(options.across)) for row in rows]
    matches = near_duplicates(texts, kinds)
    wanted = {match.of for match in matches if match is not None}
    named = {number: name for number, name in enumerate(_names(stage)) if number in wanted}
    what = "duplicate across sources" if options.across else "duplicate within its source"

    def judged(match: Match | None) -> Judgement:
        if match is None:
            return None
        near = "exact" if match.similarity == 1 else "near"
        return Drop(f"{near} {what}", f"{match.similarity:.2f} by {match.by}: {named[match.of]}")

    return in_batches(map(judged, matches))


def _kind(across: bool) -> tuple[str, ...]:
    return ("ability",) if across else ("ability", "source")


def _column(stage: Stage, name: str) -> Iterator[Any]:
    return (row[name] for rows in stage.rows(name) for row in rows)


def _names(stage: Stage) -> Iterator[str]:
    for rows in stage.rows("source", "file", "row", "problem"):
        for row in rows:
            yield f"{row['source']} {row['file']}:{row['row']}: {_short(row['problem'])}"


def _short(text: str) -> str:
    return " ".join(text.split())[:160]


class Decontaminate(Options):
    """Options of ``decontaminate``."""

    against: tuple[str, ...] = Field(min_length=1)
    """Files of evaluation problems, in any format of a source."""

    def files(self, folder: Path) -> list[Path]:
        return [file for path in self.against for file in _there(path, folder)]


def decontaminate(stage: Stage, options: Decontaminate, context: Context) -> Iterator[list[Judgement]]:
    """Drop what repeats or contains a problem of an evaluation set; the pair is shown."""
    names, problems = _evaluation_problems(options.against, context)
    evaluation = EvaluationSet([normalise(problem) for problem in problems])
    for rows in stage.rows("problem"):
        matches = evaluation.contaminated([normalise(row["problem"]) for row in rows])
        yield [
            Drop(
                f"contaminated by {names[match.of].rpartition(':')[0]}",
                f"{match.similarity:.2f} by {match.by}: {names[match.of]}: {_short(problems[match.of])}",
            )
            if match
            else None
            for match in matches
        ]


def _there(path: str, folder: Path) -> list[Path]:
    try:
        return files_of(path, folder)
    except DataError:
        return []  # named when the step runs


def _evaluation_problems(against: tuple[str, ...], context: Context) -> tuple[list[str], list[str]]:
    """(``file:row``, problem) of all that can be read; what cannot is named."""
    names, problems = [], []
    for path in against:
        try:
            files = files_of(path, context.folder)
        except DataError as error:
            context.missing.append(f"evaluation set {error}")
            continue
        for file in files:
            for number, values in rows_of(file):
                try:
                    problems.append(_problem_of(values))
                    names.append(f"{file.name}:{number}")
                except RowError as error:
                    context.notes.append(f"evaluation problem {file.name}:{number} cannot be compared with: {error}")
    return names, problems


def _problem_of(values: Any) -> str:
    """The problem of an evaluation row, whose answer does not matter here."""
    if isinstance(values, RowError):
        raise values
    if isinstance(values, dict) and "reward_model" not in values:
        values = values | {"answer": "0", "tests": None}
        for name in ("question_content", "problem_description", "Question"):
            if isinstance(values.get(name), str):
                return values[name]
    return working_row(values, FORMATS["plain"], source="", file="", number=0)["problem"]
