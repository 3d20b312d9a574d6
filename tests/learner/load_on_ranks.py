"""Run under torchrun on two ranks by ``test_loading.py``: what each rank has of its policy and of its reference.

Arguments: a model whose parameters no two ranks divide evenly, one of matrices that DeepSpeed lets go of after their
use, output folder, ZeRO stages. Each rank leaves what it found in ``zeroSTAGE-RANK.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from leeway_rl.common.config import Config
from leeway_rl.learner.model import load_module
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.step import cut
from tiny_policy import make_config, make_groups
from transformers import AutoModelForCausalLM

LINEAR = F.linear


def config_of(path: str, stage: int, dtype: str = "float32") -> Config:
    return make_config(path, train__zero_stage=stage, objective__kl_beta=0.1, model__dtype=dtype)


def referring_later(config: Config, path: str) -> Config:
    """``config`` with a second stage whose KL term is to the model in ``path``."""
    return Config.model_validate(config.model_dump() | {"stages": [{"from_step": 1, "reference": path}]})


def other_weights(policy: Policy, path: str) -> list[str]:
    """Names of the weights that are not what transformers loads; rank 0 has them all."""
    weights = policy.named_weights()
    if policy.rank:
        return []
    due = dict(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).named_parameters())
    assert weights.keys() == due.keys()
    return [name for name, weight in due.items() if not torch.equal(weight, weights[name])]


def same_logprobs(policy: Policy, config: Config) -> bool:
    """Whether log π_ref is that of the whole model, bit for bit, for micro-batches that differ from rank to rank."""
    groups = make_groups(3, seed=policy.rank)
    whole, same = load_module(config.of_model(config.reference)), []
    for batch in cut(groups, version=0, config=config)[:2]:
        with torch.no_grad():
            due = whole(batch).logprobs_T
        same.append(torch.equal(policy.with_reference(batch).reference_logprobs_T, due))
    return len(same) == 2 and all(same)


def said_of(odd: str, wide: str, stage: int) -> dict[str, Any]:
    policies = {dtype: Policy(config_of(wide, stage, dtype)) for dtype in ("float32", "bfloat16")}
    same = {dtype: same_logprobs(policy, policy.config) for dtype, policy in policies.items()}
    assert policies["float32"].reference is not None
    parameters: list[Any] = list(policies["float32"].reference.module.parameters())
    uneven = Policy(referring_later(config_of(odd, stage), wide))
    same |= {"odd": same_logprobs(uneven, uneven.config)}
    uneven.enter(later := uneven.config.at_stage(1))
    same |= {"wide, in a later stage": same_logprobs(uneven, later)}
    return {
        "other_weights": other_weights(uneven, odd) + other_weights(policies["float32"], wide),
        "shared_out": all(hasattr(each, "ds_tensor") for each in uneven.module.parameters()),
        "same_logprobs": same,
        "reference_part": sum(each.ds_tensor.numel() for each in parameters)
        / sum(each.ds_numel for each in parameters),
        "gathered_after_a_pass": [tuple(each.ds_shape) for each in parameters if each.numel() > 100_000],
        "linear_is_torchs": F.linear is LINEAR,
    }


def main() -> None:
    torch.set_num_threads(1)
    odd, wide, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    for stage in sorted(map(int, sys.argv[4:])):  # ZeRO stage 3 comes last: its linear layer stays
        said = said_of(odd, wide, stage)
        (out / f"zero{stage}-{torch.distributed.get_rank()}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
