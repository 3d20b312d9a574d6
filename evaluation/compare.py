"""``leeway eval compare A B``: how B differs from A, problem by problem.

Most problems are hard for both models or easy for both, so the difference on each problem varies far less than the two
means do. The interval of the difference is a bootstrap over problems.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ..common import tables
from ..common.errors import DataError, told
from ..common.files import path_of
from ..common.stopping import stoppable
from ..common.wording import counted
from .estimators import Estimate, bootstrap
from .folder import read_json
from .pairs import paired

NAMED = 3  # how many of the problems that are left out are named
SAME = ("temperature", "top_p", "max_tokens", "max_prompt_tokens", "system", "examples", "suffix", "verifier")
"""What both sides should have been asked with alike; the output names a difference."""


def compare(first: dict[str, Any], second: dict[str, Any], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """For each benchmark that both results (``eval.json``) have: how many problems have graded responses on both sides
    (``pairs.py``), avg@n of each side on those, B - A with its interval, and on how many problems B is better and
    worse. A problem that is in a file several times counts as one, with all its responses. Problems that are on one
    side only, or are judged by different golds, are named and left out."""
    found = {}
    for benchmark in first["benchmarks"].keys() & second["benchmarks"].keys():
        a, b = (side["benchmarks"][benchmark]["by_problem"] for side in (first, second))
        pairs = paired(a, b)
        shares = [(_share(a, ours), _share(b, theirs)) for ours, theirs in pairs.common]
        both = [(x, y) for x, y in shares if x is not None and y is not None]
        found[benchmark] = {
            "problems": len(both),
            "repeated": [ids for sides in pairs.common for ids in sides if len(ids) > 1],
            "only_in_a": pairs.only_a,
            "only_in_b": pairs.only_b,
            "other_golds": [list(ids) for ids in pairs.golds],
            "renamed": pairs.renamed,
            "ungraded": len(shares) - len(both),
        }
        if both:
            a_P, b_P = np.array(both).T
            found[benchmark] |= {
                "a": float(a_P.mean()),
                "b": float(b_P.mean()),
                "difference": asdict(bootstrap(b_P - a_P, seed=seed)),
                "better": int((b_P > a_P).sum()),
                "worse": int((b_P < a_P).sum()),
            }
    return dict(sorted(found.items()))


def _share(by_problem: dict[str, Any], ids: list[str]) -> float | None:
    """The share of a problem's graded responses, under all its ids, that are correct. None where none is graded."""
    graded = sum(by_problem[own]["graded"] for own in ids)
    return sum(by_problem[own]["correct"] for own in ids) / graded if graded else None


def read_result(folder: Path) -> dict[str, Any]:
    """A folder's ``eval.json``. ``DataError`` where there is none, or it does not say which problems it scores."""
    if not (folder / "eval.json").exists():
        raise DataError(f"{folder} has no eval.json: it is no folder of leeway eval, or its evaluation has not ended")
    result: dict[str, Any] = read_json(folder / "eval.json")
    tallies = [tally for each in result["benchmarks"].values() for tally in each["by_problem"].values()]
    if not all("text" in tally and "gold" in tally for tally in tallies):
        raise DataError(
            f"{folder / 'eval.json'} does not say which problems it is about: an older Leeway wrote it; "
            f"leeway eval regrade {folder} writes it anew"
        )
    return result


def left_out(benchmark: str, each: dict[str, Any]) -> Iterator[str]:
    """A line for each kind of problem that is not compared, or whose id means another problem on the other side."""
    for side in "ab":
        if ids := each[f"only_in_{side}"]:
            yield f"{benchmark}: {counted(len(ids), 'problem')} in {side.upper()} alone, left out: {_some(ids)}"
    if pairs := each["other_golds"]:
        ids = [a if a == b else f"{a} (in B {b})" for a, b in pairs]
        yield (
            f"{benchmark}: {counted(len(pairs), 'problem')} with the same question and different golds, "
            f"left out: {_some(ids)}; leeway eval regrade takes the golds that the file has now"
        )
    if ids := each["renamed"]:
        yield (
            f"{benchmark}: {counted(len(ids), 'id')} of one problem in A and of another in B: {_some(ids)}; paired by "
            "their text"
        )
    if groups := each["repeated"]:
        yield (
            f"{benchmark}: {counted(len(groups), 'problem')} there several times, counted once with all responses: "
            f"{_some([' = '.join(ids) for ids in groups])}"
        )
    if each["ungraded"]:
        yield f"{benchmark}: {counted(each['ungraded'], 'problem')} without a graded response on one side, left out"


def asked_otherwise(first: dict[str, Any], second: dict[str, Any]) -> Iterator[str]:
    """A line for each thing with which the two sides were asked or graded differently."""
    a, b = first["asked"], second["asked"]
    for key in SAME:
        if a.get(key) != b.get(key):
            yield f"A was asked with {key} = {a.get(key)!r}, B with {b.get(key)!r}"
    if (ours := first.get("judges")) != (theirs := second.get("judges")):
        yield (
            f"A was graded by {'; '.join(ours or ['?'])}, B by {'; '.join(theirs or ['?'])}: leeway eval regrade "
            "grades both by the one that is here"
        )


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:NAMED]) + (", …" if len(ids) > NAMED else "")


def table(found: dict[str, dict[str, Any]]) -> Table:
    """The comparison as text for a terminal."""
    columns = ("benchmark", "problems", "A avg@n", "B avg@n", "B - A [95 %]", "shown", "better", "worse")
    shown = tables.table(columns, right={1, 2, 3, 6, 7})
    for benchmark, each in found.items():
        if "difference" not in each:
            continue
        difference = Estimate(**each["difference"])
        sign = "better" if difference.low > 0 else "worse" if difference.high < 0 else "nothing"
        interval = f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
        cells = [benchmark, each["problems"], f"{each['a']:.3f}", f"{each['b']:.3f}", interval, sign]
        shown.add_row(*map(str, [*cells, each["better"], each["worse"]]))
    return shown


def _compare(first: Path, second: Path, *, as_json: bool) -> None:
    """``compare`` of two folders, with its text for a reader. ``DataError`` where they have nothing in common."""
    sides = [read_result(folder) for folder in (first, second)]
    found = compare(*sides)
    lines = [line for benchmark, each in found.items() for line in left_out(benchmark, each)]
    if not any(each["problems"] for each in found.values()):
        have = [
            f"{folder}: {', '.join(side['benchmarks'])}" for folder, side in zip((first, second), sides, strict=True)
        ]
        why = "\n".join(lines) or f"no benchmark has the same name ({'; '.join(have)}); NAME=FILE gives a file a name"
        raise DataError(f"{first} and {second} have no problem in common, so there is nothing to compare\n{why}")
    if as_json:
        print(json.dumps(found, indent=2))
        return
    tables.show(table(found))
    for line in (*lines, *asked_otherwise(*sides)):
        print(line)


def main() -> int:
    """Parse the arguments and compare."""
    parser = argparse.ArgumentParser(prog="leeway eval compare", description=__doc__.split("\n")[0])
    parser.add_argument("first", type=path_of, metavar="A")
    parser.add_argument("second", type=path_of, metavar="B")
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args()
    return told("leeway eval compare", lambda: _compare(arguments.first, arguments.second, as_json=arguments.json))


if __name__ == "__main__":
    sys.exit(stoppable(main))
