"""A model whose parameters no number of ranks divides evenly, and its training on one rank or two, for tests of
checkpoints that change hands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from leeway_rl.common.config import Config
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from tiny_policy import make_config, make_model
from train_on_ranks import run


def odd_model(folder: Path) -> str:
    """61 x 33 and the like."""
    return make_model(
        folder, "llama", hidden_size=33, intermediate_size=47, head_dim=8, num_attention_heads=3, num_key_value_heads=1
    )


BFLOAT16 = {"model__dtype": "bfloat16", "train__bfloat16": "weights"}


def odd_config(model_path: str, stage: int | str, **changes: Any) -> Config:
    """``stage``: the ZeRO stage; ``b2`` is ZeRO stage 2 with weights in bfloat16."""
    half = BFLOAT16 if str(stage).startswith("b") else {}
    return make_config(model_path, train__zero_stage=int(str(stage).removeprefix("b")), **half, **changes)


def trained(policy: Policy, steps: range) -> None:
    """Make training ``steps``."""
    run(policy, policy.config, steps, ControllerState())


def state_of(policy: Policy) -> dict[str, Any]:
    """Weights, both moments by name, and the step count, whole, on every rank; collective."""
    from deepspeed.utils import safe_get_full_optimizer_state

    found: dict[str, Any] = {"weights": policy.named_weights(), "steps": policy.sums()["steps"]}
    for key in ("exp_avg", "exp_avg_sq"):
        found[key] = {
            name: moment_of(policy, parameter, key, safe_get_full_optimizer_state)
            for name, parameter in policy.module.named_weights().items()
        }
    return found


def moment_of(policy: Policy, parameter: torch.nn.Parameter, key: str, by_deepspeed: Any) -> torch.Tensor:
    found = by_deepspeed(parameter, key) if policy.stage else policy.engine.optimizer.state[parameter][key]
    return found.detach().cpu().clone().reshape(-1)


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Bit for bit."""
    return one["steps"] == other["steps"] and all(
        one[part].keys() == other[part].keys()
        and all(torch.equal(tensor.reshape(-1), other[part][name].reshape(-1)) for name, tensor in one[part].items())
        for part in ("weights", "exp_avg", "exp_avg_sq")
    )
