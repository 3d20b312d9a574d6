"""Whether mathematics is graded as fast as in another checkout: pairs of rounds, in turns, on one core.

::

    python benchmarks/paired_grading.py OTHER [--rounds 15] [--seed 0] [--items 400]

OTHER is the folder of another checkout. Each round grades the same items (those of ``math_verifier.py``) with this
checkout's ``GraderPool(1)`` and with the other's, each in a process of its own, and counts items a second of the
processor, of both processes together. Must hold: the 95 % interval of the mean ratio, over the pairs, holds 1.0.
"""

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from leeway_rl.benchmarks.math_verifier import mix
from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of

PROGRAM = r"""
import json, os, resource, sys
from leeway_rl.verifier.pool import GradeItem, GraderPool
pairs = json.load(sys.stdin)
items = [GradeItem(ability="math", response=rf"$\boxed{{{a}}}$.", golds=(g,), finished=True) for g, a in pairs]
def used():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
def of(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
with GraderPool(1) as pool:
    pool.grade(items[:20] + [GradeItem(ability="math", response=r"\boxed{\sqrt[3]{8}}", golds=("2",), finished=True)])
    before = used() + sum(map(of, pool.pids()))
    for _ in range(20):
        pool.grade(items)
    print(20 * len(items) / (used() + sum(map(of, pool.pids())) - before))
"""
T_95 = {2: 4.303, 4: 2.776, 9: 2.262, 14: 2.145, 19: 2.093, 29: 2.045}
"""Student's t for 95 %, two-sided, by degrees of freedom."""


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """(lowest, mean, highest) of the mean ratio, by the logarithms."""
    logs = [math.log(ratio) for ratio in ratios]
    mean, freedom = statistics.fmean(logs), len(logs) - 1
    t = T_95[max((known for known in T_95 if known <= freedom), default=2)]
    half = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean - half), math.exp(mean), math.exp(mean + half)


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, rounds=15, seed=0)
    parser.add_argument("other", type=Path, metavar="OTHER", help="folder of the other checkout")
    parser.add_argument("--items", type=int, default=400, help="a round")
    given: argparse.Namespace = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pairs = json.dumps(mix(random.Random(given.seed), given.items))
    print(load_of_this_machine())
    with tempfile.TemporaryDirectory() as folder:
        here = Path(__file__).resolve().parent.parent

        def rate(checkout: Path, name: str) -> float:
            place = Path(folder) / name
            place.mkdir(exist_ok=True)
            if not (place / "leeway_rl").exists():
                (place / "leeway_rl").symlink_to(checkout.resolve(), target_is_directory=True)
            settings = os.environ | {"PYTHONPATH": str(place)}
            command = [sys.executable, "-c", PROGRAM]
            done = subprocess.run(command, input=pairs, env=settings, stdout=subprocess.PIPE, text=True, check=True)
            return float(done.stdout)

        table, ratios = Table("other, items/s:,.0f", "ours, items/s:,.0f", "ratio:6.3f"), []
        ways = {"other": lambda _: rate(given.other, "other"), "ours": lambda _: rate(here, "ours")}
        for found in in_turns(given.rounds, ways, warm_up=1):
            ratios.append(found["ours"] / found["other"])
            table.line(found["other"], found["ours"], ratios[-1])
    lowest, mean, highest = interval(ratios)
    holds = "holds" if lowest <= 1.0 <= highest else "DOES NOT HOLD"
    print(f"ratio {mean:.3f}, 95 % interval {lowest:.3f} to {highest:.3f} over {len(ratios)} pairs: it {holds} 1.0")


if __name__ == "__main__":
    main()
