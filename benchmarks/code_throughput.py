"""Problems a second against LiveCodeBench's public harness: same problems, same tests, same workers, same machine.

    git clone https://github.com/LiveCodeBench/LiveCodeBench
    python benchmarks/code_throughput.py LiveCodeBench --workers 1

Nothing of that checkout is copied here. Theirs is ``evaluate_generations`` with ``num_process_evaluate`` workers, ours
the grader pool with as many seats, isolation on. The two take turns; each round's ratio is printed. The problems are
small contest tasks with correct solutions: a solution's own time is the same on both sides and tells nothing.
"""

import contextlib
import json
import os
import random
import statistics
import sys
from pathlib import Path
from typing import Any

from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of, timed
from leeway_rl.common.config import Verifier
from leeway_rl.verifier.pool import GradeItem, GraderPool

Problem = tuple[str, str, dict[str, Any]]


def problems(tests: int) -> list[Problem]:
    """(name, solution, ground truth), ``tests`` tests each."""
    rng = random.Random(7)
    return [_program(*task, rng, tests) for task in PROGRAMS] + [_function(*task, rng, tests) for task in FUNCTIONS]


PROGRAMS = [
    ("sum", "n = int(input())\nprint(sum(map(int, input().split())))", sum),
    ("largest", "input()\nprint(max(map(int, input().split())))", max),
    (
        "distinct",
        "def main():\n    n = int(input())\n    a = list(map(int, input().split()))\n    print(len(set(a)))\nmain()",
        lambda a: len(set(a)),
    ),
    (
        "best run",
        "input()\nbest = here = -10**9\nfor x in map(int, input().split()):\n    here = max(x, here + x)\n"
        "    best = max(best, here)\nprint(best)",
        lambda a: max(sum(a[i:j]) for i in range(len(a)) for j in range(i + 1, len(a) + 1)),
    ),
    ("sorted", "input()\nprint(*sorted(map(int, input().split())))", lambda a: " ".join(map(str, sorted(a)))),
]
FUNCTIONS = [
    (
        "reverse",
        "class Solution:\n    def reverse(self, a: List[int]) -> List[int]:\n        return a[::-1]",
        lambda a: a[::-1],
    ),
    (
        "prefixes",
        "class Solution:\n    def prefixes(self, a: List[int]) -> List[int]:\n        return list(accumulate(a))",
        lambda a: [sum(a[: i + 1]) for i in range(len(a))],
    ),
    (
        "inversions",
        "class Solution:\n    def inversions(self, a: List[int]) -> int:\n"
        "        return sum(a[i] > a[j] for j in range(len(a)) for i in range(j))",
        lambda a: sum(a[i] > a[j] for j in range(len(a)) for i in range(j)),
    ),
    (
        "mode",
        "class Solution:\n    def mode(self, a: List[int]) -> int:\n        c = Counter(a)\n"
        "        return min(a, key=lambda x: (-c[x], x))",
        lambda a: min(a, key=lambda x: (-a.count(x), x)),
    ),
    (
        "pairs",
        "class Solution:\n    def pairs(self, a: List[int]) -> int:\n        seen, found = Counter(), 0\n"
        "        for x in a:\n"
        "            found += seen[-x]\n            seen[x] += 1\n        return found",
        lambda a: sum(a[i] == -a[j] for j in range(len(a)) for i in range(j)),
    ),
]


def _values(rng: random.Random) -> list[int]:
    return [rng.randint(-20, 20) for _ in range(rng.randint(2, 30))]


def _program(name: str, source: str, reference: Any, rng: random.Random, tests: int) -> Problem:
    cases = [_values(rng) for _ in range(tests)]
    inputs = [f"{len(a)}\n{' '.join(map(str, a))}\n" for a in cases]
    return name, source, {"inputs": inputs, "outputs": [f"{reference(a)}\n" for a in cases]}


def _function(name: str, source: str, reference: Any, rng: random.Random, tests: int) -> Problem:
    cases = [_values(rng) for _ in range(tests)]
    outputs = [json.dumps(reference(a)) for a in cases]
    return name, source, {"fn_name": name, "inputs": [json.dumps(a) for a in cases], "outputs": outputs}


def _theirs(checkout: Path, work: list[Problem], workers: int) -> float:
    sys.path.insert(0, str(checkout))
    from lcb_runner.evaluation.compute_code_generation_metrics import evaluate_generations

    samples = [{"input_output": json.dumps({"fn_name": None} | tests)} for _, _, tests in work]
    sources = [[source] for _, source, _ in work]
    with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
        seconds, (results, _) = timed(lambda: evaluate_generations(samples, sources, num_process_evaluate=workers))
    failed = [work[n][0] for n, (result,) in results.items() if not all(flag is True for flag in result)]
    assert not failed, f"their harness fails {failed}"
    return seconds


def _ours(pool: GraderPool, work: list[Problem]) -> float:
    items = [
        GradeItem(ability="code", response=f"```python\n{source}\n```", golds=(json.dumps(tests),), finished=True)
        for _, source, tests in work
    ]
    seconds, verdicts = timed(pool.grade, items)
    failed = [(name, verdict) for (name, _, _), verdict in zip(work, verdicts, strict=True) if verdict.reward != 1]
    assert not failed, f"ours fails {failed}"
    return seconds


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tests", type=int, nargs="+", default=[1, 10, 30])
    parser.add_argument("--repeat", type=int, default=4, help="times the ten problems are graded a round")
    given = parser.parse_args()
    print(load_of_this_machine())
    with GraderPool(given.workers, settings=Verifier(jobs=given.workers)) as pool:
        _ours(pool, problems(1) * given.workers)
        table = Table("tests a problem:d", "theirs, ms a problem:.1f", "ours, ms a problem:.1f", "ratio of each round")
        for tests in given.tests:
            work = problems(tests) * given.repeat
            ways = {
                "theirs": lambda _, work=work: _theirs(given.checkout, work, given.workers),
                "ours": lambda _, work=work: _ours(pool, work),
            }
            rounds = list(in_turns(given.rounds, ways))
            theirs, ours = (statistics.median(each[way] for each in rounds) / len(work) * 1e3 for way in ways)
            table.line(tests, theirs, ours, " ".join(f"{each['theirs'] / each['ours']:.2f}" for each in rounds))
        # The slope is what one more test costs, without the start of the first one.
        few, many = (statistics.median(_ours(pool, problems(n) * given.repeat) for _ in range(5)) for n in (1, 31))
        print(f"one more test costs {(many - few) / (30 * 10 * given.repeat) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
