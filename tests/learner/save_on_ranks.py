"""Run under torchrun by ``test_export.py``: trains a small model and writes a run folder with a checkpoint.

Arguments: model folder, output folder, ZeRO stage.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from leeway_rl.common.config import compose, dump
from leeway_rl.learner import checkpoint
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.ranks import together
from train_on_ranks import run

STATE = {"version": 2, "incarnation": 1, "ledger_line": 1}


def main() -> None:
    torch.set_num_threads(1)
    base, out, stage = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    config = compose(["tiny"], [f"model.path={base}", f"train.zero_stage={stage}", "train.steps=2", "train.ranks=2"])
    policy = Policy(config)
    run(policy, config, range(2), ControllerState())
    weights = policy.named_weights()
    folder = out / "mine"
    if policy.rank == 0:
        folder.mkdir()
        (folder / "config.toml").write_text(dump(config))
        torch.save(weights, out / "weights.pt")
    together(lambda: None)
    checkpoint.save(policy, folder / "checkpoints", 2, STATE, keep=1)


if __name__ == "__main__":
    main()
