"""Loads every row of every source into the first dataset: a row is kept, or dropped with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..common.batches import batched
from ..common.errors import DataError
from .dataset import BATCH, SHOWN_CHARS, WORKING, DatasetWriter, Drop, Funnel, Judgement
from .reading import files_of, rows_of, rows_of_hub
from .same_answer import golds_of
from .sources import FORMATS, Format, RowError, refuse_control, with_columns, working_row


class Source(BaseModel):
    """Where rows come from: a file (``path``) or a published set (``hub``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[\w.-]+$")
    """The source's name, which stands in every row that came from it."""
    format: str = "plain"
    """Which columns become what. ``leeway data formats`` lists the formats."""
    path: str = ""
    """A file or a pattern, relative to the recipe."""
    hub: str = ""
    """Name of a published set; "default" is the one that the format is named after."""
    split: str = ""
    """Split of the published set; by default the format's."""
    revision: str = "main"
    """Revision of the published set; a commit gives the same rows every time."""
    subsets: tuple[str, ...] = ()
    """The source's subsets to take; by default all."""
    columns: dict[str, str] = {}
    """Other names for the format's columns: key → column."""

    @model_validator(mode="after")
    def _check(self) -> Source:
        if self.format not in FORMATS:
            raise ValueError(f"format = {self.format!r}: no such format; known: {', '.join(FORMATS)}")
        if bool(self.path) == bool(self.hub):
            raise ValueError("give either path or hub")
        with_columns(FORMATS[self.format], self.columns)
        return self

    @property
    def hub_name(self) -> str:
        """The name of the published set."""
        return FORMATS[self.format].hub if self.hub == "default" else self.hub


def files_there(source: Source, folder: Path, missing: list[str]) -> list[Path]:
    """The source's files. If there are none, ``missing`` says so. A published set has no files."""
    if source.hub:
        return []
    try:
        return files_of(source.path, folder)
    except DataError as error:
        missing.append(f"source {source.name}: {error}")
        return []


def load_all(
    sources: tuple[Source, ...], files: dict[str, list[Path]], relative_to: Path, folder: Path, missing: list[str]
) -> Funnel:
    """Load every row of the sources into the dataset ``folder``. ``missing`` says what breaks off or is not there."""
    with DatasetWriter(folder) as writer:
        for source in sources:
            _load(source, files[source.name], relative_to, writer, missing)
    return writer.funnel


def _load(source: Source, files: list[Path], folder: Path, writer: DatasetWriter, missing: list[str]) -> None:
    form = with_columns(FORMATS[source.format], source.columns)
    parts: list[tuple[str, Iterator[tuple[int, Any]]]]
    if source.hub:
        split = source.split or form.split
        rows = rows_of_hub(source.hub_name, form, split=split, revision=source.revision)
        parts = [(f"{source.hub_name}@{source.revision}/{split}", rows)]
    else:
        parts = [(shown(file, folder), rows_of(file)) for file in files]
    for file, numbered in parts:
        for batch in batched(_read(source, form, file, _until_it_breaks(numbered, source, missing)), BATCH):
            writer.write(pa.RecordBatch.from_pylist([row for row, _ in batch], WORKING), [why for _, why in batch])


def _until_it_breaks(
    numbered: Iterator[tuple[int, Any]], source: Source, missing: list[str]
) -> Iterator[tuple[int, Any]]:
    """The rows that can be read before a file breaks off; ``missing`` says that it does."""
    try:
        yield from numbered
    except DataError as error:
        missing.append(f"source {source.name}: {error}")


def _read(
    source: Source, form: Format, file: str, numbered: Iterator[tuple[int, Any]]
) -> Iterator[tuple[dict[str, Any], Judgement]]:
    for number, values in numbered:
        try:
            if isinstance(values, RowError):
                raise values
            row = working_row(values, form, source=source.name, file=file, number=number)
            _refuse_defects(row)
            other = source.subsets and row["subset"] not in source.subsets
            yield row, Drop("a subset not asked for", str(row["subset"])) if other else None
        except RowError as error:
            beside = {
                "source": source.name,
                "file": file,
                "row": number,
                "problem": _printable(str(values)[:SHOWN_CHARS]),
            }
            yield beside, Drop(_printable(error.reason), _printable(error.detail))


def _refuse_defects(row: dict[str, Any]) -> None:
    """``RowError`` for a text that cannot be written again (JSON can spell half a character, and a file may not be
    UTF-8), and for what training refuses in a prompt or a gold."""
    texts = [row[name] for name in ("problem", "solution", "subset", "question_type")]
    for text in [*texts, *(message["content"] for message in row["messages"])]:
        if text is not None and _printable(text) != text:
            raise RowError("text that is no Unicode", repr(text)[:80])
    for text in [*golds_of(row["ability"], row["ground_truth"])[1], *(said["content"] for said in row["messages"])]:
        refuse_control(text)


def _printable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def shown(file: Path, folder: Path) -> str:
    """A file's name in rows and checksums: as the recipe gives it, never its place on this machine."""
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
