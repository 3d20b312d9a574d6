"""Reading files and hub sets row by row, in bounded memory. What cannot be read is handed on as a ``RowError``."""

from __future__ import annotations

import csv
import glob
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.errors import DataError
from ..common.files import path_of
from .sources import Format, RowError

BATCH = 1024
ENDINGS = (".jsonl", ".json", ".parquet", ".csv")


class Written(float):
    """A JSON number that is shown as it was written: a gold of 0.50 is not 0.5."""

    text: str

    def __new__(cls, text: str) -> Written:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


def files_of(path: str, folder: Path) -> list[Path]:
    """The files a path or pattern names, in order, relative ones under ``folder``; ``DataError`` where none is."""
    found = [Path(name) for name in sorted(glob.glob(str(folder / path_of(path))))]
    if not found:
        raise DataError(f"{path}: no such file (looked in {folder.resolve()})")
    for file in found:
        if file.suffix not in ENDINGS:
            raise DataError(f"{file}: {file.suffix or 'no'} ending; a source is {', '.join(ENDINGS)}")
    return found


def rows_of(file: Path) -> Iterator[tuple[int, Any]]:
    """(row number from 1, values or a ``RowError``) of each row of a file. Lines that are blank are no rows."""
    match file.suffix:
        case ".jsonl":
            yield from _jsonl(file)
        case ".json":
            yield from _json(file)
        case ".csv":
            yield from _csv(file)
        case _:
            yield from _parquet(file)


def rows_of_hub(name: str, form: Format, *, split: str, revision: str) -> Iterator[tuple[int, Any]]:
    """Rows of a published set, streamed."""
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


def _loaded(text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_float=Written)
    except (ValueError, RecursionError) as error:
        return RowError("not JSON", str(error))


def _jsonl(file: Path) -> Iterator[tuple[int, Any]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _loaded(line)


def _json(file: Path) -> Iterator[tuple[int, Any]]:
    """A list of objects. It is read whole: published ones are tens of megabytes."""
    found = _loaded(file.read_bytes())
    if isinstance(found, RowError) or not isinstance(found, list):
        raise DataError(f"{file}: {found if isinstance(found, RowError) else 'a JSON list of rows is due'}")
    yield from enumerate(found, start=1)


def _csv(file: Path) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(1 << 30)
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.DictReader(lines)
        for number in itertools.count(1):
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, RowError("not CSV", str(error))
                continue
            if None in values or None in values.values():
                yield number, RowError("as many fields as the header has are due", f"{len(reader.fieldnames or ())}")
            else:
                yield number, {key: value if value != "" else None for key, value in values.items()}


def _parquet(file: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=BATCH):
            for values in batch.to_pylist():
                number += 1
                yield number, values
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read behind row {number}: {error}") from error
