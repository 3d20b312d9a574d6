"""What a step is: a judge of every row of a dataset, and its options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from .dataset import Dataset, Judgement


class Options(BaseModel):
    """Options of a step: a key of the recipe's line, and an option of the command, for each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    CHANGE_NO_ROW: ClassVar[frozenset[str]] = frozenset()
    """Fields that say how fast and by whom, not what: with these changed, it is the same step."""
    CHANGE_NO_QUESTION: ClassVar[frozenset[str]] = frozenset()
    """Fields that say what follows from a model's answers: with these changed, the same answers serve."""

    def files(self, folder: Path) -> list[Path]:
        """What the step reads beside its rows: with these changed, it is another step."""
        return []

    def plain(self, *, questions: bool = False) -> dict[str, Any]:
        """What the rows depend on; with ``questions``, what the questions to models depend on."""
        return self.model_dump(
            mode="json", exclude=set(self.CHANGE_NO_ROW | (self.CHANGE_NO_QUESTION if questions else frozenset()))
        )


@dataclass(slots=True)
class Context:
    """What a step knows beside its dataset and options."""

    folder: Path
    """Paths in options are relative to it."""
    work: Path
    """For files of its own; deleted when the step is done."""
    asked: Path
    """For what models answered, which is never deleted: the step done again asks nothing twice."""
    jobs: int
    """Processes for grading."""
    notes: list[str] = field(default_factory=list)
    """What has to be said beside the counts; stands in the card."""
    missing: list[str] = field(default_factory=list)
    """Inputs that are not there: the rest is done, and the command fails in the end."""


Judge = Callable[[Dataset, Any, Context], Iterator[list[Judgement]]]
"""Judgements of all rows, in the batches of the dataset: None keeps a row, a ``Drop`` says why it leaves, ``Rated``
writes a model's failures into it and does either."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step."""

    options: type[Options]
    judge: Judge

    @property
    def meaning(self) -> str:
        """What it drops, in a line."""
        return (self.judge.__doc__ or "").split("\n")[0]
