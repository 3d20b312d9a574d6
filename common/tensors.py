"""Makes flat weights of torch tensors, and back. It stands apart so that ``weights`` needs no torch."""

from collections.abc import Mapping
from math import prod

import numpy as np
import torch

from .types import TensorInfo
from .weights import DTYPE_BYTES, FlatWeights, flat_bytes

FLOAT32 = ("e_score_correction_bias", "expert_bias")
"""How the names of biases end that decide between experts. Models keep them in float32 whatever else is in bfloat16,
which could not tell some of them apart."""


def flatten(named: Mapping[str, torch.Tensor], dtype: str) -> FlatWeights:
    """Copy ``named`` (any float dtype, device and strides) into one new buffer, cast to ``dtype``, as in ``infos_of``.

    ``dtype`` is a torch name without the prefix, for example ``bfloat16``. Tied tensors under two names are stored
    twice, so pass one of them. Raises ``ValueError`` for another dtype, or a tensor that is not of floats.
    """
    if dtype not in DTYPE_BYTES:
        raise ValueError(f"dtype {dtype!r}: publish weights as one of {', '.join(DTYPE_BYTES)}")
    for name, tensor in named.items():
        if not tensor.is_floating_point():
            raise ValueError(f"tensor {name} is {tensor.dtype}: only floats are published")
    infos = infos_of({name: tuple(tensor.shape) for name, tensor in named.items()}, dtype)
    weights = FlatWeights(infos, np.empty(flat_bytes(infos), np.uint8))
    for name, view in tensors_of(weights).items():
        # This casts, gathers strides and moves off the device in one go, straight into place.
        view.copy_(named[name].detach())
    return weights


def infos_of(shapes: Mapping[str, tuple[int, ...]], dtype: str) -> tuple[TensorInfo, ...]:
    """The tensors of a version in the order of their bytes: by name, but those of ``FLOAT32`` first, so that each
    begins at a multiple of its own width."""
    infos = [
        TensorInfo(name=name, dtype="float32" if name.endswith(FLOAT32) else dtype, shape=shape)
        for name, shape in sorted(shapes.items())
    ]
    return tuple(sorted(infos, key=lambda info: -DTYPE_BYTES[info.dtype]))


def tensors_of(weights: FlatWeights) -> dict[str, torch.Tensor]:
    """The tensors by name, on the CPU. They are views of ``weights.buffer`` and not copies, so do not write into
    them."""
    flat = torch.from_numpy(weights.buffer)
    tensors, start = {}, 0
    for info in weights.infos:
        end = start + DTYPE_BYTES[info.dtype] * prod(info.shape)
        tensors[info.name] = flat[start:end].view(getattr(torch, info.dtype)).reshape(info.shape)
        start = end
    return tensors
