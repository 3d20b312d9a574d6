"""Reads files row by row (JSON lines, JSON, CSV and Parquet), with their columns under the names that Leeway knows."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from .errors import DataError, Unreadable
from .json_text import NotUtf8, parsed
from .texts import Unread

Rows = Iterator[tuple[int, Any]]
"""(number from 1, values) of each row. A ``DataError`` in place of the values says what is wrong with that row
alone."""


Columns = Mapping[Any, str]
"""``data.columns``: the file's name of a column by our name."""
Options = Mapping[str, Any]


def file_rows(path: Path, columns: Columns | None = None) -> Rows:
    """The rows of a .jsonl, .json, .csv (each also .gz) or .parquet file, as ``under_known_names`` gives them. Raises
    ``DataError`` if the file as a whole cannot be read."""
    rows = raw_rows(path)  # raises now where there is no such file
    return _named_rows(path, rows, columns or {})


def raw_rows(path: Path, **options: Any) -> Rows:
    """The same rows under the file's own names. ``options`` are those of ``json_text.parsed`` and say what becomes of
    JSON's numbers. Raises as ``file_rows`` does."""
    refuse_no_file(path)
    ending = path.suffix.lower()
    if ending == ".gz":
        inner = Path(path.stem).suffix.lower()
        ending = inner if inner in (".json", ".csv") else ".jsonl"
    if ending not in _READERS:
        raise DataError(f"{path}: {ending or 'no'} ending; rows are read from {', '.join(ENDINGS)}")
    return _until_it_breaks_off(path, _READERS[ending](path, options))


def refuse_no_file(path: Path) -> None:
    """``DataError`` if there is no file that can be read to its end: nothing is there, or a folder, or a pipe."""
    if not path.is_file():
        why = "a folder" if path.is_dir() else "no regular file" if path.exists() else "no such file"
        raise DataError(f"{path}: {why}; expected a .jsonl, .json, .csv or .parquet file of rows")


def _until_it_breaks_off(path: Path, rows: Rows) -> Rows:
    number = 0
    try:
        for number, values in rows:
            yield number, values
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}:{number + 1}: the file breaks off here: {error}") from error


def _named_rows(path: Path, rows: Rows, columns: Columns) -> Rows:
    for number, values in rows:
        try:
            yield number, under_known_names(values, columns, f"{path}:{number}")
        except DataError as error:
            yield number, error


# --- what a row's columns are called ---------------------------------------------------------------------------------

_TRUTHS = ("answer", "tests", "entry", "reward_model")
"""Columns that a row is judged by. If ``columns`` names one of them, the others in the row mean something else."""
_OBJECTS = ("entry", "options", "reward_model", "extra_info")
"""Columns that hold objects. In CSV they are JSON texts."""


def under_known_names(values: Any, columns: Columns, where: str) -> Any:
    """A row with the columns that ``columns`` names under our names, and ``messages`` as ``prompt`` if there is no
    prompt. ``DataError`` names a column that the row does not have."""
    if not isinstance(values, dict):
        return values
    row = {
        key: value for key, value in values.items() if not (key in _TRUTHS and not columns.keys().isdisjoint(_TRUTHS))
    }
    for key, column in columns.items():
        found = _at(values, column)
        if found is not _ABSENT:
            row[key] = found
        elif key not in _TRUTHS or all(_at(values, columns[truth]) is _ABSENT for truth in _TRUTHS if truth in columns):
            known = ", ".join(map(str, values)) or "none"
            raise DataError(f"{where}: no column {column!r}, which data.columns.{key} names; columns found: {known}")
    if row.get("messages") is not None and (
        row.get("prompt") is None or ("messages" in columns and "prompt" not in columns)
    ):
        row["prompt"] = row["messages"]
    for key in _OBJECTS:
        if isinstance(text := row.get(key), str) and text.lstrip().startswith("{"):
            inner = _parsed(text, where)
            row[key] = text if isinstance(inner, DataError) else inner
    return row


_ABSENT = object()


def _at(values: Mapping[str, Any], column: str) -> Any:
    """The column of that name; or else, for ``a.b``, the value of b in the object a."""
    if column in values:
        return values[column]
    first, dot, rest = column.partition(".")
    inner = values.get(first)
    return _at(inner, rest) if dot and isinstance(inner, Mapping) else _ABSENT


# --- kinds of files --------------------------------------------------------------------------------------------------


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _jsonl(path: Path, options: Options) -> Rows:
    with _opened(path) as lines:
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if line.strip():
                yield number, _parsed(line, f"{path}:{number}", " of the line", options)


def _parsed(text: bytes | str, where: str, of: str = "", options: Options | None = None) -> Any:
    """The value in a JSON text, or the error that says what is wrong with it."""
    try:
        return parsed(text, **(options or {}))
    except NotUtf8 as error:
        return Unreadable(where, "not UTF-8", f"{error}{of}")
    except ValueError as error:
        return Unreadable(where, "not JSON", str(error))


def _json(path: Path, options: Options) -> Rows:
    """The rows in a JSON file: a list, or an object that holds one list. The file is read whole."""
    with _opened(path) as file:
        text = file.read().removeprefix(codecs.BOM_UTF8)
    found = _parsed(text, str(path), options=options)
    if isinstance(found, DataError):
        first = _parsed(text.strip().partition(b"\n")[0], "")
        lines = isinstance(first, dict) and b"\n" in text.strip()
        raise DataError(f"{found}; a row a line is JSON lines: name the file .jsonl" if lines else str(found))
    due = 'expected a list of rows, [{"prompt": …, "answer": …}, …], or an object that holds one list of rows'
    if isinstance(found, dict):
        if "prompt" in found or "messages" in found:
            raise DataError(f"{path}: an object with the keys {', '.join(found)}; {due}")
        lists = {key: each for key, each in found.items() if isinstance(each, list)}
        if len(lists) != 1:
            raise DataError(f"{path}: an object with {len(lists)} lists{_named(lists)}; {due}")
        (found,) = lists.values()
    if not isinstance(found, list):
        raise DataError(f"{path}: found {type(found).__name__}; {due}")
    yield from enumerate(found, start=1)


def _named(keys: Mapping[str, Any]) -> str:
    return f" ({', '.join(keys)})" if keys else ""


_NO_UTF8 = re.compile("[\udc80-\udcff]")


def _csv(path: Path, _options: Options) -> Rows:
    """The rows of a CSV file. Its first line names the columns and is not a row. An empty field is None."""
    csv.field_size_limit(1 << 30)  # Python's own limit is shorter than many tests of programs
    with _opened(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        reader, number = csv.reader(text, strict=True), 0
        header = next(reader, [])
        if (wrong := _NO_UTF8.search("".join(header))) is not None:
            byte = ord(wrong[0]) - 0xDC00
            raise DataError(f"{path}: the first line is not UTF-8: byte {byte:#04x}; write the file as UTF-8")
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice or (header and "" in header):
            which = f"the column {twice[0]!r} twice" if twice else "a column without a name"
            raise DataError(f"{path}: the first line has {which}; it names each column once")
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                number += 1
                line = f" (line {reader.line_num} of the file)"
                yield number, Unreadable(f"{path}:{number}", "not CSV", f"{error}{line}")
                continue
            if fields:
                number += 1
                yield number, _fields(header, fields, f"{path}:{number}")


def _fields(header: list[str], fields: list[str], where: str) -> dict[str, str | None] | DataError:
    if len(fields) != len(header):
        return Unreadable(
            where,
            "not as many fields as the first line",
            f"{len(fields)} fields, the first line has {len(header)} ({', '.join(header)}); a text with a comma or a "
            "line end stands in double quotes",
        )
    for name, field in zip(header, fields, strict=True):
        if (wrong := _NO_UTF8.search(field)) is not None:
            return Unreadable(where, "not UTF-8", f"byte {ord(wrong[0]) - 0xDC00:#04x} in column {name!r}")
    return {name: field if field != "" else None for name, field in zip(header, fields, strict=True)}


def _parquet(path: Path, _options: Options) -> Rows:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    try:
        for batch in file.iter_batches(batch_size=1024):
            for values in _records(batch):
                number += 1
                yield number, values
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read behind row {number}: {error}") from error


def _records(batch: Any) -> list[dict[str, Any]]:
    """The batch's rows. ``Unread`` stands for a value that Python cannot hold; whoever needs the value reports it."""
    import pyarrow

    try:
        return list(batch.to_pylist())
    except pyarrow.ArrowException:  # some are ValueErrors, but they concern the file and not a value
        raise
    except _NO_VALUE:
        columns = [_values(column) for column in batch.columns]
        return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: Any) -> list[Any]:
    try:
        return list(column.to_pylist())
    except _NO_VALUE:
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return Unread(f"not UTF-8: byte {error.object[error.start]:#04x} at position {error.start + 1} of a text")
    except _NO_VALUE as error:
        return Unread(f"cannot be read: {error}")


_NO_VALUE = (UnicodeDecodeError, OverflowError, ValueError)
"""Errors for texts that are not UTF-8, and for times beyond Python's calendar or finer than its clock."""


_READERS: dict[str, Callable[[Path, Options], Rows]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
ENDINGS = (".jsonl", ".json", ".csv", ".jsonl.gz", ".json.gz", ".csv.gz", ".parquet")
"""Endings of the files that can be read."""
