"""The weights that are judged: those of a model folder, which are published to the rollout workers as version 0."""

from typing import Any

from ..common.config import Config, expand
from ..common.errors import DataError
from ..common.preflight.folder import some
from ..common.queue.learner import LearnerQueue
from ..common.weights import FlatWeights, WeightPublisher, checksum


def weights_of(config: Config) -> FlatWeights:
    """The weights of ``config.model.path``, as they are published. ``DataError`` where there is no model."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from ..common.tensors import flatten

    logging.disable_progress_bar()
    path, dtype = expand(config.model.path), config.weights.dtype
    try:
        found: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype), output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"--model {path}: cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    model, loaded = found
    if loaded["missing_keys"]:  # transformers has set them at random
        raise DataError(f"--model {path}: the weights lack {some(sorted(loaded['missing_keys']))}")
    return flatten(dict(model.named_parameters()), dtype)


def checksum_of(config: Config) -> str:
    """The checksum under which the weights would be published. It says whether a finished folder is of this model."""
    return checksum(weights_of(config).buffer)


def publisher(queue: LearnerQueue, config: Config, incarnation: int) -> WeightPublisher:
    """A publisher that writes every version whole, and keeps only the newest."""
    folder = config.weights.shared
    return WeightPublisher(
        queue.weights,
        incarnation=incarnation,
        transport=config.weights.transport,
        folder=folder,
        keyframe_every=1,
        keep=1,
        threads=config.weights.threads,
    )
