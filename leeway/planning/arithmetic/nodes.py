"""What a configuration asks of the nodes: their memory, their disk, and Redis."""

from ....common.config import Config
from .asked import RANKS_A_NODE, learner_of, published_width
from .host import learner_host, loading, shared_memory, taking_in
from .learner import Part, peak
from .shapes import Shape
from .speed import Gpu
from .storage import checkpoint_bytes, group_bytes, groups_in_redis, on_disk


def learner_node(config: Config, shape: Shape, gpu: Gpu) -> tuple[list[Part], Part]:
    """(what the node of rank 0 holds in its memory while it trains, what its ranks take before that, to start)."""
    learner = learner_of(config, gpu)
    held = learner_host(learner, shape, ranks_a_node=RANKS_A_NODE, snapshot=config.train.async_checkpoint)
    return held, loading(learner, shape, ranks_a_node=RANKS_A_NODE)


def learner_on_cpu(config: Config, shape: Shape) -> float:
    """Bytes that all ranks take at their peak where they compute on the CPU of one machine."""
    return config.train.ranks * peak(learner_of(config, Gpu(), on_gpu=False), shape).device


def rollout_node(config: Config, shape: Shape) -> list[Part]:
    """What a rollout node holds of the weights in its memory, the part in shared memory first."""
    return [shared_memory(shape, width=published_width(config)), taking_in(shape)]


def left_on_disk(config: Config, shape: Shape) -> list[Part]:
    """What a run leaves on disk and in Redis: checkpoints, versions of the weights, samples."""
    return on_disk(
        shape,
        checkpoint=_checkpoint(config, shape),
        # One that is still being copied elsewhere stays until it is.
        kept=_kept(config) + (config.checkpoints.copy_to is not None),
        width=published_width(config),
        keyframe_every=config.weights.keyframe_every,
        samples=config.metrics.samples_bytes if config.metrics.samples_every else 0,
        by_file=config.weights.transport == "file",
    )


def left_elsewhere(config: Config, shape: Shape) -> list[Part]:
    """What a run leaves at ``checkpoints.copy_to``, beside its ledger, its metrics and its samples."""
    each, kept = _checkpoint(config, shape), _kept(config)
    how = f"({kept} kept + 1 being written) x {each / 1e9:,.1f} GB, and the ledger with each"
    return [Part("copies of checkpoints", 0.0, (kept + 1) * each, how)]


def _kept(config: Config) -> int:
    return config.train.keep_checkpoints + (config.train.keep_best is not None)


def _checkpoint(config: Config, shape: Shape) -> float:
    return checkpoint_bytes(shape, zero_stage=config.train.zero_stage, width=learner_of(config, Gpu()).width)


def redis_bytes(view: Config, vocabulary: int | None, *, beside: bool) -> int:
    """Most bytes of payload in Redis in a stage, if every response is the longest."""
    train = view.train
    groups = groups_in_redis(
        groups_per_step=train.groups_per_step,
        max_staleness=view.flow.largest_bound,
        checkpoint_every=train.checkpoint_every,
        beside=beside,
    )
    each = group_bytes(
        group_size=train.group_size,
        response=train.max_response_tokens,
        prompt=view.max_prompt_tokens,
        vocabulary=vocabulary,
    )
    return groups * each


def in_redis(config: Config, shape: Shape) -> float:
    """Most bytes that a run has in Redis, in the stage that has the most: groups, and the weights if they travel so."""
    beside = config.train.async_checkpoint
    groups = max(redis_bytes(view, shape.vocabulary, beside=beside) for view in config.views())
    versions = left_on_disk(config, shape)[1].host if config.weights.transport == "redis" else 0.0
    return groups + versions
