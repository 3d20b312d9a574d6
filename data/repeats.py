"""Data steps that compare rows: duplicates, and rows that repeat an evaluation problem."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from ..common.batches import batched
from ..common.errors import DataError
from ..common.ground_truth import MATH
from .dataset import BATCH, Dataset, Drop, Judgement
from .naming import asks_for_another, same_wording
from .near import EvaluationSet, Match, near_duplicates
from .normalise import normalise
from .reading import files_of, rows_of
from .same_answer import Row, different, golds_of
from .sources import FORMATS, RowError, golds, working_row
from .step import Context, Options


class Duplicates(Options):
    """Options of ``duplicates``."""

    across: bool = False
    """Compare rows of different sources too; earlier sources of the recipe are preferred."""


def duplicates(dataset: Dataset, options: Duplicates, context: Context) -> Iterator[list[Judgement]]:
    """Drop exact and near duplicates, within each source or across all; the first one is kept."""
    texts = [normalise(row["problem"]) for row in dataset.each("problem")]
    kind = ("ability",) if options.across else ("ability", "source")
    kinds = [tuple(row.values()) for row in dataset.each(*kind)]
    judge = _Golds(context)
    matches = near_duplicates(texts, kinds, lambda pairs: judge.two_problems(_written(dataset, pairs), pairs))
    judge.tell(matches, "the row that stays")
    wanted = {match.of for match in matches if match is not None}
    named = {number: name for number, name in enumerate(_names(dataset)) if number in wanted}
    what = "duplicate across sources" if options.across else "duplicate within its source"

    def judged(match: Match | None) -> Judgement:
        if match is None:
            return None
        near = "exact" if match.similarity == 1 else "near"
        return Drop(f"{near} {what}", f"{match.similarity:.2f} by {match.by}: {named[match.of]}")

    return batched(map(judged, matches), BATCH)


@dataclass(frozen=True, slots=True)
class _Written:
    """What tells two rows apart whose tokens are alike."""

    problem: str
    answer: Row


def _written(dataset: Dataset, pairs: list[tuple[int, int]]) -> dict[int, _Written]:
    """The rows that stand in ``pairs``, by number."""
    wanted = {index for pair in pairs for index in pair}
    return {
        number: _Written(row["problem"], golds_of(row["ability"], row["ground_truth"]))
        for number, row in enumerate(dataset.each("problem", "ability", "ground_truth"))
        if number in wanted
    }


class _Golds:
    """Tells two problems apart by their golds, and by the letters that they ask for.

    If the wording is the same to the letter, both rows are one problem, and one of the golds is wrong.
    """

    def __init__(self, context: Context) -> None:
        self._context, self._calls = context, 0
        self._contradicting: set[tuple[int, int]] = set()

    def two_problems(
        self,
        written: Mapping[int, _Written],
        pairs: list[tuple[int, int]],
        others: Mapping[int, _Written] | None = None,
    ) -> set[tuple[int, int]]:
        """Those pairs of rows, or pairs of (row, one of ``others``), that are two problems."""
        theirs = written if others is None else others
        self._calls += 1
        work = self._context.work / f"golds-{self._calls}"
        answers = [(written[one].answer, theirs[other].answer) for one, other in pairs]
        apart = set()
        for pair, differ in zip(pairs, different(answers, work, jobs=self._context.jobs), strict=True):
            mine, their = written[pair[0]], theirs[pair[1]]  # one of them may have no gold
            if differ and same_wording(mine.problem, their.problem):
                self._contradicting.add(pair)
            elif differ or (not (mine.answer[1] and their.answer[1]) and asks_for_another(mine.problem, their.problem)):
                apart.add(pair)
        return apart

    def tell(self, matches: Sequence[Match | None], whose: str) -> None:
        """Note how many dropped rows have another gold than the problem that they repeat."""
        pairs = {(number, match.of) for number, match in enumerate(matches) if match is not None}
        if count := len(pairs & self._contradicting):
            self._context.notes.append(
                f"{count:,} dropped with another gold than {whose}, word for word the same problem"
            )


def _names(dataset: Dataset) -> Iterator[str]:
    for row in dataset.each("source", "file", "row", "problem"):
        yield f"{row['source']} {row['file']}:{row['row']}: {_short(row['problem'])}"


def _short(text: str) -> str:
    return " ".join(text.split())[:160]


class Decontaminate(Options):
    """Options of ``decontaminate``."""

    against: tuple[str, ...] = Field(min_length=1)
    """Files of evaluation problems, in any format that a source may have."""

    def files(self, folder: Path) -> list[Path]:
        return [file for path in self.against for file in _there(path, folder)]


def decontaminate(dataset: Dataset, options: Decontaminate, context: Context) -> Iterator[list[Judgement]]:
    """Drop rows that repeat or contain a problem of an evaluation set; the pair is shown."""
    names, problems = _evaluation_problems(options.against, context)
    evaluation = EvaluationSet([normalise(problem.problem) for problem in problems])
    found: list[list[Match]] = []
    for rows in dataset.rows("problem"):
        found += evaluation.alike([normalise(row["problem"]) for row in rows])
    matches = _told_apart(dataset, found, problems, context)

    def judged(match: Match | None) -> Judgement:
        if match is None:
            return None
        return Drop(
            f"contaminated by {names[match.of].rpartition(':')[0]}",
            f"{match.similarity:.2f} by {match.by}: {names[match.of]}: {_short(problems[match.of].problem)}",
        )

    return batched(map(judged, matches), BATCH)


def _told_apart(
    dataset: Dataset, found: list[list[Match]], problems: list[_Written], context: Context
) -> list[Match | None]:
    """For each row, the best match that is the same problem by its gold too."""
    pairs = [(row, match.of) for row, matches in enumerate(found) for match in matches]
    judge = _Golds(context)
    written = _written(dataset, [(row, row) for row, _ in pairs])
    apart = judge.two_problems(written, pairs, dict(enumerate(problems)))
    best = [next((m for m in matches if (row, m.of) not in apart), None) for row, matches in enumerate(found)]
    judge.tell(best, "the evaluation problem")
    return best


def _there(path: str, folder: Path) -> list[Path]:
    try:
        return files_of(path, folder)
    except DataError:
        return []  # the data step names what is missing when it runs


def _evaluation_problems(against: tuple[str, ...], context: Context) -> tuple[list[str], list[_Written]]:
    """(``file:row`` of each, the problems) of all readable evaluation problems. ``context`` notes the others."""
    names, problems = list[str](), list[_Written]()
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


def _problem_of(values: Any) -> _Written:
    """The problem of an evaluation row, and its golds if it has some."""
    if isinstance(values, RowError):
        raise values
    if isinstance(values, dict) and "reward_model" not in values:
        answer = next((values[name] for name in ("answer", "Answer") if values.get(name) is not None), None)
        try:
            known = MATH, golds(answer)
        except RowError:
            known = MATH, []
        values = values | {"answer": "0", "tests": None}
        for name in ("question_content", "problem_description", "Question"):
            if isinstance(values.get(name), str):
                return _Written(values[name], known)
        return _Written(working_row(values, FORMATS["plain"], source="", file="", number=0)["problem"], known)
    row = working_row(values, FORMATS["plain"], source="", file="", number=0)
    return _Written(row["problem"], golds_of(row["ability"], row["ground_truth"]))
