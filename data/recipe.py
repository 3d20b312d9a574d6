"""A recipe: which sources, which steps, in which order. Read, run, resumed.

Every step's stage has a key: a digest of the rows before it, the step's name and options, the files it reads, and our
version. A stage that is there under its key is not made again, so a run that was stopped goes on behind its last whole
step, and a changed line of the recipe is done again with all that follow it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .. import __version__
from ..common.errors import ConfigError, DataError
from . import checks, filters, repeats
from .reading import checksum, files_of, rows_of, rows_of_hub
from .sources import FORMATS, RowError, with_columns, working_row
from .stages import BATCH, SHOWN_CHARS, WORKING, Drop, Funnel, Judgement, Stage, StageWriter, divide, finish, finished
from .step import Context, Options, Step

STEPS: Mapping[str, Step] = {
    "verifiable": Step(filters.Verifiable, filters.verifiable),
    "links": Step(filters.Links, filters.links),
    "duplicates": Step(repeats.Duplicates, repeats.duplicates),
    "decontaminate": Step(repeats.Decontaminate, repeats.decontaminate),
    "answers": Step(checks.Answers, checks.answers),
    "tests": Step(checks.Tests, checks.tests),
    "length": Step(filters.Length, filters.length),
}


ALONE = "alone"
"""In place of a key: a step done by its own command, always anew."""


class Source(BaseModel):
    """Rows that go in. One of ``path`` and ``hub``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[\w.-]+$")
    """Stands in every row that came from here."""
    format: str = "plain"
    """Which columns become what: ``leeway data formats``."""
    path: str = ""
    """A file or a pattern, relative to the recipe."""
    hub: str = ""
    """Name of a published set; the format's own where it says "default"."""
    split: str = ""
    """Of the published set; the format's by default."""
    revision: str = "main"
    """Of the published set: a commit, for the same rows every time."""
    subsets: tuple[str, ...] = ()
    """Only these of the source's subsets; all by default."""
    columns: dict[str, str] = {}
    """Other names for the format's columns: key → column."""

    @model_validator(mode="after")
    def _check(self) -> Source:
        if self.format not in FORMATS:
            raise ValueError(f"format = {self.format!r}: no such format; known: {', '.join(FORMATS)}")
        if bool(self.path) == bool(self.hub):
            raise ValueError("one of path and hub is due")
        with_columns(FORMATS[self.format], self.columns)
        return self

    @property
    def hub_name(self) -> str:
        """Of the published set."""
        return FORMATS[self.format].hub if self.hub == "default" else self.hub


class Output(BaseModel):
    """How rows come out."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    suffix: str = ""
    """Appended to every prompt in mathematics."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe as read."""

    sources: tuple[Source, ...]
    steps: tuple[tuple[str, Options], ...]
    output: Output
    folder: Path
    """Paths are relative to it."""

    def plain(self) -> dict[str, Any]:
        """Its content, without where it lies."""
        steps = [{"do": name, **options.model_dump(mode="json")} for name, options in self.steps]
        sources = [source.model_dump(mode="json") for source in self.sources]
        return {"source": sources, "step": steps, "output": self.output.model_dump(mode="json")}


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file. A ``ConfigError`` names the file, the entry, the key and what would be right."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    unknown = sorted(set(found) - {"source", "step", "output"})
    if unknown:
        raise ConfigError(f"{path}: {unknown[0]}: no such key; a recipe has [[source]], [[step]] and [output]")
    sources = [checked(Source, entry, f"{path}: source {number}") for number, entry in _entries(found, "source", path)]
    names = [source.name for source in sources]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"{path}: sources are at least one and have different names, found {names}")
    steps: list[tuple[str, Options]] = []
    for number, entry in _entries(found, "step", path):
        where = f"{path}: step {number}"
        name = str(entry.get("do"))
        if name not in STEPS:
            raise ConfigError(f"{where}: do = {name!r}: no such step; known: {', '.join(STEPS)}")
        options = {key: value for key, value in entry.items() if key != "do"}
        steps.append((name, checked(STEPS[name].options, options, f"{where} ({name})")))
    output = checked(Output, found.get("output", {}), f"{path}: output")
    return Recipe(tuple(sources), tuple(steps), output, path.parent)


def _entries(found: dict[str, Any], key: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    entries = found.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{path}: {key} is a list of tables: write [[{key}]]")
    return list(enumerate(entries, start=1))


def checked(model: type[Any], values: Any, where: str) -> Any:
    """The values as a model; a ``ConfigError`` names the first key that is wrong."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = f"; known: {', '.join(model.model_fields)}" if first["type"] == "extra_forbidden" else ""
        raise ConfigError(f"{where}: {key + ': ' if key else ''}{first['msg']}{known}") from None


@dataclass(slots=True)
class Result:
    """What running a recipe left."""

    stage: Path
    """Folder of the last stage."""
    funnels: list[tuple[str, Funnel]]
    """(step, counts), the loading first."""
    checksums: dict[str, str] = field(default_factory=dict)
    """Of every file read: who read it, and its name as in the recipe → SHA-256."""
    missing: list[str] = field(default_factory=list)
    """Inputs that were not there."""


def run(recipe: Recipe, work: Path, *, jobs: int, say: Callable[[str], None]) -> Result:
    """Do what is not done yet; ``say`` hears of every step. Stages are folders under ``work``."""
    missing: list[str] = []
    inputs = {source.name: _files(source, recipe.folder, missing) for source in recipe.sources}
    checksums = {
        f"{name}: {_shown(file, recipe.folder)}": checksum(file) for name, files in inputs.items() for file in files
    }
    plain = [source.model_dump(mode="json") for source in recipe.sources]
    key = _digest("load", plain, checksums, missing)
    folder = work / "00-load"
    funnel = finished(folder, key)
    if funnel is None:
        with StageWriter(_emptied(folder)) as writer:
            for source in recipe.sources:
                _load(source, inputs[source.name], recipe.folder, writer, missing)
        funnel = writer.funnel
        if not missing:  # what is missing now may be there the next time
            finish(folder, key, funnel)
    say(described("load", funnel))
    result = Result(folder, [("load", funnel)], checksums, missing)
    for number, (name, options) in enumerate(recipe.steps, start=1):
        stage, folder = Stage(folder), work / f"{number:02}-{name}"
        files = options.files(recipe.folder)
        read = {f"{number:02}-{name}: {_shown(file, recipe.folder)}": checksum(file) for file in files}
        checksums.update(read)
        key = _digest(checksum(stage.file), name, options.model_dump(mode="json"), read)
        funnel = finished(folder, key) or do_step(name, options, stage, folder, recipe.folder, jobs, missing, key)
        result.funnels.append((name, funnel))
        say(described(name, funnel))
    result.stage = folder
    return result


def load_alone(source: Source, folder: Path) -> tuple[Funnel, list[str]]:
    """(counts, inputs that are not there) of one source read into a stage; its path is relative to where we are."""
    missing: list[str] = []
    files = _files(source, Path(), missing)
    with StageWriter(_emptied(folder)) as writer:
        _load(source, files, Path(), writer, missing)
    return writer.funnel, missing


def do_step(
    name: str, options: Options, stage: Stage, folder: Path, relative_to: Path, jobs: int, missing: list[str], key: str
) -> Funnel:
    """Do one step. Its working files outlive a stop, so that grading goes on; everything else is made again."""
    context = Context(relative_to, folder.with_name(f"{folder.name}.{key[:12]}.work"), jobs)
    for old in folder.parent.glob(f"{folder.name}.*.work"):
        if old != context.work or key == ALONE:
            shutil.rmtree(old)
    funnel = divide(stage, _emptied(folder), STEPS[name].judge(stage, options, context))
    funnel.notes += context.notes
    missing += context.missing
    if not context.missing and key != ALONE:
        finish(folder, key, funnel)
    shutil.rmtree(context.work, ignore_errors=True)
    return funnel


def described(name: str, funnel: Funnel) -> str:
    """One step in a line, and its notes."""
    count = funnel.total()
    why = ", ".join(
        f"{number:,} {reason}" for reason, number in sorted(count.dropped.items(), key=lambda x: (-x[1], x[0]))
    )
    line = f"{name}: {count.rows_in:,} rows, {count.kept:,} kept{'; dropped: ' + why if why else ''}"
    return "\n".join([line, *(f"  {note}" for note in funnel.notes)])


def _files(source: Source, folder: Path, missing: list[str]) -> list[Path]:
    if source.hub:
        return []
    try:
        return files_of(source.path, folder)
    except DataError as error:
        missing.append(f"source {source.name}: {error}")
        return []


def _load(source: Source, files: list[Path], folder: Path, writer: StageWriter, missing: list[str]) -> None:
    form = with_columns(FORMATS[source.format], source.columns)
    parts: list[tuple[str, Iterator[tuple[int, Any]]]]
    if source.hub:
        split = source.split or form.split
        rows = rows_of_hub(source.hub_name, form, split=split, revision=source.revision)
        parts = [(f"{source.hub_name}@{source.revision}/{split}", rows)]
    else:
        parts = [(_shown(file, folder), rows_of(file)) for file in files]
    for file, numbered in parts:
        try:
            for batch in _batches(_read(source, form, file, numbered)):
                writer.write(pa.RecordBatch.from_pylist([row for row, _ in batch], WORKING), [why for _, why in batch])
        except DataError as error:
            missing.append(f"source {source.name}: {error}")


def _read(
    source: Source, form: Any, file: str, numbered: Iterator[tuple[int, Any]]
) -> Iterator[tuple[dict[str, Any], Judgement]]:
    for number, values in numbered:
        try:
            if isinstance(values, RowError):
                raise values
            row = working_row(values, form, source=source.name, file=file, number=number)
            _refuse_surrogates(row)
            other = source.subsets and row["subset"] not in source.subsets
            yield row, Drop("a subset not asked for", str(row["subset"])) if other else None
        except RowError as error:
            shown = {
                "source": source.name,
                "file": file,
                "row": number,
                "problem": _printable(str(values)[:SHOWN_CHARS]),
            }
            yield shown, Drop(_printable(error.reason), _printable(error.detail))


def _refuse_surrogates(row: dict[str, Any]) -> None:
    """JSON can spell halves of characters, and a file's bytes may be no UTF-8: neither can be written again."""
    for text in (row["problem"], row["solution"], row["subset"], *(message["content"] for message in row["messages"])):
        if text is not None and _printable(text) != text:
            raise RowError("text that is no Unicode", repr(text)[:80])


def _printable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _batches(rows: Iterator[tuple[dict[str, Any], Judgement]]) -> Iterator[list[tuple[dict[str, Any], Judgement]]]:
    """In batches; rows read before a file breaks off count."""
    batch: list[tuple[dict[str, Any], Judgement]] = []
    try:
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH:
                yield batch
                batch = []
    except DataError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _shown(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name


def _digest(*parts: Any) -> str:
    text = json.dumps([__version__, *parts], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
