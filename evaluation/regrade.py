"""``leeway eval --regrade``: the kept responses of a folder, graded anew by ``leeway verify``, in its own process."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..common.children import leaving_with_parent
from ..common.errors import DataError, LeewayError
from ..common.files import path_of
from ..common.prompts import row_of
from ..common.rows import Columns, file_rows
from ..common.stopping import stoppable
from .folder import read_json
from .responses import COLUMNS, ResponseStore

BATCH = 1024


def regrade(folder: Path, jobs: int, timeout_s: float) -> int:
    """Put today's verdicts in the place of the old ones; returns how many changed. Stopped, it goes on behind what is
    graded; the old verdicts stay until all new ones are there."""
    store = ResponseStore(folder)
    if not store.files():
        raise DataError(f"{folder}: no responses there")
    prepared = folder / "problems.jsonl"
    truths = _truths(prepared, {}) if prepared.exists() else _truths(*_asked_file(folder))
    asked, graded = folder / "regrade.jsonl", folder / "regraded.jsonl"
    with asked.open("w", encoding="utf-8") as lines:
        for number, row in enumerate(store.rows()):
            lines.write(json.dumps(_request(number, row, truths)) + "\n")
    _verify(asked, graded, jobs, timeout_s)
    changed = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal changed
        batch: list[dict[str, Any]] = []
        with graded.open(encoding="utf-8") as verdicts:
            for row, line in zip(store.rows(), verdicts, strict=True):
                verdict = json.loads(line)
                changed += verdict["verdict"] != row["verdict"]
                batch.append(row | {"verdict": verdict["verdict"], "reason": verdict["reason"]})
                if len(batch) == BATCH:
                    yield pa.RecordBatch.from_pylist(batch, COLUMNS)
                    batch = []
        if batch:
            yield pa.RecordBatch.from_pylist(batch, COLUMNS)

    store.replace(batches())
    asked.unlink()
    graded.unlink()
    return changed


def _asked_file(folder: Path) -> tuple[Path, dict[str, str]]:
    noted = read_json(folder / "sample.json")
    return Path(noted["problems"]), noted.get("columns", {})


def _truths(path: Path, columns: Columns) -> dict[str, dict[str, Any]]:
    """The ability and what it judges by, of each problem, as the verifier takes them."""
    truths: dict[str, dict[str, Any]] = {}
    for number, values in file_rows(path, columns):
        try:
            row = row_of(values, f"{path.name}:{number}", f"{path}:{number}")
        except DataError:
            continue  # it was named when it was not sampled
        truth: Any = {"ability": row.ability}
        match row.ability:
            case "code":
                truth |= {"tests": json.loads(row.ground_truth[0])}
            case "reasoning_gym":
                truth |= json.loads(row.ground_truth[0])
            case _:
                truth |= {"answer": list(row.ground_truth)}
        truths.setdefault(str(values["id"]) if values.get("id") is not None else row.prompt_id, truth)
    return truths


def _request(number: int, row: dict[str, Any], truths: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if row["id"] not in truths:
        raise DataError(f"problem {row['id']!r} has responses and stands in the problems no more")
    kept = {key: row[key] for key in ("response", "finished", "reasoning_open")}
    return {"id": number, **kept, **truths[row["id"]]}


def _verify(asked: Path, graded: Path, jobs: int, timeout_s: float) -> None:
    command = [sys.executable, "-m", "leeway_rl.verifier.offline", str(asked), "--out", str(graded)]
    command += ["--jobs", str(jobs), "--timeout-s", str(timeout_s)]
    done = subprocess.run(leaving_with_parent(command), check=False)
    if done.returncode not in (0, 1):  # 1: some verdicts are errors, and stand as such
        raise DataError(f"leeway verify {asked} ended with code {done.returncode}, see above; the same command goes on")


def main() -> int:
    """Parse the arguments and grade."""
    parser = argparse.ArgumentParser(prog="leeway eval --regrade", description=__doc__)
    parser.add_argument("--out", type=path_of, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--timeout-s", type=float, default=10.0)
    arguments = parser.parse_args()
    try:
        changed = regrade(arguments.out, arguments.jobs, arguments.timeout_s)
    except LeewayError as error:
        print(f"leeway eval: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{changed} verdicts changed in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(stoppable(main))
