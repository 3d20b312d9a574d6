"""What a configuration asks for, as the plain values that this package counts with."""

from ....common.config import Config
from .learner import Learner, Precision
from .rollout import Worker
from .shapes import shape_of
from .speed import Asked, Gpu

_HALVES: dict[str, Precision] = {"autocast": "autocast", "weights": "bfloat16"}
_WIDTHS = {"float32": 4, "bfloat16": 2}
RANKS_A_NODE = 8
"""Most learner ranks of a node, for what a node holds."""
MEAN_LENGTH = 1 / 4
"""A response's mean length, as a share of the longest, where nobody says it: 4,000 tokens of 16K."""


def learner_of(config: Config, gpu: Gpu, *, on_gpu: bool = True) -> Learner:
    """One rank of the learner. ``gpu``: what its GPU is."""
    train = config.train
    return Learner(
        ranks=train.ranks,
        zero_stage=train.zero_stage,
        offload=train.offload,
        precision="float32" if config.model.dtype == "float32" else _HALVES[train.bfloat16],
        checkpointing=train.gradient_checkpointing,
        tokens=train.micro_batch_tokens,
        gradient_cosine=config.metrics.gradient_cosine,
        references=tuple(_parameters(path) if path != config.model.path else None for path in config.references),
        references_apart=config.placement.reference == "own",
        inputs_on_host=train.offload_activations,
        logits_bytes=train.logits_memory * gpu.bytes if on_gpu else None,
    )


def _parameters(model_path: str) -> int | None:
    shape = shape_of(model_path)
    return None if shape is None else shape.parameters


def worker_of(config: Config, gpu: Gpu) -> Worker:
    """One rollout worker."""
    rollout = config.rollout
    return Worker(
        width=_WIDTHS[rollout.dtype],
        tensor_parallel=rollout.tensor_parallel,
        gpu_bytes=gpu.bytes,
        utilization=rollout.gpu_memory_utilization,
        longest=config.longest_sequence,
        at_once=config.most_responses_at_once,
    )


def asked_of(view: Config, mean_length: float | None = None) -> Asked:
    """A training step of a stage; ``view`` is the configuration as it is in the stage."""
    train, entropy, objective = view.train, view.entropy, view.objective
    needs_entropy = entropy.control == "adaptive" and entropy.rule == "report"
    measured = objective.measures_first(train.updates_per_step) or needs_entropy
    every = view.metrics.kl_every
    against_reference = 1.0 if objective.kl_beta > 0 else 1.0 / every if every else 0.0
    return Asked(
        responses=train.groups_per_step * train.group_size,
        length=mean_length or MEAN_LENGTH * train.max_response_tokens,
        prompt=MEAN_LENGTH * view.max_prompt_tokens,
        group_size=train.group_size,
        passes_before=measured + against_reference + objective.ratio_passes(train.updates_per_step, train.reuse),
        reuse=train.reuse,
        overlap=view.flow.largest_bound > 0,
    )


def published_width(config: Config) -> int:
    """Bytes of a published weight."""
    return _WIDTHS[config.weights.dtype]
