"""How fast a layout would be, and who waits for whom. Estimates from a GPU's data sheet and from two shares of it that
are assumed, not measured: none of this was ever compared with a GPU.
"""

from dataclasses import dataclass

from ....common.flops import flops_per_token
from .learner import Learner
from .rollout import Worker, cache_bytes, kv_bytes_a_token, that_fit, weight_bytes
from .shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU, by its data sheet, and what is assumed of its use. By default an H100 (SXM)."""

    name: str = "H100"
    bytes: float = 80e9
    half_flops: float = 989e12
    """Operations a second in bfloat16, dense."""
    single_flops: float = 67e12
    """Operations a second in float32."""
    bandwidth: float = 3.35e12
    """Bytes a second of its memory."""
    mfu: float = 0.35
    """Assumed: the share of its operations that training makes."""
    bandwidth_use: float = 0.6
    """Assumed: the share of its bandwidth that decoding reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a training step asks for."""

    responses: int
    length: float
    """Mean tokens of a response."""
    prompt: float
    """Tokens of a prompt."""
    group_size: int
    passes_before: float
    """Forward passes without a backward one: for π_old or the entropy, for the KL reference, and for the ratios of
    whole responses."""
    reuse: int
    overlap: bool
    """Whether rollout and training run side by side (η above 0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Estimates. Rates are in response tokens a second."""

    learner: float
    """All its GPUs."""
    worker: float
    """A rollout worker, under full load."""
    alone: float
    """One response that has a worker for itself."""
    added_s: float
    """Seconds that each further response adds to a token of a worker's others."""
    at_once: int
    """Responses that a worker samples side by side: as many as it is given, and as fit."""
    rollout: float
    """All rollout workers."""
    train_s: float
    rollout_s: float
    step_s: float

    @property
    def waiting(self) -> str:
        """Who waits for whom."""
        slow, fast = sorted(((self.train_s, "rollout"), (self.rollout_s, "the learner")))
        idle = 1 - slow[0] / fast[0]
        return f"{fast[1]} waits {100 * idle:.0f} % of the time" if idle >= 0.005 else "neither waits"


def learner_rate(learner: Learner, shape: Shape, asked: Asked, gpu: Gpu) -> float:
    """Response tokens that the learner trains in a second, with all its GPUs. A prompt's tokens are computed once for
    each group and count as work."""
    peak = gpu.half_flops if learner.half else gpu.single_flops
    row = asked.prompt + asked.length
    forward = flops_per_token(shape, row / 2)
    again = flops_per_token(shape, row / 2, head=False) if learner.checkpointing else 0.0
    work = asked.reuse * (3 * forward + again) + asked.passes_before * forward
    prompts = 1 + asked.prompt / (asked.group_size * asked.length)
    return learner.ranks * gpu.mfu * peak / (work * prompts)


def decoding(worker: Worker, shape: Shape, asked: Asked, gpu: Gpu) -> tuple[float, float]:
    """(seconds of a token of a response that is alone, seconds that each further response adds to it).

    Reading the weights takes as long for one response as for many. Each response adds its keys and values to what is
    read, and its own operations.
    """
    read = gpu.bandwidth * gpu.bandwidth_use * worker.tensor_parallel
    context = asked.prompt + asked.length / 2
    keys = kv_bytes_a_token(shape, worker.width) * context / read
    operations = gpu.half_flops if worker.width == 2 else gpu.single_flops
    compute = flops_per_token(shape, context) / (worker.tensor_parallel * operations * gpu.mfu)
    return weight_bytes(worker, shape) / read + keys + compute, keys + compute


def speed(learner: Learner, worker: Worker, workers: int, shape: Shape, asked: Asked, gpu: Gpu) -> Speed | None:
    """The estimate for a training step; None where a worker's GPUs do not hold one response of mean length."""
    fit = that_fit(worker, shape, asked.prompt + asked.length) if cache_bytes(worker, shape) > 0 else 0
    at_once = min(worker.at_once, fit, -(-asked.responses // workers))
    if at_once < 1:
        return None
    alone_s, added_s = decoding(worker, shape, asked, gpu)
    of_one = at_once / (alone_s + (at_once - 1) * added_s)
    tokens = asked.responses * asked.length
    trained = learner_rate(learner, shape, asked, gpu)
    train_s, rollout_s = tokens / trained, tokens / (workers * of_one)
    return Speed(
        learner=trained,
        worker=of_one,
        alone=1 / alone_s,
        added_s=added_s,
        at_once=at_once,
        rollout=workers * of_one,
        train_s=train_s,
        rollout_s=rollout_s,
        step_s=max(train_s, rollout_s) if asked.overlap else train_s + rollout_s,
    )
