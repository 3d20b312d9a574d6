"""Copies weights off the device, some at a time, so that no device holds the whole model under ZeRO stage 3."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

GATHERED = 1 << 24
"""Weights that are gathered together at most, where none is larger: 64 MB in float32."""


def shape_of(parameter: nn.Parameter) -> tuple[int, ...]:
    """The shape of the whole parameter, of which ZeRO stage 3 leaves each rank a part."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def groups_of(named: Mapping[str, nn.Parameter]) -> Iterator[dict[str, nn.Parameter]]:
    """The parameters in their order, in groups that are gathered together: small ones, or one large one."""
    group: dict[str, nn.Parameter] = {}
    size = 0
    for name, parameter in named.items():
        count = int(getattr(parameter, "ds_numel", parameter.numel()))
        if group and size + count > GATHERED:
            yield group
            group, size = {}, 0
        group[name], size = parameter, size + count
    if group:
        yield group


def copy_group(group: Mapping[str, nn.Parameter], into: Mapping[str, Tensor]) -> None:
    """Copy whole parameters to their tensors on the CPU, cast on the device. They may be given back afterwards."""
    on_device = False
    for name, parameter in group.items():
        weight = parameter.detach()
        if weight.is_cuda:
            weight, on_device = weight.to(into[name].dtype), True  # half as much to move
        into[name].copy_(weight, non_blocking=True)
    if on_device:
        torch.cuda.current_stream().synchronize()
