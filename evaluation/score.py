"""The last part of ``leeway eval``: it scores graded responses and writes ``eval.json``.

The name of a benchmark is the part of a problem's id before the first ``/``. A response that the verifier failed on
(``error``) is neither right nor wrong: it is counted as ungraded and left out of every share.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import DataError, told
from ..common.files import path_of
from ..common.pass_at_k import pass_at_k, powers_of_two
from ..common.stopping import stoppable
from .estimators import avg_at_n, bootstrap
from .folder import read_json, write_json
from .record import Record, with_identities
from .responses import ResponseStore

USED = ["id", "verdict", "finished", "tokens", "version", "reward"]
"""The columns of a response that scoring reads."""
BINS = 30  # the most bins of the histogram of lengths; a bin is a whole number of tokens wide


@dataclass(slots=True)
class Tally:
    """Counts over one problem's responses."""

    graded: int = 0
    """How many responses are graded: n of avg@n."""
    correct: int = 0
    """How many are solved: their reward is at least ``verifier.solved_at``."""
    tokens: int = 0
    """Tokens of all graded responses together."""
    truncated: int = 0
    no_answer: int = 0
    ungraded: int = 0

    def add(self, row: dict[str, Any], solved_at: float) -> None:
        """Count one response."""
        if row["verdict"] == "error":
            self.ungraded += 1
            return
        self.graded += 1
        self.correct += is_solved(row, solved_at)
        self.tokens += row["tokens"]
        self.truncated += not row["finished"]
        self.no_answer += row["verdict"] == "no_answer"


def is_solved(row: dict[str, Any], solved_at: float) -> bool:
    """Whether a graded response counts as right."""
    if row.get("reward") is None:
        return bool(row["verdict"] == "correct")
    return bool(row["reward"] >= solved_at)


def score(rows: Iterable[dict[str, Any]], *, seed: int, solved_at: float = 1.0) -> dict[str, dict[str, Any]]:
    """The results of each benchmark, by its name. ``seed`` seeds the bootstrap."""
    tallies: dict[str, dict[str, Tally]] = {}
    lengths: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        benchmark, _, own = row["id"].partition("/")
        tallies.setdefault(benchmark, {}).setdefault(own, Tally()).add(row, solved_at)
        right = row["verdict"] != "error" and is_solved(row, solved_at)
        kind = "truncated" if not row["finished"] else "correct" if right else "not correct"
        lengths.setdefault(benchmark, []).append((row["tokens"], kind))
    return {
        benchmark: _scored(found, seed) | {"lengths": _histogram(lengths[benchmark])}
        for benchmark, found in tallies.items()
    }


def _scored(tallies: dict[str, Tally], seed: int) -> dict[str, Any]:
    judged = {own: tally for own, tally in sorted(tallies.items()) if tally.graded}
    total = {name: sum(getattr(tally, name) for tally in tallies.values()) for name in Tally.__dataclass_fields__}
    found: dict[str, Any] = {"problems": len(judged), "responses": total["graded"], "ungraded": total["ungraded"]}
    if judged:
        n, c = [tally.graded for tally in judged.values()], [tally.correct for tally in judged.values()]
        found |= {
            "n": max(n),
            "avg_at_n": asdict(bootstrap(avg_at_n(n, c), seed=seed)),
            "pass_at_k": {str(k): asdict(bootstrap(pass_at_k(n, c, k), seed=seed)) for k in powers_of_two(min(n))},
            "tokens_mean": total["tokens"] / total["graded"],
            "truncated_share": total["truncated"] / total["graded"],
            "no_answer_share": total["no_answer"] / total["graded"],
        }
    return found | {"by_problem": {own: asdict(tally) for own, tally in sorted(tallies.items())}}


def _histogram(lengths: list[tuple[int, str]]) -> dict[str, Any]:
    """Responses by length and by how they ended: ``edges`` in tokens, and for each kind one count per bin."""
    longest = max(tokens for tokens, _ in lengths)
    edges = np.arange(0, longest + 1 + (width := longest // BINS + 1), width)
    kinds = ("correct", "not correct", "truncated")
    counts = {kind: np.histogram([n for n, each in lengths if each == kind], edges)[0].tolist() for kind in kinds}
    return {"edges": edges.tolist(), **counts}


def score_folder(folder: Path, store: ResponseStore, about: dict[str, Any], record: Record) -> dict[str, Any]:
    """Score what is in ``store``, write ``folder/eval.json`` and return it. ``about`` goes in as it is, and so do the
    fingerprints that ``record`` has of each problem. ``DataError`` where there are no responses."""
    versions: set[int] = set()

    def rows() -> Iterable[dict[str, Any]]:
        for row in store.rows(USED):
            versions.add(row["version"])
            yield row

    solved_at = about["asked"].get("verifier", {}).get("solved_at", 1.0)
    benchmarks = score(rows(), seed=about["asked"]["seed"], solved_at=solved_at)
    if not benchmarks:
        raise DataError(f"{folder} has no responses; leeway eval samples them")
    with_identities(benchmarks, record)
    result = about | {"judges": record.judges, "version": max(versions), "benchmarks": benchmarks}
    write_json(folder / "eval.json", result)
    return result


def about_of(folder: Path) -> dict[str, Any]:
    """What was asked in an evaluation's folder, and which benchmarks were missing."""
    notes = read_json(folder / "benchmarks.json")
    return {
        "asked": read_json(folder / "sample.json"),
        "missing": {name: note["missing"] for name, note in notes["sets"].items() if note["missing"]},
    }


def main() -> int:
    """Parse the arguments and score."""
    parser = argparse.ArgumentParser(prog="leeway eval", description=__doc__)
    parser.add_argument("--out", type=path_of, required=True)
    folder = parser.parse_args().out

    def score() -> None:
        score_folder(folder, ResponseStore(folder), about_of(folder), Record.read(folder))

    return told("leeway eval", score)


if __name__ == "__main__":
    sys.exit(stoppable(main))
