"""The system that a configuration describes, before anything of it was measured: estimates in the place of
measurements."""

from ...common.config import Config
from ...common.errors import ConfigError
from .arithmetic.asked import asked_of
from .arithmetic.page import speeds
from .arithmetic.shapes import Shape, why_unknown
from .arithmetic.speed import Gpu
from .lengths import lognormal
from .simulate import System

SIGMA = 0.6
"""σ of lognormal response lengths where nobody says it."""


def system_of(
    config: Config, shape: Shape | None, gpu: Gpu, *, mean: float | None, sigma: float | None, longest: int | None
) -> System:
    """The first stage of ``config`` on GPUs such as ``gpu``. ``mean``, ``sigma`` and ``longest`` are of lognormal
    response lengths, in tokens; by default a quarter of the stage's longest response, 0.6, and that longest response.

    Raises ``ConfigError`` where the model's sizes are unknown or the engine is not estimated.
    """
    if shape is None:
        raise ConfigError(f"--preset: nothing can be estimated: {why_unknown(config.model.path)}")
    if config.rollout.engine != "vllm":
        raise ConfigError("--preset: nothing can be estimated for rollout.engine = 'torch'; --from takes a run of it")
    view = config.at_stage(0)
    asked = asked_of(view, mean)
    estimate = speeds(config, shape, gpu, mean)[0]
    if estimate is None:
        raise ConfigError("--preset: a rollout worker's GPUs hold no response of mean length beside the weights")
    train, flow = view.train, view.flow
    return System(
        lengths_GS=lognormal(
            asked.length,
            SIGMA if sigma is None else sigma,
            longest or train.max_response_tokens,
            group_size=train.group_size,
            seed=0,
        ),
        groups_per_step=train.groups_per_step,
        steps=100,
        max_staleness=flow.max_staleness,
        auto=flow,
        overflow=flow.overflow,
        pipeline_depth=flow.pipeline_depth,
        replicas=config.rollout.workers,
        concurrency=max(1, estimate.at_once // train.group_size),
        alone=estimate.alone,
        peak=1 / estimate.added_s,
        train_s=0.0,
        train_s_per_token=1 / estimate.learner,
        checkpoint_every=train.checkpoint_every,
    )
