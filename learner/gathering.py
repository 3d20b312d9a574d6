"""Copies weights off the device, some at a time, so that no device holds the whole model under ZeRO stage 3."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

GATHERED = 1 << 24
"""Weights that are gathered together at most, where none is larger: 64 MB in float32."""


def weights_of(language_model: nn.Module) -> dict[str, Tensor]:
    """What is published of a model, under the names of its own state dict: its parameters, a tied one once, and the
    buffers that its folder holds, which no step changes (the biases that decide between experts)."""
    saved = language_model.state_dict(keep_vars=True).keys()
    buffers = {
        name: each for name, each in language_model.named_buffers() if name in saved and each.is_floating_point()
    }
    return dict(language_model.named_parameters()) | buffers


def shape_of(parameter: Tensor) -> tuple[int, ...]:
    """The shape of the whole parameter, of which ZeRO stage 3 leaves each rank a part."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def groups_of(named: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The parameters in their order, in groups that are gathered together: small ones, or one large one."""
    group: dict[str, Tensor] = {}
    size = 0
    for name, parameter in named.items():
        count = int(getattr(parameter, "ds_numel", parameter.numel()))
        if group and size + count > GATHERED:
            yield group
            group, size = {}, 0
        group[name], size = parameter, size + count
    if group:
        yield group


def copy_group(group: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy whole parameters to their tensors on the CPU, cast on the device. They may be given back afterwards."""
    on_device = False
    for name, parameter in group.items():
        weight = parameter.detach()
        if weight.is_cuda:
            weight, on_device = weight.to(into[name].dtype), True  # half as much to move
        into[name].copy_(weight, non_blocking=True)
    if on_device:
        torch.cuda.current_stream().synchronize()
