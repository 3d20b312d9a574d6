"""What the rollout worker asks of an engine, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from ..common.types import Responses, Ticket


class Aborted(Exception):
    """``generate`` was stopped by ``abort``: there are no responses."""


class Engine(Protocol):
    """A sampler that holds one version of the weights at a time.

    ``generate`` blocks and is called from up to ``concurrency`` threads; ``load`` is called from one other thread, and
    ``abort`` from any.
    """

    concurrency: int
    """Groups it takes side by side."""
    version: int
    """Version of the weights it samples with; -1 before the first ``load``."""

    def load(self, version: int, tensors: Mapping[str, torch.Tensor]) -> float:
        """Take new weights and return the seconds in which no token could be sampled.

        ``tensors`` are CPU tensors under the model's Hugging Face names. Returns only when every token sampled from
        now on comes from ``version``.
        """

    def generate(self, ticket: Ticket) -> Responses:
        """Sample the ticket's G responses at its temperature and top_p (top_k off), ended by an end token or by
        ``max_new_tokens``. Log-probabilities are of what was sampled from: of logits/τ where top_p is 1. The spans
        name the version of every token. Raises ``Aborted`` where ``abort`` ended it."""

    def abort(self, group_id: str) -> None:
        """Have the ``generate`` of this group under way, if there is one, end with ``Aborted``. Returns at once. An
        engine that does not answer any more must not let ``generate`` return: its worker then knows that it hangs."""

    def close(self) -> None:
        """Give back processes and memory. Safe to call twice."""
