"""Reads files and published sets row by row, in bounded memory. An unreadable row is passed on as a ``RowError``."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.errors import DataError, Unreadable
from ..common.files import path_of
from ..common.rows import ENDINGS, raw_rows, refuse_no_file
from .sources import Format, RowError


class Written(float):
    """A JSON number that keeps its spelling: a gold of 0.50 does not become 0.5."""

    text: str

    def __new__(cls, text: str) -> Written:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


def files_of(path: str, folder: Path) -> list[Path]:
    """The files that a path or pattern names, in order. Relative ones lie under ``folder``. ``DataError`` if there are
    none."""
    found = [Path(name) for name in sorted(glob.glob(str(folder / path_of(path))))]
    if not found:
        raise DataError(f"{path}: no such file (looked in {folder.resolve()})")
    for file in found:
        refuse_no_file(file)
        if not file.name.lower().endswith((*ENDINGS, ".gz")):
            raise DataError(f"{file}: {file.suffix or 'no'} ending; a source is {', '.join(ENDINGS)}")
    return found


def rows_of(file: Path) -> Iterator[tuple[int, Any]]:
    """(row number from 1, values or a ``RowError``) of each row of a file. Blank lines are not rows.
    Raises ``DataError`` if the file as a whole cannot be read."""
    for number, values in raw_rows(file, parse_float=Written):
        yield number, RowError(values.reason, values.detail) if isinstance(values, Unreadable) else values


def rows_of_hub(name: str, form: Format, *, split: str, revision: str) -> Iterator[tuple[int, Any]]:
    """Stream the rows of a published set, as ``rows_of`` gives them."""
    try:
        import datasets
    except ImportError as error:
        raise DataError("a hub source needs the datasets package: pip install 'leeway-rl[data]'") from error
    try:
        if form.files and form.hub == name:  # datasets no longer runs loading scripts
            files = f"hf://datasets/{name}@{revision}/{form.files}"
            rows = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
        else:
            rows = datasets.load_dataset(name, split=split, revision=revision, streaming=True)
        yield from enumerate(rows, start=1)
    except Exception as error:  # the library's own errors are many; the user needs the name and the cause
        raise DataError(f"{name}, split {split}, revision {revision}: cannot be read: {error}") from error
