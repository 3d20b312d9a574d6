"""What the benchmarks and the proofs share: their arguments, a line about the machine, rounds, tables, and a server."""

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Way, Result = TypeVar("Way"), TypeVar("Result")
KEPT = "keep the runs' folders here"

OPTIONS = {
    "rounds": "how often each side takes its turn",
    "seed": "of everything that is drawn",
    "side_by_side": "runs at a time",
    "steps": "training steps of each run",
    "threads": "of torch",
}
"""Whole numbers that several programs take, and what their help says."""


def parser_of(doc: str | None, *, out: str = "", settings: bool = False, **numbers: int) -> argparse.ArgumentParser:
    """A parser whose help is the program's docstring. ``numbers``: those of ``OPTIONS`` that it takes, with their
    defaults. ``out``: the help of ``--out FOLDER``, where it takes one. ``settings``: whether it takes ``--set``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=OPTIONS[name])
    if settings:
        parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every run")
    if out:
        parser.add_argument("--out", type=Path, metavar="FOLDER", help=out)
    return parser


def load_of_this_machine() -> str:
    """A line on the machine's load, which stands beside every figure that is a time."""
    return f"load of this machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


@contextmanager
def home_and_server(out: Path | None = None) -> Iterator[tuple[Path, str]]:
    """A folder (``out``, or one that goes at the end) and the address of an embedded server that lives in it."""
    from leeway_rl.leeway.running.server import EmbeddedServer  # what measures memory has no use for it

    with tempfile.TemporaryDirectory() as folder:
        home = out or Path(folder)
        with EmbeddedServer(home / "redis") as server:
            yield home, server.url


def in_turns(
    rounds: int, ways: Mapping[Way, Callable[[int], Result]], *, warm_up: int = 0
) -> Iterator[dict[Way, Result]]:
    """Take each way once a round, with the round's number, and yield what each returned. The order changes from round
    to round, so that no way has a better place. ``warm_up`` rounds come first and are not reported."""
    for number in range(-warm_up, rounds):
        order = list(ways) if number % 2 == 0 else list(ways)[::-1]
        found = {name: ways[name](number) for name in order}
        if number >= 0:
            yield found


def timed(work: Callable[..., Result], *values: Any) -> tuple[float, Result]:
    """Seconds that ``work(*values)`` takes, and what it returns."""
    started = time.perf_counter()
    result = work(*values)
    return time.perf_counter() - started, result


class Table:
    """Lines in columns, each printed as soon as it is known.

    A column is its head, a colon, and Python's format of its cells: ``"step s:8.2f"``. Text stands to the left, numbers
    to the right. A cell that does not take the format (a name above numbers) is printed as it is.
    """

    def __init__(self, *columns: str) -> None:
        self._columns = []
        for column in columns:
            head, _, form = column.partition(":")
            side, sign, width, rest = re.fullmatch(r"([<>^]?)(\+?)(\d*)(.*)", form).groups()  # type: ignore[union-attr]
            side = side or (">" if rest else "<")
            self._columns.append((side, max(len(head), int(width or 0)), sign + rest))
        self.line(*(column.partition(":")[0] for column in columns))

    def line(self, *cells: Any) -> None:
        """Print one line; there may be fewer cells than columns."""
        texts = []
        for (side, width, form), cell in zip(self._columns, cells, strict=False):
            text = cell if isinstance(cell, str) else format(cell, form)
            texts.append(f"{text:{side}{width}}")
        print("  ".join(texts).rstrip(), flush=True)
