"""What a copy of a checkpoint to another place costs the training steps beside it.

::

    python benchmarks/copy_beside.py [--rounds 5] [--threads 1]

A model of 19M random parameters (as in ``checkpoint_beside.py``) trains under ZeRO 1 in one process. In each round
three ways take their turn: a checkpoint is written to its end and handed over, and five steps are trained meanwhile.
"none": nothing is copied. "folder": the checkpoint, 305 MB, is copied to another folder and every byte of it is read
back. "slow": a place that takes a minute and writes nothing. "hand-over" is how long the learner's own call takes,
"steps" is the five steps, and "CPU" is what the training process spends of the processor meanwhile: that does
not depend on what else the machine does.

Must hold: the median hand-over takes at most 1 ms, and the median ratio of CPU to that of "none" is at most 1.1 for
both others. The ratio of the steps is told: on a machine whose cores are all at work, the copying process takes its
share. Exit code 1 otherwise.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from leeway_rl.benchmarks.checkpoint_beside import QuietService, config_of, make_model, the_group
from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of
from leeway_rl.common.config import Config
from leeway_rl.common.config.checkpoints import Checkpoints

WAYS = ("none", "folder", "slow")
STEPS = 5
MOST_HAND_OVER_S, MOST_CPU = 1e-3, 1.1


def main() -> None:
    """Print a line for each round and the medians."""
    given = parser_of(__doc__, rounds=5, threads=1).parse_args()
    import torch

    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as model, tempfile.TemporaryDirectory() as home:
        make_model(model, layers=2)
        measured(model, Path(home), given.rounds)


class Turns:
    """One policy, and what each way does with it."""

    def __init__(self, config: Config, home: Path) -> None:
        from leeway_rl.common.ledger import Ledger
        from leeway_rl.learner.packing import ScoredGroup
        from leeway_rl.learner.policy import Policy

        ticket, responses = the_group()
        self.group = ScoredGroup(ticket=ticket, responses=responses, rewards_S=np.array([1.0, 0.0, 0.0, 1.0]))
        self.config, self.home, self.steps = config, home, 0
        self.policy = Policy(config)
        (home / "run").mkdir()
        ledger = Ledger(home / "run" / "ledger.jsonl")
        ledger.write("run", run="run")
        ledger.close()

    def step(self) -> None:
        """Train once."""
        from leeway_rl.learner.objective.entropy import ControllerState
        from leeway_rl.learner.step import train_step

        train_step(self.policy, [self.group], version=self.steps, controller=ControllerState(), config=self.config)
        self.steps += 1

    def way(self, name: str) -> tuple[float, float, float]:
        """(seconds of the hand-over, of the steps beside the copy, of the processor in this process meanwhile)."""
        from leeway_rl.learner.background import CheckpointWriter
        from leeway_rl.learner.checkpoint import path_of
        from leeway_rl.learner.copier import COMMAND, Copier, CopyProcess

        service: Any = QuietService()
        train = self.config.train.model_copy(update={"keep_checkpoints": 1})
        writer = CheckpointWriter(self.policy, service, self.home / "run" / "checkpoints", train)
        writer.save(self.steps, {})
        writer.wait()
        command = [sys.executable, "-c", "import time; time.sleep(60)"] if name == "slow" else COMMAND
        copier = Copier(self.config, self.home / "run", CopyProcess(command))
        began, cpu = time.perf_counter(), time.process_time()
        if name != "none":
            copier.hand(path_of(self.home / "run" / "checkpoints", self.steps), 1, 1)
        handed = time.perf_counter()
        for _ in range(STEPS):
            self.step()
        ended, spent = time.perf_counter(), time.process_time() - cpu
        if name == "folder":
            copier.ended(None)
            assert not copier.trouble, copier.trouble
        copier.close()
        return handed - began, ended - handed, spent


def measured(model: str, home: Path, rounds: int) -> None:
    """Take the turns, print them, and end with 1 where they are not what they must be."""
    config = config_of(model, 1, "none")
    config = config.model_copy(update={"checkpoints": Checkpoints(copy_to=str(home / "elsewhere"))})
    turns = Turns(config, home)
    turns.step()
    heads = [f"{each}, {what} s:.2f" for what in ("steps", "CPU") for each in WAYS]
    table = Table("round:<8", *heads, "hand-over ms:.3f")
    ratios: dict[tuple[str, str], list[float]] = {
        (what, name): [] for what in ("steps", "CPU") for name in ("folder", "slow")
    }
    hand_overs = []
    ways = {name: lambda _, name=name: turns.way(name) for name in WAYS}
    for number, took in enumerate(in_turns(rounds, ways, warm_up=1)):
        hand_overs += [took["folder"][0], took["slow"][0]]
        table.line(str(number), *(took[each][part] for part in (1, 2) for each in WAYS), 1e3 * max(hand_overs[-2:]))
        for (what, name), each in ratios.items():
            part = 1 if what == "steps" else 2
            each.append(took[name][part] / took["none"][part])
    medians = {name: statistics.median(each) for name, each in ratios.items()}
    hand_over = statistics.median(hand_overs)
    print(f"median hand-over {1e3 * hand_over:.3f} ms; ratio to none: ", end="")
    print(", ".join(f"{what} {name} {median:.2f}" for (what, name), median in medians.items()))
    print(load_of_this_machine())
    if hand_over > MOST_HAND_OVER_S or max(medians["CPU", name] for name in ("folder", "slow")) > MOST_CPU:
        sys.exit(1)


if __name__ == "__main__":
    main()
