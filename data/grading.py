"""Grades with the verifier's command as an operator would: ``leeway verify``, in a process of its own, through files.

The data wing imports nothing of the verifier. Requests are written in order. The command goes on where it was stopped,
and names a row that it cannot read by its line.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..common.children import leaving_with_parent
from ..common.errors import DataError
from ..common.files import whole_file

UNREADABLE = "unreadable"
"""The verdict on a request that the verifier refuses to read."""

_PLACE = re.compile(r":([0-9]{1,18}): (.*)")
"""What follows the file's name in a message that refuses one of its rows: line and reason."""


def graded(
    requests: Iterable[dict[str, Any]], folder: Path, *, jobs: int, timeout_s: float
) -> Iterator[tuple[str, str]]:
    """(verdict, reason) of each request, in order. ``folder`` keeps both files until the data step is done.

    A request is a row of ``leeway verify`` without its id. Raises ``DataError`` where the command fails as a whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked, answered = folder / "requests.jsonl", folder / "verdicts.jsonl"
    with whole_file(asked) as temporary, temporary.open("w") as lines:
        for number, request in enumerate(requests, start=1):
            lines.write(json.dumps({"id": number, **request}) + "\n")
    for _, verdict, reason in verdicts_on(asked, answered, jobs=jobs, timeout_s=timeout_s):
        yield verdict, reason


def verdicts_on(
    asked: Path, answered: Path, *, jobs: int, timeout_s: float
) -> Iterator[tuple[dict[str, Any], str, str]]:
    """(row, verdict, reason) of each row of ``leeway verify`` in the file ``asked``, in order.

    Verdicts go to the file ``answered``. Both files may grow: a row that has its verdict is not graded again.
    """
    if not asked.stat().st_size:
        return
    refused = _verify(asked, answered, jobs, timeout_s)
    with asked.open() as rows, answered.open() as lines:
        verdicts = map(json.loads, lines)
        verdict = next(verdicts, None)
        for number, line in enumerate(rows, start=1):
            row = json.loads(line)
            if number in refused:
                yield row, UNREADABLE, refused[number]
                continue
            if verdict is None or verdict["id"] != row["id"]:
                found = "none" if verdict is None else f"one on {verdict['id']!r}"
                raise DataError(f"{answered}: expected a verdict on {row['id']!r}, found {found}; delete it, try again")
            yield row, verdict["verdict"], verdict["reason"]
            verdict = next(verdicts, None)


def _verify(asked: Path, answered: Path, jobs: int, timeout_s: float) -> dict[int, str]:
    """Run the command. Returns why it could not read a row, by line."""
    command = [sys.executable, "-m", "leeway_rl.verifier.offline", str(asked), "--out", str(answered)]
    command += [
        "--jobs",
        str(jobs),
        "--timeout-s",
        str(timeout_s),
        "--anew",
    ]  # verdicts of another verifier do not count
    wide = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(leaving_with_parent(command), stderr=subprocess.PIPE, text=True, check=False, env=wide)
    places = [line.removeprefix(f"{asked}") for line in done.stderr.splitlines() if line.startswith(f"{asked}:")]
    refused = {int(place[1]): place[2] for place in map(_PLACE.fullmatch, places) if place is not None}
    # 1: some verdicts are errors. DataError's code: some rows were unreadable, or nothing could be graded at all.
    if done.returncode not in (0, 1) and not (done.returncode == DataError.exit_code and refused):
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise DataError(f"leeway verify {asked}: {said[-1]}; run the same command again to go on after what is graded")
    return refused
