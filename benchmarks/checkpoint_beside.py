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

import numpy as np
from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of
from leeway_rl.common.config import Config
from leeway_rl.common.types import Responses, Ticket

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


def config_of(folder: str, stage: int, offload: str) -> Config:
    """Steps of one group of four responses, one to a micro-batch."""
    train = {"steps": 2, "groups_per_step": 1, "group_size": 4, "max_response_tokens": 8, "micro_batch_tokens": 16}
    return Config.model_validate(
        {
            "model": {"path": folder, "dtype": "float32"},
            "data": {"path": "none.jsonl", "max_prompt_tokens": 8},
            "train": {**train, "zero_stage": stage, "offload": offload},
        }
    )


def make_model(folder: str, layers: int = 8) -> None:
    """Random weights in Hugging Face layout."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"vocab_size": 61, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 12, "num_key_value_heads": 12, "tie_word_embeddings": True}
    Qwen2ForCausalLM(Qwen2Config(**sizes, **heads)).save_pretrained(folder)


def the_group() -> tuple[Ticket, Responses]:
    """Four responses of eight tokens."""
    own = {
        "prompt_id": "p",
        "prompt_tokens_P": np.arange(4, dtype=np.uint16),
        "ground_truth": ("1",),
        "ability": "math",
    }
    drawn = {"group_size": 4, "max_new_tokens": 8, "temperature": 1.0, "seed": 0, "min_version": 0, "stage": 0}
    responses = Responses(
        group_id="0-0",
        tokens_T=np.arange(32, dtype=np.uint16),
        logprobs_T=np.full(32, -4.0, np.float32),
        lengths_S=np.full(4, 8, np.uint32),
        finished_S=np.ones(4, np.uint8),
        spans=np.array([(response, 0, 0, 8) for response in range(4)], np.uint32),
        worker="benchmark",
        seconds=1.0,
    )
    return Ticket(ticket=0, incarnation=0, **own, **drawn), responses


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
    from leeway_rl.learner.background import CheckpointWriter
    from leeway_rl.learner.objective.entropy import ControllerState
    from leeway_rl.learner.packing import ScoredGroup
    from leeway_rl.learner.policy import Policy
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
