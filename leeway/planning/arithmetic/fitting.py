"""Whether a configuration fits its GPUs, and which keys would make it fit. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ....common.config import Config
from ....common.wording import byte_size
from .asked import learner_of, worker_of
from .learner import Learner, peak, whole_references
from .rollout import Worker, that_fit
from .shapes import Shape
from .speed import Gpu

_MOST_TENSOR_PARALLEL, _MOST_RANKS = 64, 1024


def why_not(config: Config, shape: Shape, gpu: Gpu) -> str | None:
    """Why the learner, its reference or a rollout worker does not fit its GPUs, with the keys that would make it fit;
    None if all fit."""
    found = [_learner(config, shape, gpu), _reference(config, shape, gpu), _rollout(config, shape, gpu)]
    return "; ".join(filter(None, found)) or None


def learner_bytes(config: Config, shape: Shape, gpu: Gpu) -> float:
    """Bytes that a learner rank takes on its GPU at the peak."""
    return peak(learner_of(config, left_to_learner(config, gpu)), shape).device


def left_to_learner(config: Config, gpu: Gpu) -> Gpu:
    """What the learner has of a GPU: all of it, or what vLLM leaves where they share it."""
    shared = config.placement.rollout == "learner"
    return replace(gpu, bytes=gpu.bytes * (1 - config.rollout.gpu_memory_utilization)) if shared else gpu


def _learner(config: Config, shape: Shape, gpu: Gpu) -> str | None:
    left, has = left_to_learner(config, gpu), byte_size(gpu.bytes)
    learner = learner_of(config, left)
    if left != gpu:
        share = config.rollout.gpu_memory_utilization
        has = f"{has}, of which vLLM takes {share} (rollout.gpu_memory_utilization, placement.rollout = 'learner')"
        gpu = left
    needed = peak(learner, shape).device
    if needed <= gpu.bytes:
        return None
    said = f"a learner rank needs {byte_size(needed)} of a GPU that has {has}"
    changes = list(_changes(learner, config.longest_sequence))
    alone = [change for change in changes if _fits(learner, change, shape, gpu)]
    if alone:
        ways = [_way(learner, change, shape) for change in alone]
        return f"{said}; it would fit with {', or with '.join(ways)}"
    together, so_far = list[dict[str, Any]](), dict[str, Any]()
    for change in changes:
        so_far |= change
        together.append(dict(so_far))
    enough = next((change for change in together if _fits(learner, change, shape, gpu)), None)
    if enough is not None:
        return f"{said}; no key alone is enough: it would fit with {_way(learner, enough, shape)}"
    return f"{said}, and no keys make it fit: the longest sequence of {config.longest_sequence:,} tokens is too long"


def _reference(config: Config, shape: Shape, gpu: Gpu) -> str | None:
    learner = learner_of(config, gpu)
    if not learner.references_apart or (needed := whole_references(learner, shape)) <= gpu.bytes:
        return None
    return (
        f"a reference needs {byte_size(needed)} of a GPU of its own that has {byte_size(gpu.bytes)}; "
        "placement.reference = 'learner' shares it out over the learner's ranks"
    )


def _changes(learner: Learner, longest: int) -> Iterator[dict[str, Any]]:
    """Changes of a layout that save memory, those that cost least first, by the names of its fields."""
    if learner.tokens > longest:
        yield {"tokens": longest}
    if not learner.checkpointing:
        yield {"checkpointing": True}
    if learner.zero_stage < 3 and learner.ranks > 1:
        yield {"zero_stage": 3}
    if learner.precision == "autocast":
        yield {"zero_stage": max(1, learner.zero_stage), "precision": "bfloat16"}
    if learner.offload == "none":
        yield {"zero_stage": max(1, learner.zero_stage), "offload": "optimizer"}
    if not learner.inputs_on_host:
        yield {"checkpointing": True, "inputs_on_host": True}
    ranks = 2 * learner.ranks
    while ranks <= min(8 * learner.ranks, _MOST_RANKS):
        yield {"zero_stage": 3, "ranks": ranks}
        ranks *= 2


def _fits(learner: Learner, change: Mapping[str, Any], shape: Shape, gpu: Gpu) -> bool:
    return peak(replace(learner, **change), shape).device <= gpu.bytes


_KEYS = {
    "tokens": "train.micro_batch_tokens",
    "checkpointing": "train.gradient_checkpointing",
    "zero_stage": "train.zero_stage",
    "precision": "train.bfloat16",
    "offload": "train.offload",
    "inputs_on_host": "train.offload_activations",
    "ranks": "train.ranks",
}


def _way(learner: Learner, change: Mapping[str, Any], shape: Shape) -> str:
    """A change in the words of the configuration's keys, and what a rank would need then."""
    written = {True: "true", "optimizer": '"optimizer"', "bfloat16": '"weights"'}
    keys = [
        f"{_KEYS[name]} = {written.get(value, value)}"
        for name, value in change.items()
        if value != getattr(learner, name)
    ]
    return f"{' and '.join(keys)} ({byte_size(peak(replace(learner, **change), shape).device)})"


def _rollout(config: Config, shape: Shape, gpu: Gpu) -> str | None:
    worker = worker_of(config, gpu)
    if config.rollout.engine != "vllm" or that_fit(worker, shape, worker.longest):
        return None
    share = byte_size(worker.tensor_parallel * gpu.bytes * worker.utilization)
    said = f"a rollout worker's {share} hold no longest sequence of {worker.longest:,} tokens beside the weights"
    wider = next((each for each in _wider(worker, shape) if that_fit(each, shape, each.longest)), None)
    if wider is None:
        return said
    return f"{said}; they would with rollout.tensor_parallel = {wider.tensor_parallel}"


def _wider(worker: Worker, shape: Shape) -> Iterator[Worker]:
    """The same worker over more GPUs, as many as divide the attention heads."""
    for gpus in range(worker.tensor_parallel + 1, _MOST_TENSOR_PARALLEL + 1):
        if shape.heads % gpus == 0:
            yield replace(worker, tensor_parallel=gpus)


def longest_row(learner: Learner, shape: Shape, gpu: Gpu) -> int:
    """The most tokens of a micro-batch, and so of a sequence, that a learner rank's GPU holds; 0 where it does not hold
    the states. Rounded down to 1,024."""
    most = 0
    for bit in reversed(range(14)):  # up to 16 million tokens
        tokens = most + (1 << bit)
        if peak(replace(learner, tokens=1024 * tokens), shape).device <= gpu.bytes:
            most = tokens
    return 1024 * most


def longest_context(config: Config, shape: Shape, gpu: Gpu) -> int:
    """The most tokens of one prompt and response that a learner rank of ``config`` can train: its ``longest_row`` on
    what it has of its GPU."""
    left = left_to_learner(config, gpu)
    return longest_row(learner_of(config, left), shape, left)
