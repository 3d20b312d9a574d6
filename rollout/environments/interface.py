"""The interface between an engine and the environments."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol, Self

from .turn import Turn

if TYPE_CHECKING:
    import numpy as np

    from ...common.types import Ticket


class Conversations(Protocol):
    """One group's conversations with its environments, one for each response. A context manager: its end stops what is
    under way and frees the process. It may be used from any thread."""

    @property
    def rewards_S(self) -> np.ndarray:
        """What the turns so far are worth, summed up for each response. float64, shape [G]."""

    def step(self, response: int, tokens: Sequence[int]) -> Future[Turn]:
        """Give a response's turn to its environment: the turn's sampled tokens, end token included. Returns at once.
        The future raises ``EnvironmentFailed`` where there is no answer; the group is then to be generated again."""

    def close(self) -> None:
        """Stop what is under way: its futures end as cancelled. Safe to call twice."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class EnvironmentHost(Protocol):
    """The environments of one rollout worker. It may be used from any thread."""

    def open(self, ticket: Ticket) -> Conversations:
        """Reset G environments for a group: response j's has the seed ``ticket.seed + j``. Blocks until a process is
        free and all are reset. Raises ``EnvironmentFailed``."""

    def close(self) -> None:
        """End the processes. What is under way ends as cancelled. Safe to call twice."""
