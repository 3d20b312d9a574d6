"""The first part of ``leeway eval``: it makes problems of benchmarks, as ``leeway sample`` takes them.

A set that cannot be found is named with what was looked for, and so is every row that lacks something; the rest is
used. The problems go into a folder, as ``problems.jsonl`` and ``benchmarks.json``.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any

from ..common.errors import ConfigError, DataError, told
from ..common.files import path_of, whole_file
from ..common.limits import MOST_RESPONSES
from ..common.rows import ENDINGS, Columns
from ..common.stopping import stoppable
from ..common.texts import flaw
from ..common.wording import counted
from .benchmarks import BENCHMARKS, GYM, Benchmark, Window, columns_of, problem_of
from .folder import read_json, read_of, refuse_changed, refuse_other, write_json
from .problems import ORIGIN, id_of
from .sets import file_of_package, rows_of_file, rows_of_hub, rows_of_reasoning_gym

FILE = "file"
PARTIAL = 11  # the exit code that tells leeway eval so
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Asked:
    """A benchmark as the command line names it."""

    name: str
    kind: str
    """A key of ``BENCHMARKS``, ``FILE`` or ``GYM``."""
    where: str
    """A path or a hub name; the generator, for ``GYM``; or empty for the place that the table gives."""


def asked(words: str) -> Asked:
    """Read ``aime24``, ``aime24=PATH-or-HUB``, ``reasoning-gym:GENERATOR``, or the name of a file in the training
    schema. ``ConfigError`` where ``words`` are none of these."""
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
        f"{words!r} is not a benchmark; known: {', '.join(BENCHMARKS)}, each also as NAME=PATH or NAME=HUB-NAME; "
        f"{GYM}:GENERATOR; or a file of training rows ({', '.join(ENDINGS)})"
    )


def rows_of(
    what: Asked, window: Window, size: int, seed: int, columns: Columns | None = None
) -> Iterator[tuple[str, Any]]:
    """(where it is, values) of each raw row. ``columns`` are those of a file of training rows. ``DataError`` names what
    was looked for."""
    if what.kind == GYM:
        yield from rows_of_reasoning_gym(what.where, size, seed)
        return
    files = files_of(what, window)
    if files is None:
        form = BENCHMARKS[what.kind]
        yield from rows_of_hub(what.where or form.hub, form.split, _named_files(form, window) if not what.where else [])
        return
    for path in files:
        yield from rows_of_file(path, columns if what.kind == FILE else None)


def files_of(what: Asked, window: Window) -> list[Path] | None:
    """The files that a benchmark is read from; None where it comes from the hub or from a generator. ``DataError``
    where a folder has no such file."""
    if what.kind == GYM:
        return None
    if what.kind == FILE:
        return [path_of(what.where)]
    form, where = BENCHMARKS[what.kind], str(path_of(what.where)) if what.where else ""
    if where and (Path(where).exists() or not HUB_NAME.fullmatch(where) or where.endswith(ENDINGS)):
        return _files(Path(where), form, window)
    packaged = file_of_package(*form.package) if not where and form.package is not None else None
    return None if packaged is None else [packaged]


def _named_files(form: Benchmark, window: Window) -> list[str]:
    if not form.files:
        return []
    return [form.files.format(release="" if number == 1 else number) for number in range(1, window.release + 1)]


def _files(path: Path, form: Benchmark, window: Window) -> list[Path]:
    """A file by itself; or a folder's files that the table names; or else all of its files that can be read."""
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
    """Write the problems of every benchmark. Returns for each how many problems it has, how many rows could not be used
    or are outside the window, and why it is missing, if it is. ``say`` is called for every such row and benchmark.
    ``DataError`` where no benchmark has a problem."""
    if responses is not None and not 1 <= responses <= MOST_RESPONSES:
        raise ConfigError(f"--responses {responses}: must be 1 to {MOST_RESPONSES} responses per problem")
    out.mkdir(parents=True, exist_ok=True)
    sets = dict[str, Any]()
    with whole_file(out / "problems.jsonl") as temporary, temporary.open("w", encoding="utf-8") as lines:
        for what in wanted:
            counts, missing = {"problems": 0, "unusable rows": 0, "outside the window": 0}, ""
            writer = _Writer(lines, what, window, responses, columns or {}, say)
            try:
                for number, (where, values) in enumerate(rows_of(what, window, size, seed, columns), start=1):
                    counts[writer.write(number, where, values)] += 1
                if not counts["problems"]:
                    missing = f"{what.name}: no problem is left of {counted(sum(counts.values()), 'row')}"
            except DataError as error:
                missing = f"{what.name}: {error}"
            if missing:
                say(missing)
            sets[what.name] = {**counts, "missing": missing}
        if not any(each["problems"] for each in sets.values()):
            raise DataError("there is nothing to ask: none of the benchmarks could be read")
    return sets


class _Writer:
    """Writes one benchmark's problems, each with the place it came from, and names the rows that cannot be used."""

    def __init__(
        self,
        lines: IO[str],
        what: Asked,
        window: Window,
        responses: int | None,
        columns: Columns,
        say: Callable[[str], None],
    ) -> None:
        self._lines, self._what, self._window, self._responses = lines, what, window, responses
        self._columns, self._say = columns, say
        self._seen: dict[str, str] = {}

    def write(self, number: int, where: str, values: Any) -> str:
        """Write the problem of one raw row. Returns the name of the count that it belongs to."""
        try:
            row = problem_of(self._what.kind, values, self._window, self._responses)
            if row is None:
                return "outside the window"
            theirs = dict(self._columns) if self._what.kind == FILE else columns_of(self._what.kind, values)
            self._refuse_flaws(row, theirs)
            own = f"{self._what.name}/{id_of(row, str(number), where)}"
            if own in self._seen:
                raise DataError(f"{where}: id {row['id']!r} is also in an earlier row, {self._seen[own]}")
        except DataError as error:
            self._say(str(error) if where in str(error) else f"{where}: {error}")
            return "unusable rows"
        self._seen[own] = where
        origin = {"at": where} | ({"columns": theirs} if theirs else {})
        self._lines.write(json.dumps(row | {"id": own, ORIGIN: origin}, ensure_ascii=False) + "\n")
        return "problems"

    def _refuse_flaws(self, row: dict[str, Any], theirs: dict[str, str]) -> None:
        for key, value in row.items():
            if (found := flaw(value)) is not None:
                raise DataError(f"column {theirs.get(key, key)}{found[0]}: {found[1]}")


def once_each(wanted: list[Asked]) -> list[Asked]:
    """``wanted`` as it is. ``ConfigError`` where two have the same name, since their problems could not be told
    apart."""
    names = [each.name for each in wanted]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two benchmarks are called {name!r}; name one NAME=FILE")
    return wanted


def release_of(text: str) -> int:
    """N of LiveCodeBench's ``release_vN``."""
    found = re.fullmatch(r"release_v([1-9])", text)
    if found is None:
        raise ConfigError(f"--release {text!r}: LiveCodeBench has release_v1 to release_v6")
    return int(found[1])


def main() -> int:
    """Parse the arguments and write the problems. Returns ``PARTIAL`` where something could not be used and the rest is
    written."""
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
        "--columns", type=json.loads, default={}, help="data.columns for files of training rows, as JSON"
    )
    said = vars(parser.parse_args())
    out = said.pop("out")

    def say(problem: str) -> None:
        print(f"leeway eval: {problem}", file=sys.stderr)

    return told("leeway eval", lambda: PARTIAL if prepare_once(said, out, say) else 0)


def prepare_once(said: dict[str, Any], out: Path, say: Callable[[str], None]) -> int:
    """``prepare`` by the words of a command line. A folder that was prepared by the same words, from the files that are
    there today, stays as it is. Returns how many rows and benchmarks could not be used. ``DataError`` names a file that
    has changed."""
    notes = out / "benchmarks.json"
    if notes.exists():
        noted = read_json(notes)
        refuse_other(out, noted["asked"], said)
        refuse_changed(out, noted.get("read", {}), read_by(said), say)
        for each in noted["sets"].values():
            if each["missing"]:
                say(each["missing"])
        return sum(each["unusable rows"] + bool(each["missing"]) for each in noted["sets"].values())
    read, sets = read_by(said), prepared_by(said, out, say)
    write_json(notes, {"asked": said, "sets": sets, "read": read})
    return sum(each["unusable rows"] + bool(each["missing"]) for each in sets.values())


def prepared_by(said: dict[str, Any], out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """``prepare`` by the words of a command line, whatever the folder has."""
    wanted, window = _wanted(said)
    options = {key: said[key] for key in ("responses", "size", "seed")} | {"columns": said.get("columns")}
    return prepare(wanted, out, window=window, say=say, **options)


def read_by(said: dict[str, Any]) -> dict[str, str]:
    """Fingerprints of the files that the benchmarks of a command line are made from today."""
    wanted, window = _wanted(said)
    files: list[Path] = []
    for what in wanted:
        try:
            files += files_of(what, window) or []
        except DataError:
            continue  # ``prepare`` names it as missing
    return read_of(files, generated=any(what.kind == GYM for what in wanted))


def _wanted(said: dict[str, Any]) -> tuple[list[Asked], Window]:
    wanted = once_each([asked(words) for words in said["benchmarks"]])
    days = [_day_of(key, said[key]) for key in ("since", "until")]
    return wanted, Window(release=release_of(said["release"]), since=days[0], until=days[1])


def _day_of(key: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--{key} {text!r}: must be a day, YYYY-MM-DD") from None


if __name__ == "__main__":
    sys.exit(stoppable(main))
