"""What a checkpoint costs the training step after it, written beside the steps and written on the step.

::

    python benchmarks/checkpoint_beside.py [--rounds 5] [--threads 1]

A model of 19M random parameters (2 layers, width 768, 61 tokens) trains under ZeRO 1 in one process. In each round both
ways take their turn, with the same policy: a checkpoint, a training step, and the end of the writing. "held up" is how
long the checkpoint keeps the next step from beginning, "with a step" is the checkpoint and the step after it, "all" is
until the checkpoint is safe on disk as well. Each ratio is beside / on the step. It is written into ``--out``, or into
a temporary folder: what the disk does counts.

Must hold: the median ratio of "held up" is at most 0.5, and of "with a step" below 1. Exit code 1 otherwise.
"""

import statistics
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of
from leeway_rl.benchmarks.zero_memory import config_of, make_model, the_group

COLUMNS = ("held up", "with a step", "all")
MOST_HELD_UP, MOST_WITH_A_STEP = 0.5, 1.0


class QuietService:
    """What the writer says of itself goes nowhere; an error is raised when it is waited for."""

    def __init__(self) -> None:
        self.stopping = threading.Event()

    def hindered(self, doing: Any) -> None:
        """Say nothing."""

    def fail(self, error: BaseException) -> None:
        """It will be raised."""


def main() -> None:
    """Print a line for each round and the medians."""
    parser = parser_of(__doc__, out="write the checkpoints into this folder", rounds=5, threads=1)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    with (
        tempfile.TemporaryDirectory() as model,
        tempfile.TemporaryDirectory() if not given.out else nullcontext(given.out) as home,
    ):
        make_model(model, layers=2)
        measured(model, Path(home), given.rounds)


def measured(model: str, home: Path, rounds: int) -> None:
    """Take the turns, print them, and end with 1 where the ratios are not what they must be."""
    import numpy as np
    from leeway_rl.learner.background import CheckpointWriter
    from leeway_rl.learner.model import Policy
    from leeway_rl.learner.objective.entropy import ControllerState
    from leeway_rl.learner.packing import ScoredGroup
    from leeway_rl.learner.step import train_step

    ticket, responses = the_group()
    group = ScoredGroup(ticket=ticket, responses=responses, rewards_S=np.array([1.0, 0.0, 0.0, 1.0]))
    config = config_of(model, 1, "none")
    config = config.model_copy(update={"train": config.train.model_copy(update={"reuse": 1})})
    policy = Policy(config)
    steps = 0

    def step() -> None:
        nonlocal steps
        train_step(policy, [group], version=steps, controller=ControllerState(), config=config)
        steps += 1

    def way(beside: bool) -> tuple[float, float, float]:
        train = config.train.model_copy(update={"async_checkpoint": beside, "keep_checkpoints": 1})
        service: Any = QuietService()
        writer = CheckpointWriter(policy, service, home, train)
        began = time.perf_counter()
        writer.save(steps)
        held_up = time.perf_counter()
        step()
        stepped = time.perf_counter()
        writer.wait()
        return held_up - began, stepped - began, time.perf_counter() - began

    step()
    table = Table("round:<8", *(f"{name}, {where}:.2f" for name in COLUMNS for where in ("beside s", "on the step s")))
    ratios: dict[str, list[float]] = {name: [] for name in COLUMNS}
    ways = {True: lambda _: way(True), False: lambda _: way(False)}
    for number, took in enumerate(in_turns(rounds, ways, warm_up=1)):
        table.line(str(number), *(took[beside][part] for part in range(3) for beside in (True, False)))
        for part, name in enumerate(COLUMNS):
            ratios[name].append(took[True][part] / took[False][part])
    medians = {name: statistics.median(each) for name, each in ratios.items()}
    print("median ratio " + ", ".join(f"{name} {median:.2f}" for name, median in medians.items()))
    print(load_of_this_machine())
    if medians["held up"] > MOST_HELD_UP or medians["with a step"] >= MOST_WITH_A_STEP:
        sys.exit(1)


if __name__ == "__main__":
    main()
