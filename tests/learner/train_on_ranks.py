"""Run under torchrun by ``test_ranks.py``: trains on every ZeRO stage and leaves rank 0's weights and metrics.

Arguments: model folder, output folder, names of configurations: a ZeRO stage, or ``updates-`` and a ZeRO stage for
six updates a training step (mini-batches of one group, so that only one rank has tokens) with everything on top, or a
value of train.offload and a ZeRO stage.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from leeway_rl.common.config import Config
from leeway_rl.learner import memory
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.step import train_step
from tiny_policy import make_config, make_groups

STEPS = 5
BALLAST = 300_000_000
"""Bytes that rank 1 holds beside what it trains with."""


def config_of(model_path: str, stage: int, offload: str = "none") -> Config:
    return make_config(
        model_path, train__zero_stage=stage, train__offload=offload, entropy__target=10.0, entropy__delta=0.1
    )


SIX_UPDATES = {
    "train__groups_per_step": 3,
    "train__minibatch_groups": 1,
    "train__reuse": 2,
    "objective__loss": "grpo",
    "objective__correction": "decoupled",
    "objective__kl_beta": 0.1,
    "train__learning_rate_by_ess": "sqrt",
    "metrics__gradient_cosine": True,
}


def config_named(model_path: str, name: str) -> Config:
    kind, _, stage = name.rpartition("-")
    if kind != "updates":
        return config_of(model_path, int(stage), offload=kind or "none")
    return make_config(model_path, train__zero_stage=int(stage), train__learning_rate=1e-4, **SIX_UPDATES)


def run(policy: Policy, config: Config, steps: range, controller: ControllerState) -> tuple[dict, ControllerState]:
    """Train on this rank's share, an uneven one: of three groups of four, rank 0 of two ranks takes one, and one
    response of the next. Gives back the last step's metrics, and under ``losses`` every step's loss."""
    metrics, losses = {}, []
    for step in steps:
        groups = make_groups(3, version=step, seed=step)
        first, begun = replace(groups[0], micro_batch_S=(0,) * 4), replace(groups[1], micro_batch_S=(1, -1, -1, -1))
        rest, last = replace(groups[1], micro_batch_S=(-1, 0, 0, 0)), replace(groups[2], micro_batch_S=(1, 1, 2, 2))
        share = groups if policy.world == 1 else ([first, begun], [rest, last])[policy.rank]
        result = train_step(policy, share, version=step, controller=controller, config=config)
        metrics, controller = result.metrics, result.controller
        losses.append(metrics["loss"])
    return metrics | {"losses": losses}, controller


def main() -> None:
    torch.set_num_threads(1)
    model_path, out, ballast = sys.argv[1], Path(sys.argv[2]), b""
    for name in sys.argv[3:]:
        policy = Policy(config_named(model_path, name))
        ballast = ballast or (b"x" * BALLAST if policy.rank == 1 else b"")
        metrics, _ = run(policy, policy.config, range(STEPS), ControllerState())
        weights = policy.named_weights()
        if policy.rank == 0:
            torch.save(weights, out / f"zero{name}.pt")
            (out / f"zero{name}.json").write_text(json.dumps(metrics | {"own_peak": memory.peaks()[1]}))


if __name__ == "__main__":
    main()
