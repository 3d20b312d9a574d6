"""How many reward functions a core calls, as a verifier worker does: over the socket, in a process that can be killed.

::

    python benchmarks/own_rewards.py [--rounds 5] [--seed 0] [--groups 400]

This process and its one child are on the same core. A group has 16 responses of 2,000 characters, a row of 500; the
function counts the words of the response. Each way grades the same groups in every round, in turns:

- **one**: a plain function;
- **group**: the same, once for the whole group;
- **async**: the same, as ``async def`` (four children, of which one works);
- **again**: a plain function after one that hung was killed in the same pool.

Calls are counted a second of the processor, of both processes together, since other work shares the core. Must hold: at
least 1,000 calls a second of **one** and of **again**.
"""

import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of
from leeway_rl.common.config import Config, Data, Model, Reward, Train
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier.pool import GradeItem, GraderPool
from leeway_rl.verifier.rewards.grading import RewardGrader

LEAST = 1000.0
SIZE = 16
CODE = """
from leeway_rl.common.rewards import whole_group

def one(response, row):
    if response == "hang":
        while True:
            pass
    return len(response.split()) / 100

@whole_group
def group(response, row):
    return [len(each.split()) / 100 for each in response]

async def waiting(response, row):
    return len(response.split()) / 100
"""


def grader(pool: GraderPool, folder: Path, function: str) -> RewardGrader:
    """A grader by one function of ``CODE``."""
    config = Config(
        model=Model(path=""),
        data=Data(path=""),
        train=Train(steps=1, groups_per_step=1, group_size=2, max_response_tokens=8),
        rewards=(Reward(use=f"{folder / 'functions.py'}:{function}", timeout_s=1.0),),
        broker={"max_attempts": 3},  # on a busy machine a call may be starved
    )
    return RewardGrader(config, pool, jobs=1)


def items(texts: list[str]) -> list[GradeItem]:
    """One group."""
    return [GradeItem(ability="own", response=text, golds=(), finished=True) for text in texts]


def used_s(graders: RewardGrader) -> float:
    """Processor time so far of this process and of the children of ``graders``, in seconds. The clock of a process is
    numbered by its id (``clock_getcpuclockid``); what /proc says of it goes by hundredths of a second."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in [os.getpid(), *graders.pids()])


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, rounds=5, seed=0)
    parser.add_argument("--groups", type=int, default=400, help="a round")
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the children inherit it
    dice = random.Random(given.seed)
    words = ["so", "the", "sum", "carries", "over", "therefore"]
    groups = [[" ".join(dice.choices(words, k=400)) for _ in range(SIZE)] for _ in range(given.groups)]
    row = '{"prompt": "' + "x" * 480 + '"}'
    print(load_of_this_machine())
    with tempfile.TemporaryDirectory() as folder, GraderPool(1) as pool:
        (Path(folder) / "functions.py").write_text(CODE)
        names = {"one": "one", "group": "group", "async": "waiting", "again": "one"}
        graders = {way: grader(pool, Path(folder), name) for way, name in names.items()}
        (hung,) = graders["again"].grade(items(["hang"]), [1], row)
        assert hung.kind is VerdictKind.ERROR, hung

        def rate(way: str) -> float:
            graders[way].grade(items(groups[0]), [1] * SIZE, row)  # its process is there
            before = used_s(graders[way])
            for group in groups:
                verdicts = graders[way].grade(items(group), [1] * SIZE, row)
                assert all(verdict.kind is VerdictKind.SCORED for verdict in verdicts)
            return given.groups * SIZE / (used_s(graders[way]) - before)

        ways = {way: (lambda number, way=way: rate(way)) for way in names}
        table, found = Table(*(f"{way}, calls/s:,.0f" for way in names)), []
        for each in in_turns(given.rounds, ways):
            found.append(each)
            table.line(*each.values())
        for each in graders.values():
            each.close()
    medians = {way: statistics.median(each[way] for each in found) for way in names}
    print("median " + ", ".join(f"{way} {rate:,.0f}" for way, rate in medians.items()) + f" (at least {LEAST:,.0f})")


if __name__ == "__main__":
    main()
