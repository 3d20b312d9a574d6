"""How well a training step uses its devices: operations, tokens and memory of each. A device is a GPU; without GPUs it
is a process."""

import logging
from collections.abc import Sequence

import numpy as np
import torch

from ..common.config import Config
from ..common.flops import PEAK_TFLOPS, Sizes, layer_flops, layer_weights, sizes_of, training_flops
from ..common.types import Heartbeat
from . import memory
from .model import PolicyModule
from .packing import ScoredGroup
from .policy import Policy

log = logging.getLogger(__name__)


class Hardware:
    """Measures training steps on rank 0. It asks the other ranks nothing."""

    def __init__(self, policy: Policy, config: Config) -> None:
        self._config, self._ranks = config, policy.world
        self._sizes = sizes_in(policy.module, config.longest_sequence)
        card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        self._peak = peak_tflops(config, card)
        if self._sizes is None:
            log.info("no MFU: the operations of a %s are not known", type(policy.module.language_model).__name__)
        elif self._peak is None:
            log.info("no MFU: what %s can do is not known; metrics.peak_tflops says it", card or "this processor")

    def measured(
        self,
        step: int,
        groups: Sequence[ScoredGroup],
        measured: dict[str, float],
        times: dict[str, float],
        *,
        oldest: int | None,
    ) -> dict[str, float]:
        """Metrics of the training step by name. ``groups``: those of all ranks. ``measured``: what ``train_step`` gave.
        ``times``: seconds, as ``step_metrics.timed`` notes them. ``oldest``: the staleness past which tokens are
        context alone, where there is one."""
        device, host = memory.peaks()
        found = {
            "memory/device_peak_bytes": max(device, measured["memory/device_peak_bytes"]),
            "memory/host_peak_bytes": max(host, measured["memory/host_peak_bytes"]),
            "memory/host_peak_bytes/rank_0": host,
        }
        if self._sizes is None:
            return found
        reuse, rows = self._config.train.reuse, rows_of(groups, step, oldest)
        tokens, before = int(measured["batch/tokens"]), measured["policy/passes_before"]
        needed = training_flops(self._sizes, rows, tokens, passes=reuse, before=before)
        again = reuse * layer_flops(self._sizes, rows) if self._config.train.gradient_checkpointing else 0.0
        each = 1e-12 / (times["time/train_s"] * self._ranks)
        found["throughput/learner_tflops_per_gpu"] = needed * each
        if self._peak is not None:
            found["throughput/mfu"] = needed * each / self._peak
            found["throughput/hfu"] = (needed + again) * each / self._peak
        return found

    def per_gpu(self, learner: float, rollout: float, workers: Sequence[Heartbeat]) -> dict[str, float]:
        """Tokens a second of each device, out of those of all, and the memory of the largest rollout worker. Both are
        left out of rollout while nobody of it is there."""
        found = {"throughput/learner_tokens_per_s_per_gpu": learner / self._ranks}
        sampling = [worker for worker in workers if worker.role == "rollout"]
        if sampling:
            devices = len(sampling) * self._config.rollout.tensor_parallel
            found["throughput/rollout_tokens_per_s_per_gpu"] = rollout / devices
            found["memory/rollout_bytes"] = max(worker.resident_bytes for worker in sampling)
        return found


def peak_tflops(config: Config, card: str | None) -> float | None:
    """What a device can do, in TFLOP/s; None where that is not known. ``card``: what CUDA calls the GPU, if it is one.
    The table is of bfloat16, and says nothing of float32."""
    known = PEAK_TFLOPS.get(card) if card is not None and config.model.dtype == "bfloat16" else None
    return config.metrics.peak_tflops or known


def sizes_in(module: PolicyModule, longest: int) -> Sizes | None:
    """The sizes of a model whose every token goes through all of its matrices, as ``flops.py`` counts them; None for
    another kind: experts, layers of another shape, a window that is shorter than the ``longest`` sequence."""
    model = module.language_model
    keys = model.config.to_dict()
    sizes, window = sizes_of(keys), getattr(model.config, "sliding_window", None)
    if sizes is None or (window is not None and window < longest):
        return None
    apart = {id(model.get_input_embeddings().weight), id(model.get_submodule(module.head).weight)}
    # Under ZeRO stage 3 a parameter's own shape is that of what is here of it.
    shapes = [getattr(each, "ds_shape", each.shape) for each in model.parameters() if id(each) not in apart]
    matrices = sum(shape.numel() for shape in shapes if len(shape) > 1)
    return sizes if matrices == layer_weights(sizes) else None


def rows_of(groups: Sequence[ScoredGroup], step: int, oldest: int | None) -> list[tuple[int, ...]]:
    """Of each group the tokens of its prompt, and those that each response adds to it, as ``MicroBatch.layout`` has
    them; each prompt once. A response whose tokens are all past ``oldest`` is not computed."""
    rows = []
    for group in groups:
        spans, lengths_S = group.responses.spans.astype(np.int64), group.responses.lengths_S.astype(np.int64)
        newest_S = np.full(len(lengths_S), -1)
        np.maximum.at(newest_S, spans[:, 0], spans[:, 1])
        used_S = newest_S >= (0 if oldest is None else step - oldest)
        if used_S.any():
            rows.append((len(group.ticket.prompt_tokens_P), *(lengths_S[used_S] - 1).tolist()))
    return rows
