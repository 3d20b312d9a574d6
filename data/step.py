"""What a data step is: a judge of every row of a dataset, and the judge's options."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from ..common.errors import DataError
from ..common.files import path_of
from .dataset import Dataset, Judgement


class Options(BaseModel):
    """Options of a data step. Each field is a key in the recipe and an option of the command."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    CHANGE_NO_ROW: ClassVar[frozenset[str]] = frozenset()
    """Fields that change how fast or by whom the work is done, but no row: the dataset is not made again for them."""
    CHANGE_NO_QUESTION: ClassVar[frozenset[str]] = frozenset()
    """Fields that change what follows from a model's answers, but no question: the same answers are used again."""

    def files(self, folder: Path) -> list[Path]:
        """Files that the step reads beside its rows. If one changes, the dataset is made again."""
        return []

    def plain(self, *, questions: bool = False) -> dict[str, Any]:
        """The options that the rows depend on; with ``questions``, those that the questions to models depend on."""
        return self.model_dump(
            mode="json", exclude=set(self.CHANGE_NO_ROW | (self.CHANGE_NO_QUESTION if questions else frozenset()))
        )


@dataclass(slots=True)
class Context:
    """What a data step knows beside its dataset and options."""

    folder: Path
    """The folder to which paths in options are relative."""
    work: Path
    """Folder for the step's working files. It is deleted when the step is done."""
    asked: Path
    """Folder for the answers of models. It is never deleted, so a step that is done again asks nothing twice."""
    jobs: int
    """Grading processes."""
    notes: list[str] = field(default_factory=list)
    """What has to be said beside the counts; it stands in the card."""
    missing: list[str] = field(default_factory=list)
    """Missing inputs. The rest is done, and the command fails in the end."""


def local_or_hub(folder: Path, said: str, what: str) -> str:
    """The path under ``folder`` of what was ``said``, or the same as it is where that may be a hub name. ``DataError``
    names the option as ``what``."""
    local = folder / path_of(said)
    if not local.exists() and said.startswith((".", "/", "~")):
        raise DataError(f"{what} = {said!r}: no such folder (looked in {folder.resolve()})")
    return str(local) if local.exists() else said


Judge = Callable[[Dataset, Any, Context], Iterator[list[Judgement]]]
"""Judges all rows, in the batches of the dataset: None keeps a row, a ``Drop`` says why it is dropped, and ``Rated``
writes a model's failures into it and keeps or drops it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One data step."""

    options: type[Options]
    judge: Judge

    @property
    def meaning(self) -> str:
        """What the step drops, in one line."""
        return (self.judge.__doc__ or "").split("\n")[0]
