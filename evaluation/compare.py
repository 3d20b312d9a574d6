"""``leeway eval compare A B``: what B does otherwise than A, problem by problem.

Problems are hard or easy for both models: the difference on each is far steadier than the two means are. Its interval
is a bootstrap over problems.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ..common.errors import DataError, LeewayError
from ..common.files import path_of
from ..common.stopping import stoppable
from .estimators import Estimate, bootstrap
from .folder import read_json

WIDE = 112  # columns of the table, whatever the terminal


def compare(first: dict[str, Any], second: dict[str, Any], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """For each benchmark of both results (``eval.json``): the problems that both have graded responses to, avg@n of
    each side on those, B - A with its interval, and on how many problems B is better and worse."""
    found = {}
    for benchmark in first["benchmarks"].keys() & second["benchmarks"].keys():
        a, b = (_shares(side["benchmarks"][benchmark]) for side in (first, second))
        both = sorted(a.keys() & b.keys())
        if not both:
            continue
        a_P, b_P = np.array([a[own] for own in both]), np.array([b[own] for own in both])
        found[benchmark] = {
            "problems": len(both),
            "only_in_one": len(a.keys() ^ b.keys()),
            "a": float(a_P.mean()),
            "b": float(b_P.mean()),
            "difference": asdict(bootstrap(b_P - a_P, seed=seed)),
            "better": int((b_P > a_P).sum()),
            "worse": int((b_P < a_P).sum()),
        }
    return dict(sorted(found.items()))


def _shares(benchmark: dict[str, Any]) -> dict[str, float]:
    tallies = benchmark["by_problem"].items()
    return {own: tally["correct"] / tally["graded"] for own, tally in tallies if tally["graded"]}


def table(found: dict[str, dict[str, Any]]) -> Table:
    """For a screen."""
    columns = ("benchmark", "problems", "A avg@n", "B avg@n", "B - A [95 %]", "shown", "better", "worse")
    shown = Table(*columns)
    for benchmark, each in found.items():
        difference = Estimate(**each["difference"])
        sign = "better" if difference.low > 0 else "worse" if difference.high < 0 else "nothing"
        interval = f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
        cells = [benchmark, each["problems"], f"{each['a']:.3f}", f"{each['b']:.3f}", interval, sign]
        shown.add_row(*map(str, [*cells, each["better"], each["worse"]]))
    return shown


def main() -> int:
    """Parse the arguments and compare."""
    parser = argparse.ArgumentParser(prog="leeway eval compare", description=__doc__.split("\n")[0])
    parser.add_argument("first", type=path_of, metavar="A")
    parser.add_argument("second", type=path_of, metavar="B")
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args()
    try:
        sides = [read_json(folder / "eval.json") for folder in (arguments.first, arguments.second)]
        found = compare(*sides)
        if not found:
            raise DataError(f"{arguments.first} and {arguments.second} have no problem in common")
    except LeewayError as error:
        print(f"leeway eval compare: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    Console(width=max(Console().width, WIDE)).print(table(found))
    for benchmark, each in found.items():
        if each["only_in_one"]:
            print(f"{benchmark}: {each['only_in_one']} problems are graded on one side alone, and left out")
    for side, result in zip("AB", sides, strict=True):
        if result["asked"]["max_tokens"] != sides[0]["asked"]["max_tokens"]:
            print(f"{side} was given {result['asked']['max_tokens']} tokens, A {sides[0]['asked']['max_tokens']}")
    return 0


if __name__ == "__main__":
    sys.exit(stoppable(main))
