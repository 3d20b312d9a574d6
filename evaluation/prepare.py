"""``leeway eval``, first step: benchmarks in, problems out, as ``leeway sample`` takes them.

A set that is not there is named with what was looked for, and so is every row that lacks something; the others go on.
Writes ``problems.jsonl`` and ``benchmarks.json`` into a folder.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any

from ..common.errors import ConfigError, DataError, LeewayError
from ..common.files import path_of
from ..common.rows import ENDINGS, Columns
from ..common.stopping import stoppable
from .benchmarks import BENCHMARKS, GYM, Benchmark, Window, problem_of
from .folder import read_json, refuse_other, write_json
from .sets import rows_of_file, rows_of_hub, rows_of_package, rows_of_reasoning_gym

FILE = "file"
PARTIAL = 11  # exit code, for the desk
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Asked:
    """A benchmark as the command line names it."""

    name: str
    kind: str
    """A key of ``BENCHMARKS``, ``FILE`` or ``GYM``."""
    where: str
    """A path or a hub name; of ``GYM`` the generator; empty: where the table says."""


def asked(words: str) -> Asked:
    """``aime24``, ``aime24=PATH-or-HUB``, ``reasoning-gym:GENERATOR``, or a file in the training schema."""
    name, _, where = words.partition("=")
    if name in BENCHMARKS:
        return Asked(name, name, where)
    kind, _, generator = words.partition(":")
    if kind == GYM and generator:
        return Asked(generator, GYM, generator)
    if words.endswith(ENDINGS):
        name = words if not where else name
        return Asked(Path(name).name.split(".")[0] if not where else name, FILE, where or words)
    raise ConfigError(
        f"{words!r}: no benchmark; known: {', '.join(BENCHMARKS)}, each also as NAME=PATH or NAME=HUB-NAME; "
        f"{GYM}:GENERATOR; or a file of training rows ({', '.join(ENDINGS)})"
    )


def rows_of(
    what: Asked, window: Window, size: int, seed: int, columns: Columns | None = None
) -> Iterator[tuple[str, Any]]:
    """(where it stands, values) of each raw row; ``columns`` are those of a file of training rows. ``DataError`` names
    what was looked for."""
    if what.kind == GYM:
        yield from rows_of_reasoning_gym(what.where, size, seed)
        return
    if what.kind == FILE:
        yield from rows_of_file(path_of(what.where), columns)
        return
    form, where = BENCHMARKS[what.kind], str(path_of(what.where)) if what.where else ""
    if where and (Path(where).exists() or not HUB_NAME.fullmatch(where) or where.endswith(ENDINGS)):
        for path in _files(Path(where), form, window):
            yield from rows_of_file(path)
    elif not where and form.package is not None and (found := rows_of_package(*form.package)) is not None:
        yield from found
    else:
        yield from rows_of_hub(where or form.hub, form.split, _named_files(form, window) if not where else [])


def _named_files(form: Benchmark, window: Window) -> list[str]:
    if not form.files:
        return []
    return [form.files.format(release="" if number == 1 else number) for number in range(1, window.release + 1)]


def _files(path: Path, form: Benchmark, window: Window) -> list[Path]:
    """A file; or of a folder those that the table names, or all that can be read."""
    if not path.is_dir():
        return [path]
    named = [path / name for name in _named_files(form, window)]
    found = named or sorted(each for each in path.iterdir() if each.suffix in (".jsonl", ".parquet", ".gz"))
    if not found:
        raise DataError(f"{path}: no .jsonl or .parquet file in this folder")
    return found


def prepare(
    wanted: list[Asked],
    out: Path,
    *,
    responses: int | None,
    window: Window,
    size: int,
    seed: int,
    say: Callable[[str], None],
    columns: Columns | None = None,
) -> dict[str, Any]:
    """Write the problems of every benchmark; what became of each: problems, rows that could not be used, rows outside
    the window, and why it is missing where it is. ``say`` hears of every such row and benchmark."""
    out.mkdir(parents=True, exist_ok=True)
    unfinished, sets = out / ".problems.jsonl.unfinished", dict[str, Any]()
    with unfinished.open("w", encoding="utf-8") as lines:
        for what in wanted:
            counts, missing = {"problems": 0, "unusable rows": 0, "outside the window": 0}, ""
            try:
                for number, (where, values) in enumerate(rows_of(what, window, size, seed, columns), start=1):
                    counts[_write(lines, what, number, where, values, window, responses, say)] += 1
                if not counts["problems"]:
                    missing = f"{what.name}: no problem is left of {sum(counts.values())} rows"
            except DataError as error:
                missing = f"{what.name}: {error}"
            if missing:
                say(missing)
            sets[what.name] = {**counts, "missing": missing}
    if not any(each["problems"] for each in sets.values()):
        raise DataError("there is nothing to ask: none of the benchmarks could be read")
    unfinished.replace(out / "problems.jsonl")
    return sets


def _write(
    lines: IO[str],
    what: Asked,
    number: int,
    where: str,
    values: Any,
    window: Window,
    responses: int | None,
    say: Callable[[str], None],
) -> str:
    """Write the problem of one raw row; which count it belongs to."""
    try:
        row = problem_of(what.kind, values, window, responses)
    except DataError as error:
        say(str(error) if where in str(error) else f"{where}: {error}")
        return "unusable rows"
    if row is None:
        return "outside the window"
    own = number if row["id"] is None else row["id"]
    lines.write(json.dumps(row | {"id": f"{what.name}/{own}"}, ensure_ascii=False) + "\n")
    return "problems"


def once_each(wanted: list[Asked]) -> list[Asked]:
    """``ConfigError`` where two have one name: their problems could not be told apart."""
    names = [each.name for each in wanted]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two benchmarks are called {name!r}; name one NAME=FILE")
    return wanted


def release_of(text: str) -> int:
    """N of LiveCodeBench's ``release_vN``."""
    found = re.fullmatch(r"release_v([1-9])", text)
    if found is None:
        raise ConfigError(f"--release {text!r}: release_v1 to release_v6 are LiveCodeBench's")
    return int(found[1])


def main() -> int:
    """Parse the arguments and write the problems. ``PARTIAL``: something could not be used; the rest is there."""
    parser = argparse.ArgumentParser(prog="leeway eval", description=__doc__)
    parser.add_argument("benchmarks", nargs="+")
    parser.add_argument("--out", type=path_of, required=True)
    parser.add_argument("--responses", type=int)
    parser.add_argument("--release", default="release_v5")
    parser.add_argument("--since", default="2024-08-01")
    parser.add_argument("--until", default="2025-02-01")
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--columns", type=json.loads, default={}, help="data.columns of files of training rows, as JSON"
    )
    said = vars(parser.parse_args())
    out = said.pop("out")

    def say(problem: str) -> None:
        print(f"leeway eval: {problem}", file=sys.stderr)

    try:
        unusable = _prepared(said, out, say)
    except LeewayError as error:
        say(str(error))
        return error.exit_code
    return PARTIAL if unusable else 0


def _prepared(said: dict[str, Any], out: Path, say: Callable[[str], None]) -> int:
    """``prepare`` by the words of a command line; a folder that was prepared by the same words stays as it is."""
    notes = out / "benchmarks.json"
    if notes.exists():
        noted = read_json(notes)
        refuse_other(out, noted["asked"], said)
        for each in noted["sets"].values():
            if each["missing"]:
                say(each["missing"])
        return sum(each["unusable rows"] + bool(each["missing"]) for each in noted["sets"].values())
    wanted = once_each([asked(words) for words in said["benchmarks"]])
    days = [_day_of(key, said[key]) for key in ("since", "until")]
    window = Window(release=release_of(said["release"]), since=days[0], until=days[1])
    options = {key: said[key] for key in ("responses", "size", "seed")} | {"columns": said.get("columns")}
    sets = prepare(wanted, out, window=window, say=say, **options)
    write_json(notes, {"asked": said, "sets": sets})
    return sum(each["unusable rows"] + bool(each["missing"]) for each in sets.values())


def _day_of(key: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--{key} {text!r}: a day is due, YYYY-MM-DD") from None


if __name__ == "__main__":
    sys.exit(stoppable(main))
