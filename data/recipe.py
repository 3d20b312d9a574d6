"""Reads a recipe (which sources, which data steps, in which order), runs it, and goes on with it after a stop.

Every data step's dataset has a key: a digest of the rows before it, the step's name and options, the files that it
reads, and our version. A dataset that is there under its key is not made again. So the command goes on after the last
whole data step, and a changed line of the recipe is done again with all that follow it.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .. import __version__
from ..common.config import toml_in
from ..common.errors import ConfigError, DataError
from ..common.files import checksum
from ..common.wording import counted
from . import checks, difficulty, filters, quality, repeats
from .dataset import Dataset, Funnel, divide, finish, finished
from .loading import Source, files_there, load_all, shown
from .step import Context, Options, Step

STEPS: Mapping[str, Step] = {
    "verifiable": Step(filters.Verifiable, filters.verifiable),
    "links": Step(filters.Links, filters.links),
    "duplicates": Step(repeats.Duplicates, repeats.duplicates),
    "decontaminate": Step(repeats.Decontaminate, repeats.decontaminate),
    "answers": Step(checks.Answers, checks.answers),
    "tests": Step(checks.Tests, checks.tests),
    "length": Step(filters.Length, filters.length),
    "difficulty": Step(difficulty.Difficulty, difficulty.difficulty),
    "quality": Step(quality.Quality, quality.quality),
}


class Output(BaseModel):
    """How the rows are written."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    suffix: str = ""
    """Text that is appended to every prompt in mathematics."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe that was read from a file."""

    sources: tuple[Source, ...]
    steps: tuple[tuple[str, Options], ...]
    output: Output
    folder: Path
    """The folder to which the recipe's paths are relative."""

    def plain(self) -> dict[str, Any]:
        """The recipe's content, without its place on this machine."""
        steps = [{"do": name, **options.model_dump(mode="json")} for name, options in self.steps]
        sources = [source.model_dump(mode="json") for source in self.sources]
        return {"source": sources, "step": steps, "output": self.output.model_dump(mode="json")}


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file. A ``ConfigError`` names the file, the entry, the key and what would be right."""
    try:
        found = toml_in(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
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
            what = f"do = {name!r}: no such step" if "do" in entry else "there is no key do"
            raise ConfigError(f"{where}: {what}; known: {', '.join(STEPS)}")
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
    """What a recipe has made."""

    dataset: Path
    """Folder of the last dataset."""
    funnels: list[tuple[str, Funnel]]
    """(data step, counts) in order, the loading first."""
    checksums: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every file that was read, by who read it and the file's name in the recipe."""
    missing: list[str] = field(default_factory=list)
    """Inputs that were missing."""
    rated: list[Path] = field(default_factory=list)
    """Folders of the datasets whose data steps rated rows."""


def run(recipe: Recipe, work: Path, *, jobs: int, say: Callable[[str], None]) -> Result:
    """Do what is not done yet, and tell ``say`` of every data step. Datasets are folders under ``work``."""
    missing: list[str] = []
    inputs = {source.name: files_there(source, recipe.folder, missing) for source in recipe.sources}
    checksums = {
        f"{name}: {shown(file, recipe.folder)}": checksum(file) for name, files in inputs.items() for file in files
    }
    plain = [source.model_dump(mode="json") for source in recipe.sources]
    key = _digest("load", plain, checksums, missing)
    folder = work / "00-load"
    funnel = finished(folder, key)
    if funnel is None:
        funnel = load_all(recipe.sources, inputs, recipe.folder, folder, missing)
        if not missing:  # what is missing now may be there the next time
            finish(folder, key, funnel)
    say(described("load", funnel))
    result = Result(folder, [("load", funnel)], checksums, missing)
    for number, (name, options) in enumerate(recipe.steps, start=1):
        dataset, folder = Dataset(folder), work / f"{number:02}-{name}"
        funnel, read = do_step(name, options, dataset, folder, recipe.folder, jobs, missing)
        checksums.update({f"{number:02}-{name}: {file}": digest for file, digest in read.items()})
        result.funnels.append((name, funnel))
        if name == "difficulty":
            result.rated.append(folder)
        say(described(name, funnel))
    result.dataset = folder
    return result


def load_alone(source: Source, folder: Path) -> tuple[Funnel, list[str]]:
    """Read one source into a dataset. Returns (counts, missing inputs). The path is relative to the current folder."""
    missing: list[str] = []
    files = {source.name: files_there(source, Path(), missing)}
    return load_all((source,), files, Path(), folder, missing), missing


def do_step(
    name: str, options: Options, dataset: Dataset, folder: Path, relative_to: Path, jobs: int, missing: list[str]
) -> tuple[Funnel, dict[str, str]]:
    """Do one data step unless its dataset is there. Returns (counts, checksums of the files that it reads).

    Its working files outlive a stop, so that grading goes on. The answers of models stay beside the dataset, and are
    used again as long as the questions are the same.
    """
    read = {shown(file, relative_to): checksum(file) for file in options.files(relative_to)}
    rows = checksum(dataset.file)
    key = _digest(rows, name, options.plain(), read)
    funnel = finished(folder, key)
    if funnel is not None:
        return funnel, read
    asked = _digest(rows, name, options.plain(questions=True), read)
    context = Context(
        relative_to,
        folder.with_name(f"{folder.name}.{key[:12]}.work"),
        folder.with_name(f"{folder.name}.{asked[:12]}.asked"),
        jobs,
    )
    for old in folder.parent.glob(f"{folder.name}.*.work"):
        if old != context.work:
            shutil.rmtree(old)
    funnel = divide(dataset, folder, STEPS[name].judge(dataset, options, context))
    funnel.notes += context.notes
    missing += context.missing
    if not context.missing:
        finish(folder, key, funnel)
    shutil.rmtree(context.work, ignore_errors=True)
    return funnel, read


def described(name: str, funnel: Funnel) -> str:
    """One data step in a line, followed by its notes."""
    count = funnel.total()
    why = ", ".join(
        f"{number:,} {reason}" for reason, number in sorted(count.dropped.items(), key=lambda x: (-x[1], x[0]))
    )
    line = f"{name}: {counted(count.rows_in, 'row')}, {count.kept:,} kept{'; dropped: ' + why if why else ''}"
    return "\n".join([line, *(f"  {note}" for note in funnel.notes)])


def _digest(*parts: Any) -> str:
    text = json.dumps([__version__, *parts], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
