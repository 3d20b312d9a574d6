"""Run twice by ``test_cutting.py``, as rank 0 and rank 1. For every line of JSON on rank 0's standard input it finds
the gradient of that batch over both ranks and writes it to a file; the line is said back when it is there.

Arguments: rank, file to meet at, model folder.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch.distributed as dist
from leeway_rl.common.config import Config
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.packing import ScoredGroup
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.ranks import broadcast_plan, open_channels
from leeway_rl.learner.step import shared_out, train_step
from tiny_policy import make_config, make_groups, with_turns


def batch_of(shape: dict[str, Any]) -> list[ScoredGroup]:
    """The groups that ``shape`` (count, size, seed, version, turns) describes."""
    groups = make_groups(shape["count"], size=shape["size"], seed=shape["seed"], version=shape["version"])
    return with_turns(groups, shape["seed"]) if shape["turns"] else groups


def still_config(model_path: str, **changes: Any) -> Config:
    """Weights stay where they are, bit for bit: an update of 1e-30 is lost in rounding."""
    still = {"train__learning_rate": 1e-30, "train__weight_decay": 0.0, "train__grad_clip": 0.0}
    return make_config(model_path, entropy__control="constant", entropy__alpha=0.01, **still, **changes)


OBJECTIVES: dict[str, dict[str, Any]] = {
    **{loss: {"objective__loss": loss} for loss in ("magic", "grpo", "pg", "gspo", "dr_grpo")},
    "sequence masks": {
        "objective__correction": "decoupled",
        "objective__correction_level": "geometric",
        "objective__correction_bound": "mask",
        "objective__correction_range": (0.97, 1.03),
    },
    "sequence weights of gspo": {
        "objective__loss": "gspo",
        "objective__correction": "decoupled",
        "objective__correction_level": "sequence",
    },
    "over the batch": {"objective__advantage_baseline": "batch", "objective__advantage_std": "batch"},
}
"""By name, what a configuration changes."""


def with_budget(config: Config, budget: int) -> Config:
    """Micro-batches of so many tokens, which may be too few for the longest response that the configuration allows."""
    return config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_tokens": int(budget)})})


def gradient(policy: Policy, groups: list[ScoredGroup], version: int, config: Config) -> tuple[torch.Tensor, int]:
    """The gradient that a training step on this rank's ``groups`` hands to the optimizer, and the number of its
    backward passes."""
    kept, passes, step, backward = [], [], policy.step, policy.backward

    def keeping_step() -> float:
        kept.append(torch.cat([parameter.grad.flatten().clone() for parameter in policy.module.parameters()]))
        return step()

    def counted_backward(*given: Any, **named: Any) -> None:
        passes.append(1)
        backward(*given, **named)

    policy.step, policy.backward = keeping_step, counted_backward  # type: ignore[method-assign]
    try:
        train_step(policy, groups, version=version, controller=ControllerState(), config=config)
    finally:
        policy.step, policy.backward = step, backward  # type: ignore[method-assign]
    return kept[0], len(passes)


def main() -> None:
    rank, meeting, model_path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    open_channels()
    policy = Policy(still_config(model_path))
    while True:
        line = sys.stdin.readline() if rank == 0 else None
        plan = broadcast_plan({"line": line} if rank == 0 else None)
        if not plan["line"]:
            return
        shape = json.loads(plan["line"])
        config = with_budget(still_config(model_path, **OBJECTIVES[shape["objective"]]), shape["budget"])
        mine = shared_out(batch_of(shape), config, 2)[rank]
        found, _ = gradient(policy, mine, shape["version"], config)
        if rank == 0:
            torch.save(found, shape["out"])
            print(plan["line"], end="", flush=True)


if __name__ == "__main__":
    main()
