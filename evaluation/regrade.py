"""``leeway eval regrade``: grade kept responses anew, with ``leeway verify`` in a process of its own. These are the
responses whose gold has changed, or all of them where the verifier or its configuration has changed."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..common.batches import batched
from ..common.children import leaving_with_parent
from ..common.config import Verifier
from ..common.errors import DataError, told
from ..common.files import path_of
from ..common.fingerprint import judged_by
from ..common.stopping import stoppable
from ..common.wording import counted
from .folder import read_json
from .golds import Gold, Source, matched
from .problems import ORIGIN
from .record import Record
from .responses import COLUMNS, ResponseStore

BATCH = 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a regrading did."""

    graded: int
    """Responses that were graded anew."""
    kept: int
    """Responses whose verdicts still hold."""
    changed: int
    """Verdicts that are different now."""


def regrade(folder: Path, jobs: int, settings: dict[str, Any], *, everything: bool = False) -> Outcome:
    """Replace old verdicts by verdicts against today's golds. ``settings``: keys of ``verifier`` that override those
    which the responses were graded with. A command that was stopped goes on after what it has graded; the old verdicts
    stay until all new ones are there. ``DataError`` where a problem is gone or asks something else now."""
    store, record = ResponseStore(folder), Record.read(folder)
    if not store.files():
        raise DataError(f"{folder} has no responses")
    noted = read_json(folder / "sample.json") if (folder / "sample.json").exists() else {}
    verifier = Verifier(**{**noted.get("verifier", {}), **settings})
    by = judged_by(verifier)
    source = Source.of(folder, noted)
    golds = matched(source, record, store.counts())
    every = everything or record.judges != [by]
    due = {own for own, gold in golds.items() if every or record.problems.get(own) != gold.identity}
    outcome = _graded(folder, store, golds, due, verifier, jobs)
    record.judges, record.problems = [by], {own: gold.identity for own, gold in golds.items()}
    record.write(folder)
    source.settle(golds)
    return outcome


def _graded(
    folder: Path, store: ResponseStore, golds: dict[str, Gold], due: set[str], verifier: Verifier, jobs: int
) -> Outcome:
    asked, graded = folder / "regrade.jsonl", folder / "regraded.jsonl"
    total = number = changed = 0
    with asked.open("w", encoding="utf-8") as lines:
        for total, row in enumerate(store.rows(), start=1):
            if _is_due(row, due):
                number += 1
                lines.write(json.dumps(_request(total - 1, row, golds[row["id"]])) + "\n")
    if number:
        _verify(asked, graded, jobs, verifier)

        def rows() -> Iterator[dict[str, Any]]:
            nonlocal changed
            with graded.open(encoding="utf-8") as verdicts:
                for row in store.rows():
                    if _is_due(row, due):
                        verdict = json.loads(next(verdicts))
                        changed += verdict["verdict"] != row["verdict"]
                        row |= {"verdict": verdict["verdict"], "reason": verdict["reason"], "reward": None}
                    yield row

        store.replace(pa.RecordBatch.from_pylist(batch, COLUMNS) for batch in batched(rows(), BATCH))
    asked.unlink()
    graded.unlink(missing_ok=True)
    return Outcome(graded=number, kept=total - number, changed=changed)


def _is_due(row: dict[str, Any], due: set[str]) -> bool:
    return row["id"] in due or row["verdict"] == "error"  # an error is not a verdict on the response


def _request(number: int, row: dict[str, Any], gold: Gold) -> dict[str, Any]:
    kept = {key: row[key] for key in ("response", "finished", "reasoning_open")}
    return {"id": number, **kept, **gold.truth, ORIGIN: {"at": gold.where}}


def _verify(asked: Path, graded: Path, jobs: int, verifier: Verifier) -> None:
    settings = json.dumps(verifier.model_dump(mode="json", exclude_defaults=True))
    command = [sys.executable, "-m", "leeway_rl.verifier.offline", str(asked), "--out", str(graded), "--anew"]
    command += ["--jobs", str(jobs), "--settings", settings]
    done = subprocess.run(leaving_with_parent(command), check=False)
    if done.returncode not in (0, 1):  # code 1: some verdicts are errors, which are kept as such
        raise DataError(f"leeway verify {asked} ended with code {done.returncode}, see above; the same command goes on")


def main() -> int:
    """Parse the arguments and grade."""
    parser = argparse.ArgumentParser(prog="leeway eval regrade", description=__doc__)
    parser.add_argument("--out", type=path_of, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--settings", type=json.loads, default={}, help="keys of the section verifier, as JSON")
    parser.add_argument("--anew", action="store_true", help="grade every response")
    arguments = parser.parse_args()

    def work() -> None:
        outcome = regrade(arguments.out, arguments.jobs, arguments.settings, everything=arguments.anew)
        print(
            f"{counted(outcome.graded, 'response')} graded anew, {counted(outcome.kept, 'verdict')} kept; "
            f"{counted(outcome.changed, 'verdict')} changed in {arguments.out}"
        )

    return told("leeway eval", work)


if __name__ == "__main__":
    sys.exit(stoppable(main))
