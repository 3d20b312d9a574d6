"""Bit sums of weights and optimizer state. A checkpoint lists them, and whoever loads it in any layout compares
them."""

from typing import Any

import torch
from torch import Tensor, nn

from .ranks import gather, rank

_EVERYWHERE = {
    0: {"weights", "masters", "exp_avg", "exp_avg_sq"},
    1: {"weights"},
    2: {"weights"},
    3: set[str](),
}
"""Which of the sums every rank has whole, by ZeRO stage; of the others each rank has a part."""


def of(module: nn.Module, optimizer: torch.optim.Optimizer, stage: int) -> dict[str, Any]:
    """Sums of the bit patterns over the ranks, in hexadecimal, the same however ZeRO has cut them up. Collective.

    The keys are ``weights``, the optimizer's ``masters`` of them (0 where the weights are the masters: under ZeRO
    stage 3 in float32), ``exp_avg`` and ``exp_avg_sq``; ``steps``, the optimizer's step counts, a single one where all
    is well; and ``differ``, the names of sums that are not equal on ranks where they should be.
    """
    states = list(optimizer.state.items())
    own: dict[str, Any] = {
        "weights": sum(bits_of(_own_part(parameter, stage)) for parameter in module.parameters()),
        "masters": sum(bits_of(master) for master in _masters(module, states, stage)),
    }
    for key in ("exp_avg", "exp_avg_sq"):
        own[key] = sum(bits_of(state[key]) for _, state in states if key in state)
    said = gather(own | {"steps": [float(state["step"]) for _, state in states if "step" in state]})
    found: dict[str, Any] = {"steps": sorted({count for each in said for count in each["steps"]})}
    for key in own:
        total = said[0][key] if key in _EVERYWHERE[stage] else sum(each[key] for each in said)
        found[key] = f"{total % (1 << 64):016x}"
    found["differ"] = [key for key in own if key in _EVERYWHERE[stage] and len({each[key] for each in said}) > 1]
    return found


def bits_of(tensor: Tensor) -> int:
    """The sum of a float32 or bfloat16 tensor's bit patterns, modulo 2^64."""
    total, bits = 0, torch.int32 if tensor.element_size() == 4 else torch.int16
    for part in tensor.detach().reshape(-1).split(1 << 24):
        total += int(part.view(bits).sum(dtype=torch.int64))
    return total % (1 << 64)


def _masters(module: nn.Module, states: list[Any], stage: int) -> list[Tensor]:
    if stage < 3:
        return [master for master, _ in states]
    parameters: list[Any] = list(module.parameters())
    if parameters[0].ds_tensor.dtype == torch.float32:
        return []
    from deepspeed.utils import safe_get_local_fp32_param

    return [_without_padding(parameter, safe_get_local_fp32_param(parameter)) for parameter in parameters]


def _own_part(parameter: Any, stage: int) -> Tensor:
    """What this rank holds of ``parameter``."""
    return parameter if stage < 3 else _without_padding(parameter, parameter.ds_tensor)


def _without_padding(parameter: Any, part: Tensor) -> Tensor:
    """This rank's ``part`` of ``parameter`` under ZeRO stage 3, without its padding, which has arbitrary values."""
    part = part.reshape(-1)
    return part[: max(0, min(part.numel(), parameter.ds_numel - rank() * part.numel()))]
