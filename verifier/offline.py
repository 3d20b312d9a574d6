"""``leeway verify IN.jsonl --out OUT.jsonl`` grades a file of responses, without Redis and without a model.

A row has ``id``, ``response``, and ``answer`` (a gold, or a list of texts as alternatives), ``tests`` (code) or
``entry`` (as reasoning-gym made it, and the generator's ``options`` if there were some). ``ability`` says how an answer
is judged, ``math`` or ``exact``; words and bare sums are not judged as mathematics unless it says so. ``finished``
(default true) and ``reasoning_open`` (default false) mean the same as in a run. If ``boxed`` (default true) is false,
an answer is taken out of prose that boxes nothing: for solutions out of books. OUT gets ``id``, ``verdict``,
``reason``, ``seconds`` and ``peak_bytes`` for every readable row, in IN's order; the others are reported by line.
``of`` is the fingerprint of what was graded, and ``by`` names the verifier and its configuration.

Memory does not grow with the file: rows are read as graders become free, and a verdict is written as soon as all before
it are. OUT always holds a whole number of rows from the start. So the same command goes on after them when it is run
again, if they are on the same rows by the same verifier. Only one process writes it at a time.
"""

import argparse
import codecs
import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..common.config import Verifier
from ..common.errors import ConfigError, DataError, of_the_system, told
from ..common.files import path_of
from ..common.fingerprint import fingerprint, judged_by
from ..common.ground_truth import CODE, MATH, SOLUTION, ground_truth_of
from ..common.json_text import NotUtf8, parsed
from ..common.locks import hold
from ..common.stopping import STOPPED, stoppable
from ..common.texts import flaw
from ..common.types import Verdict, VerdictKind
from ..common.wording import counted
from .code.tests import parse_tests
from .pool import GradeItem, GraderPool
from .resumption import pass_over

AHEAD = 20_000
"""Most verdicts that wait for a slow one before them."""
QUEUED_A_JOB = 16
"""Most ungraded rows in the pool for each grading process."""
FLUSH_S = 0.5


class RowError(ValueError):
    """Why a row cannot be graded."""


@dataclass(frozen=True, slots=True)
class Row:
    """One readable row of IN."""

    row_id: str | int
    item: GradeItem
    end: int
    """Offset in IN of the row's end, in bytes."""

    @property
    def of(self) -> str:
        """The fingerprint of what is graded."""
        return fingerprint(asdict(self.item))


def read_row(line: bytes) -> tuple[str | int, GradeItem]:
    """(id, what is to be graded) of one line. Raises ``RowError``, which says what is wrong with the line."""
    row = _parsed(line)
    row_id, response = _of_kind(row, "id", str, int), _of_kind(row, "response", str)
    if not any(row.get(key) is not None for key in ("answer", "tests", "entry")):
        raise RowError("expected one of 'answer', 'tests' (code) and 'entry' (reasoning_gym)")
    if row.get("answer") is not None and row.get("tests") is not None:
        raise RowError("expected one of 'answer' and 'tests' (code), not both")
    try:
        truth = ground_truth_of(row, "")
    except DataError as error:
        raise RowError(str(error).removeprefix(": ")) from None
    for key, text in (("id", str(row_id)), ("response", response), *(("answer", gold) for gold in truth.golds)):
        if (wrong := flaw(text)) is not None:
            raise RowError(f"{key!r}: {wrong[1]}")
    return row_id, GradeItem(
        ability=_unless_boxed(row, truth.ability),
        response=response,
        golds=_readable_tests(truth.golds) if truth.ability == CODE else truth.golds,
        finished=_of_kind({"finished": True} | row, "finished", bool),
        reasoning_open=_of_kind({"reasoning_open": False} | row, "reasoning_open", bool),
    )


class _Number(str):
    """A number as it is written: a gold of 0.10 stays 0.10."""


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        row = parsed(line, parse_float=_Number, long=_Number)
        if isinstance(row, dict) and ("tests" in row or "entry" in row):
            row = parsed(line)  # again, with its numbers as numbers
    except NotUtf8 as error:
        raise RowError(f"not UTF-8: {error} of the line") from None
    except ValueError as error:
        raise RowError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise RowError("expected a JSON object")
    return row


def _unless_boxed(row: dict[str, Any], ability: str) -> str:
    if _of_kind({"boxed": True} | row, "boxed", bool):
        return ability
    if ability not in (MATH, SOLUTION):
        raise RowError(f"'boxed' is false: that is for mathematics, and the ability is {ability}")
    return SOLUTION


def _of_kind(row: dict[str, Any], key: str, *kinds: type) -> Any:
    if key not in row:
        raise RowError(f"{key!r} is missing")
    value = row[key]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise RowError(f"{key!r} is {type(value).__name__}, expected {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def _readable_tests(golds: tuple[str, ...]) -> tuple[str, ...]:
    try:
        parse_tests(golds[0])
    except ValueError as error:
        raise RowError(f"'tests': {error}") from None
    return golds


def readable(source: Path, lines: IO[bytes], report: Callable[[str], None]) -> Iterator[Row]:
    """The rows of ``source`` that can be graded. ``report`` is told about each of the others."""
    end = 0
    for number, line in enumerate(lines, start=1):
        end += len(line)
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if line.strip():
            try:
                yield Row(*read_row(line), end)
            except RowError as error:
                report(f"{_origin(line) or f'{source}:{number}'}: {error}")


def _origin(line: bytes) -> str | None:
    """Where the row stands in the user's own file, if another Leeway command made this file from it."""
    try:
        row = parsed(line)
    except ValueError:
        return None
    origin = row.get("leeway:row") if isinstance(row, dict) else None
    return origin["at"] if isinstance(origin, dict) and isinstance(origin.get("at"), str) else None


def graded(rows: Iterator[Row], pool: GraderPool, jobs: int) -> Iterator[tuple[Row, Verdict]]:
    """Each row with its verdict, in order. A slow row delays what is written, not what is graded."""
    ahead: deque[tuple[Row, Future[Verdict]]] = deque()
    undone: set[Future[Verdict]] = set()
    for row in rows:
        future = pool.submit(row.item)
        ahead.append((row, future))
        if not future.done():
            undone.add(future)
        while ahead and ahead[0][1].done():
            yield ahead[0][0], ahead.popleft()[1].result()
        if len(undone) >= QUEUED_A_JOB * jobs:
            _, undone = wait(undone, return_when=FIRST_COMPLETED)
        if len(ahead) >= AHEAD:
            wait([ahead[0][1]])
    for row, future in ahead:
        yield row, future.result()


def verify(source: Path, out: Path, jobs: int, settings: Verifier, *, anew: bool = False) -> int:
    """Grade ``source`` into ``out`` and return the exit code. Verdicts there that do not fit any more are refused, or
    with ``anew`` made again."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    unreadable, kinds = 0, Counter[str]()

    def report(problem: str) -> None:
        nonlocal unreadable
        unreadable += 1
        console.print(problem, markup=False)

    if out.exists() and out.samefile(source):
        raise DataError(f"--out {out} is the file to be graded")
    try:
        with source.open("rb") as lines, out.open("a+b") as verdicts:
            hold(verdicts, f"--out {out}")
            rows = readable(source, lines, report)
            kinds, rows = pass_over(rows, verdicts, source, out, judged_by(settings), anew=anew)
            if kinds:
                console.print(f"going on after {counted(kinds.total(), 'row')} with a verdict")
            _write(rows, verdicts, kinds, jobs, settings, source.stat().st_size, console)
    except KeyboardInterrupt:
        console.print(f"stopped after {counted(kinds.total(), 'row')}; run the same command again to go on")
        return STOPPED
    except OSError as error:
        raise of_the_system(error) from error
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    console.print(
        f"{counted(kinds.total(), 'verdict')} in {out}: {counts or 'none'}; "
        f"{counted(unreadable, 'row')} could not be read"
    )
    return DataError.exit_code if unreadable else int(kinds[VerdictKind.ERROR] > 0)


def _write(
    rows: Iterator[Row],
    verdicts: IO[bytes],
    kinds: Counter[str],
    jobs: int,
    settings: Verifier,
    size: int,
    console: Console,
) -> None:
    columns = (BarColumn(), TextColumn("{task.fields[words]}"), TextColumn("left"), TimeRemainingColumn())
    before, started, flushed, by = kinds.total(), time.monotonic(), time.monotonic(), judged_by(settings)
    # The bar counts bytes, because nobody knows the number of rows before the end.
    with (
        GraderPool(jobs, timeout_s=settings.timeout_s, settings=settings) as pool,
        Progress(*columns, console=console) as progress,
    ):
        bar = progress.add_task("", total=size, words="")
        try:
            for row, verdict in graded(rows, pool, jobs):
                kinds[verdict.kind] += 1
                verdicts.write(_line(row, verdict, by))
                now = time.monotonic()
                if now - flushed >= FLUSH_S:
                    verdicts.flush()
                    flushed = now
                    rate = (kinds.total() - before) / (now - started)
                    progress.update(bar, completed=row.end, words=f"{counted(kinds.total(), 'row')}, {rate:,.0f}/s")
            progress.update(bar, completed=size, words=counted(kinds.total(), "row"))
        finally:
            verdicts.flush()


def _line(row: Row, verdict: Verdict, by: str) -> bytes:
    fields = {
        "id": row.row_id,
        "verdict": verdict.kind.value,
        "reason": verdict.reason,
        "seconds": round(verdict.seconds, 6),
        "peak_bytes": verdict.peak_bytes,
        "of": row.of,
        "by": by,
    }
    return json.dumps(fields).encode() + b"\n"


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="leeway verify", description=__doc__.split("\n")[0])
    parser.add_argument("source", type=path_of, metavar="IN.jsonl")
    parser.add_argument("--out", type=path_of, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--timeout-s", type=float, default=10.0)
    parser.add_argument("--math", choices=("rules", "report"), default="rules")
    parser.add_argument("--settings", type=json.loads, default={}, help="keys of the section verifier, as JSON")
    parser.add_argument("--anew", action="store_true", help="grade changed rows and all after them anew")
    arguments = parser.parse_args()

    def work() -> int:
        if not arguments.timeout_s > 0 or arguments.jobs < 1:
            raise ConfigError(f"--timeout-s {arguments.timeout_s}, --jobs {arguments.jobs}: both must be above 0")
        said = {"timeout_s": arguments.timeout_s, "math": arguments.math}
        settings = Verifier(**(said | arguments.settings))
        return verify(arguments.source, arguments.out, arguments.jobs, settings, anew=arguments.anew)

    return told("leeway verify", work)


if __name__ == "__main__":
    sys.exit(stoppable(main))
