"""``leeway data`` makes training rows of raw rows (docs/how-to/prepare-rows.md). Arguments are parsed before heavy
imports."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from ..common.errors import DataError, told
from ..common.files import path_of
from ..common.locks import only_writer
from ..common.stopping import STOPPED, stoppable

if TYPE_CHECKING:
    from pydantic import BaseModel


STEP_NAMES = (
    "verifiable",
    "links",
    "duplicates",
    "decontaminate",
    "answers",
    "tests",
    "length",
    "difficulty",
    "quality",
)
"""The names of the data steps, for a help that answers before heavy imports. ``recipe.STEPS`` has the same names."""


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="leeway data", description="Make training rows of raw rows.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    whole = commands.add_parser("run", help="run a recipe: load, every data step, output and card")
    whole.add_argument("recipe", type=path_of, metavar="RECIPE.toml")
    whole.add_argument("--out", type=path_of, required=True, help="folder to write; the same command goes on there")
    commands.add_parser("formats", help="show what the columns of each published set become")
    show = commands.add_parser("show", help="show what a data step dropped, with the reasons")
    show.add_argument("dataset", type=path_of, help="the data step's folder")
    show.add_argument("--reason", default="", help="show only reasons that contain this")
    show.add_argument("--rows", type=_positive, default=5, help="show at most so many rows of each reason")
    parsers = {"load": commands.add_parser("load", help="read one source into a dataset")}
    parsers |= {name: commands.add_parser(name, help="do this data step alone") for name in STEP_NAMES}
    for name, command in parsers.items():
        if name != "load":
            command.add_argument("dataset", type=path_of, help="folder of the dataset to read")
        command.add_argument("--out", type=path_of, required=True, help="folder of the new dataset")
    for command in (whole, *parsers.values()):
        command.add_argument("--jobs", type=_positive, default=_processors(), help="processes for grading")
    chosen = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if chosen in parsers:  # its own options are the fields of its model
        from .recipe import STEPS, Source

        _add_options(parsers[chosen], Source if chosen == "load" else STEPS[chosen].options)
    arguments = parser.parse_args()
    try:
        return told("leeway data", lambda: _run(arguments))
    except KeyboardInterrupt:
        print("leeway data: stopped; run the same command again to go on", file=sys.stderr)
        return STOPPED


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "run":
            return _run_recipe(arguments.recipe, arguments.out, arguments.jobs)
        case "formats":
            return _formats()
        case "show":
            return _show(arguments.dataset, arguments.reason, arguments.rows)
        case command:
            return _run_alone(command, arguments)


def _run_recipe(path: Path, out: Path, jobs: int) -> int:
    from . import output, recipe

    found = recipe.read_recipe(path)
    with only_writer(out / ".lock", f"--out {out}"):
        result = recipe.run(found, _datasets(out), jobs=jobs, say=_say)
        output.write(result, found, out)
    _say(f"{out / 'data.parquet'}, {out / 'card.md'}")
    return _missing(result.missing)


def _run_alone(command: str, arguments: argparse.Namespace) -> int:
    """Do one data step from a dataset to a dataset, or load one source."""
    from . import recipe
    from .dataset import Dataset

    model = recipe.Source if command == "load" else recipe.STEPS[command].options
    given = {name: getattr(arguments, name) for name in model.model_fields if getattr(arguments, name) is not None}
    options = recipe.checked(model, given, command)
    if command == "load":
        funnel, missing = recipe.load_alone(options, arguments.out)
    else:
        missing = []
        if arguments.out.resolve() == arguments.dataset.resolve():
            raise DataError(f"--out {arguments.out} is the dataset that is read")
        dataset = Dataset(arguments.dataset)
        funnel, _ = recipe.do_step(command, options, dataset, arguments.out, Path(), arguments.jobs, missing)
    _say(recipe.described(command, funnel))
    return _missing(missing)


def _missing(missing: list[str]) -> int:
    for what in missing:
        print(f"leeway data: {what}", file=sys.stderr)
    return DataError.exit_code if missing else 0


def _formats() -> int:
    from ..common.tables import show, table
    from .sources import FORMATS

    keys = ("problem", "prompt", "answer", "tests", "starter", "solution", "subset", "question_type", "valid", "year")
    rows = []
    for name, form in FORMATS.items():
        used = ((key, getattr(form, key)) for key in keys)
        said = [f"{_named(value)} → {key}" for key, value in used if value and not (key == "answer" and form.tests)]
        rows.append((name, form.hub, "; ".join(said) if name != "skywork" else "as they are"))
    show(table(("format", "hub", "column → what"), rows))
    return 0


def _named(columns: Any) -> str:
    if isinstance(columns, str):
        return columns
    return ", ".join(columns.values()) if isinstance(columns, dict) else " or ".join(columns)


def _datasets(out: Path) -> Path:
    """The folder of a recipe's datasets. It was once called stages; a folder of that name is renamed, so that no
    answers of models are lost."""
    folder, before = out / "datasets", out / "stages"
    if before.is_dir() and not folder.exists():
        before.rename(folder)
    return folder


def _show(dataset: Path, reason: str, most: int) -> int:
    from collections import Counter

    import pyarrow.parquet as pq

    shown: Counter[str] = Counter()
    try:
        batches = pq.ParquetFile(dataset / "dropped.parquet").iter_batches()
    except OSError as error:
        raise DataError(f"{dataset}: no dataset of leeway data (dropped.parquet): {error}") from error
    for batch in batches:
        for row in batch.to_pylist():
            if reason in row["reason"] and shown[row["reason"]] < most:
                shown[row["reason"]] += 1
                print(f"{row['source']} {row['file']}:{row['row']}  {row['reason']}\n  {row['detail']}")
                print(f"  {' '.join((row['problem'] or '').split())[:160]}")
    return 0


def _add_options(parser: argparse.ArgumentParser, model: type[BaseModel]) -> None:
    from pydantic import BaseModel

    from ..common.described import meaning_of

    for name, field in model.model_fields.items():
        flag = "--" + name.replace("_", "-")
        said: dict[str, Any] = {"help": meaning_of(field), "default": None, "dest": name}
        kind: Any = field.annotation
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **said)
        elif get_origin(kind) is Literal:
            parser.add_argument(flag, choices=get_args(kind), **said)
        elif get_origin(kind) is tuple:
            tables = isinstance(get_args(kind)[0], type) and issubclass(get_args(kind)[0], BaseModel)
            how: dict[str, Any] = {"type": _pairs, "metavar": "KEY=VALUE,…"} if tables else {}
            parser.add_argument(flag, nargs="+", required=field.is_required(), **how, **said)
        elif get_origin(kind) is dict:
            parser.add_argument(flag, type=_pairs, metavar="KEY=VALUE,…", **said)
        else:
            parser.add_argument(flag, type=kind, required=field.is_required(), **said)


def _pairs(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(","))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(stoppable(main))
