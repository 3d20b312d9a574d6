"""What a step is: a judge of every row of a stage, and its options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from .stages import Judgement, Stage


class Options(BaseModel):
    """Options of a step: a key of the recipe's line, and an option of the command, for each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def files(self, folder: Path) -> list[Path]:
        """What the step reads beside its rows: with these changed, it is another step."""
        return []


@dataclass(slots=True)
class Context:
    """What a step knows beside its stage and options."""

    folder: Path
    """Paths in options are relative to it."""
    work: Path
    """For files of its own; deleted when the step is done."""
    jobs: int
    """Processes for grading."""
    notes: list[str] = field(default_factory=list)
    """What has to be said beside the counts; stands in the card."""
    missing: list[str] = field(default_factory=list)
    """Inputs that are not there: the rest is done, and the command fails in the end."""


Judge = Callable[[Stage, Any, Context], Iterator[list[Judgement]]]
"""Judgements of all rows, in the batches of the stage: None keeps a row, a ``Drop`` says why it leaves."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step."""

    options: type[Options]
    judge: Judge

    @property
    def meaning(self) -> str:
        """What it drops, in a line."""
        return (self.judge.__doc__ or "").split("\n")[0]
