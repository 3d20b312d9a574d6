"""A version of 1.5 billion random weights, on its way from the device to a worker: each stage, then all of it.

The stages on the host are those of ``benchmarks/weights.py``, with the shards and threads that are given there.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from leeway_rl.benchmarks.gpu_check.device import peak_beside, reset_peak, synchronised
from leeway_rl.benchmarks.gpu_check.figures import Figure
from leeway_rl.benchmarks.gpu_check.learner import QWEN_1_5B, TINY, random_model
from leeway_rl.benchmarks.weights import published_and_fetched, stages
from leeway_rl.common.tensors import tensors_of
from leeway_rl.learner.gathering import copy_group, groups_of, shape_of
from leeway_rl.learner.publication import FlatBuffers

SIZES = {"full": QWEN_1_5B, "small": TINY}
THREADS = min(8, os.cpu_count() or 1)


def measured(size: str) -> list[Figure]:
    """GB of the version a second by stage, and the seconds of a publication and of a fetch."""
    named = dict(random_model(SIZES[size], 32_768).float().named_parameters())
    buffers = FlatBuffers({name: shape_of(parameter) for name, parameter in named.items()}, "bfloat16", 0)
    _gather(named, buffers, 0)  # pins the memory, which each of the two buffers does once
    _gather(named, buffers, 1)
    before = reset_peak()
    gathering, base = synchronised(lambda: _gather(named, buffers, 0))
    beside = peak_beside(before, "cast and gather: peak beside the weights")
    with torch.no_grad():
        for parameter in named.values():
            parameter[torch.rand_like(parameter) < 0.01] *= 1.01  # the lowest bits of one weight in a hundred
    new = _gather(named, buffers, 1)
    with tempfile.TemporaryDirectory() as folder:
        rates = stages(Path(folder), base, new, THREADS, rounds=1)
    figures = [
        Figure(what="the version", value=len(base) / 1e9, unit="GB"),
        Figure(what="cast and gather", value=len(base) / gathering / 1e9, unit="GB/s"),
        *beside,
        *(Figure(what=f"{name}, {THREADS} threads", value=rate, unit="GB/s") for name, rate in rates.items()),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for number, way in enumerate(published_and_fetched(Path(folder), (base, new), THREADS)):
            name = "keyframe" if number == 0 else "delta"
            figures += [
                Figure(what=f"{name}: stored", value=way.stored / 1e9, unit="GB"),
                Figure(what=f"{name}: published", value=way.publishing, unit="s"),
                Figure(what=f"{name}: fetched", value=way.fetching, unit="s"),
                Figure(what=f"{name}: bytes that came otherwise", value=way.wrong, at_most=0),
            ]
    return figures


def _gather(named: dict[str, Any], buffers: FlatBuffers, version: int) -> np.ndarray:
    """Copy the weights to the host as the learner does at ZeRO 0: uint8 [bytes of the version]."""
    weights = buffers.at(version)
    into = tensors_of(weights)
    for group in groups_of(named):
        copy_group(group, into)
    return weights.buffer
