"""Run under torchrun by ``test_own_loss.py``: on two ranks, trains by ``magic`` and by a user's loss under several ZeRO
stages, and then by a loss that fails on rank 1 alone.

Arguments: model folder, the loss that is magic, the loss that fails, output folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from leeway_rl.common.errors import LeewayError
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.ranks import gather, rank
from leeway_rl.learner.step import shared_out, train_step
from tiny_policy import make_config, make_groups

MANY = {"train__minibatch_groups": 2, "train__reuse": 2, "objective__correction": "decoupled"}


def step(policy: Policy, config: Any) -> dict[str, torch.Tensor]:
    """One training step on this rank's share; rank 0's weights after it."""
    mine = shared_out(make_groups(version=2), config, 2)[rank()]
    train_step(policy, mine, version=2, controller=ControllerState(0.02), config=config)
    return policy.named_weights()


def main() -> None:
    torch.set_num_threads(1)
    model_path, magic, failing, out = sys.argv[1:]
    found: dict[str, Any] = {"equal": {}, "said": [], "moved": []}
    for stage in (0, 2, 3):
        weights = []
        for loss in ("magic", magic):
            config = make_config(model_path, train__zero_stage=stage, objective__loss=loss, **MANY)
            weights.append(step(Policy(config), config))
        found["equal"][str(stage)] = all(torch.equal(one, weights[1][name]) for name, one in weights[0].items())
    for stage in (0, 2, 3):
        config = make_config(model_path, train__zero_stage=stage, objective__loss=failing)
        policy = Policy(config)
        before, said = policy.named_weights(), ""
        try:
            step(policy, config)
        except LeewayError as error:
            said = str(error)
        found["said"] = gather(said)
        now = policy.named_weights()
        found["moved"].append(any(not torch.equal(before[name], weight) for name, weight in now.items()))
    if rank() == 0:
        (Path(out) / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
