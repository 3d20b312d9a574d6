"""The interface between the rollout worker and its engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from ..common.types import Responses, Ticket


class Aborted(Exception):
    """``abort`` has stopped ``generate``: there are no responses."""


class Engine(Protocol):
    """A sampler that holds one version of the weights at a time.

    ``generate`` blocks and is called from up to ``concurrency`` threads; ``load`` is called from one other thread, and
    ``abort`` from any.
    """

    concurrency: int
    """How many groups the engine takes side by side."""
    version: int
    """Version of the weights that the engine samples from; -1 before the first ``load``."""

    def load(self, version: int, tensors: Mapping[str, torch.Tensor], file: Path | None = None) -> float:
        """Take new weights and return the seconds in which no token could be sampled.

        ``tensors`` are CPU tensors under the model's Hugging Face names. ``file`` is a safetensors file of this machine
        that holds them too, if there is one: an engine with processes of its own reads that. It returns only once every
        further token is sampled from ``version``. Then nothing uses ``tensors`` or ``file`` any more, because the next
        version is written in their place.
        """

    def generate(self, ticket: Ticket) -> Responses:
        """Sample the ticket's G responses at its temperature and top_p, without top_k. A response ends at an end token
        or after ``max_new_tokens``. Log-probabilities are those of the distribution that was sampled from: of logits/τ
        where top_p is 1. The spans name the version of every token. Raises ``Aborted`` where ``abort`` ended it.

        Of an engine that has environments, an end token ends a turn, and ``max_new_tokens`` bounds a conversation: what
        is sampled and what is observed. Raises ``EnvironmentFailed`` where an environment has failed."""

    def abort(self, group_id: str) -> None:
        """Make the ``generate`` of this group end with ``Aborted``, if it is under way. Returns at once. An engine that
        no longer answers must not let ``generate`` return, so that its worker notices that the engine hangs."""

    def close(self) -> None:
        """Give back processes and memory. Safe to call twice."""
