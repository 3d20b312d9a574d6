"""What ``leeway up --dry-run`` says of weights, gradients and optimizer, against what a process holds.

::

    python benchmarks/zero_memory.py

A model of 75.6M random parameters (8 layers, width 768, 61 tokens) makes two training steps of a few tokens, in one
process for each ZeRO stage and offload. "measured" is the bytes a parameter that stay in memory after the second step,
above what was there before the model was read. "worked out" is the arithmetic, without what lives only within a step.
Without a GPU everything is in the host's memory.
"""

import ctypes
import gc
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import getpagesize

import numpy as np
from leeway_rl.benchmarks.measure import Table
from leeway_rl.common.config import Config
from leeway_rl.common.types import Responses, Ticket
from leeway_rl.leeway.planning.arithmetic import learner_memory, shape_of

SETTINGS = [
    "0 none",
    "1 none",
    "2 none",
    "3 none",
    "1 optimizer",
    "2 optimizer",
    "3 optimizer",
    "3 optimizer+parameters",
]


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


def resident() -> int:
    """Resident bytes of this process, once free memory has been given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


def held(folder: str, stage: int, offload: str) -> float:
    """Measured bytes a parameter."""
    import torch
    from leeway_rl.learner.model import Policy
    from leeway_rl.learner.objective.entropy import ControllerState
    from leeway_rl.learner.packing import ScoredGroup
    from leeway_rl.learner.step import train_step

    torch.set_num_threads(1)
    ticket, responses = the_group()
    group = ScoredGroup(ticket=ticket, responses=responses, rewards_S=np.array([1.0, 0.0, 0.0, 1.0]))
    config = config_of(folder, stage, offload)
    small = Policy(config_of(folder, stage, offload))  # what is imported at the first use is not the model's
    del small
    before = resident()
    policy = Policy(config)
    for step in range(2):
        train_step(policy, [group], version=step, controller=ControllerState(), config=config)
    return (resident() - before) / shape_of(folder).parameters


def worked_out(folder: str, stage: int, offload: str) -> float:
    """Bytes a parameter by the arithmetic."""
    shape = shape_of(folder)
    parts = learner_memory(config_of(folder, stage, offload), shape)
    gone = {"parameters gathered", "activations kept", "token op"}
    if stage < 3 and offload == "none":
        gone |= {"gradients", "gradients being reduced"}
    elif stage == 1:
        gone |= {"gradients being reduced"}
    return sum(part.device + part.host for part in parts if part.name not in gone) / shape.parameters


def main() -> None:
    """Measure each case in a process of its own, because a process does not give all its memory back."""
    if len(sys.argv) > 1:
        print("measured", held(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
        return
    table = Table("ZeRO, offload:<22", "worked out:.1f", "measured:.1f", "bytes a parameter")
    with tempfile.TemporaryDirectory() as folder:
        make_model(folder)
        for setting in SETTINGS:
            stage, offload = setting.split()
            words = [sys.executable, __file__, folder, stage, offload]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            measured = float(done.stdout.split("measured")[1])
            table.line(setting, worked_out(folder, int(stage), offload), measured)


if __name__ == "__main__":
    main()
