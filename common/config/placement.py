"""The section on which GPUs the processes have."""

from typing import Literal

from pydantic import Field

from ..errors import ConfigError
from ..limits import MOST_PROCESSES
from .section import Section

MOST_SHARED = 0.5
"""The largest ``rollout.gpu_memory_utilization`` with which a worker may share a GPU with a learner rank."""


class Placement(Section):
    learner: Literal["auto", "gpu", "cpu"] = "auto"
    """What the learner computes on. ``gpu``: each of the ``train.ranks`` has a GPU of its own. ``auto``: that, where
    the machine has GPUs, and else the CPU."""
    rollout: Literal["auto", "gpu", "learner", "cpu"] = "auto"
    """What rollout workers compute on. ``gpu``: each worker has ``rollout.tensor_parallel`` GPUs of its own, on one
    node. ``learner``: the same number, but of the learner's GPUs. ``auto``: ``gpu`` where the machine has GPUs, and
    else the CPU. The torch engine computes on the CPU."""
    reference: Literal["learner", "own"] = "learner"
    """Where the reference model of ``objective.kl_beta`` and ``metrics.kl_every`` lies. ``learner``: on the learner's
    GPUs. ``own``: each learner rank has a second GPU for it, which holds the whole of it. So it is with several, where
    stages have references of their own."""
    gpus_per_node: int = Field(default=8, ge=1, le=MOST_PROCESSES)
    """GPUs of each node. ``--dry-run`` draws layouts with it; ``leeway up`` counts those of its own machine."""

    def refuse_impossible(self, engine: str, gpu_memory_utilization: float, *, has_reference: bool) -> None:
        """``ConfigError`` if a process could not use its GPUs."""
        if engine == "torch" and self.rollout in ("gpu", "learner"):
            raise ConfigError(
                f"placement.rollout = {self.rollout!r} needs rollout.engine = 'vllm': the torch engine computes on the "
                "CPU; 'cpu' or 'auto' is right for it"
            )
        if self.rollout == "learner" and self.learner == "cpu":
            raise ConfigError(
                "placement.rollout = 'learner' with placement.learner = 'cpu': the learner has no GPUs to share"
            )
        if self.rollout == "learner" and gpu_memory_utilization > MOST_SHARED:
            raise ConfigError(
                f"placement.rollout = 'learner' with rollout.gpu_memory_utilization = {gpu_memory_utilization}: vLLM "
                f"takes that share of a GPU's memory, and the learner on the same GPU needs the rest; at most "
                f"{MOST_SHARED} is right"
            )
        if self.reference == "own" and not has_reference:
            raise ConfigError(
                "placement.reference = 'own' with objective.kl_beta = 0 and metrics.kl_every = 0: no reference is "
                "loaded; give one of them, or leave placement.reference out"
            )
        if self.reference == "own" and self.learner == "cpu":
            raise ConfigError(
                "placement.reference = 'own' with placement.learner = 'cpu': the reference has a GPU beside the "
                "learner's"
            )
