"""Prompts of poisoned tickets, asked again under new tickets. No I/O.

A refunded ticket is closed for good. If it came back, it could be trained beside the group that took its place, and no
ledger could tell. So an operator's retry (``leeway dead-letters retry``) asks for the *prompt* again: the next ticket
to be issued, whatever its number, takes over what the poisoned one asked, with its own sampling seed.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

KEPT = 10_000
"""How many poisoned groups are remembered, the newest ones; Redis keeps as many dead letters."""


class Retry(NamedTuple):
    """One request that a ticket takes up."""

    group_id: str
    """The poisoned group that the operator named."""
    prompt_id: str
    """The prompt that it asked."""


class Retries:
    """Which groups were poisoned, which are to be asked again, and which live tickets ask them."""

    def __init__(self) -> None:
        self._poisoned: dict[str, str] = {}
        """Prompt ids, by poisoned group; so in ``_waiting``."""
        self._waiting: dict[str, str] = {}
        self._taken: dict[int, Retry] = {}

    def poisoned(self, group_id: str, prompt_id: str) -> None:
        """Remember that a group was refunded as ``poison``."""
        self._poisoned[group_id] = prompt_id
        if len(self._poisoned) > KEPT:
            del self._poisoned[next(iter(self._poisoned))]

    def ask(self, group_ids: Iterable[str]) -> None:
        """Take up requests. A request for a group that is not poisoned, or that was taken up before, changes
        nothing."""
        for group_id in group_ids:
            if group_id in self._poisoned:
                self._waiting[group_id] = self._poisoned.pop(group_id)

    def take(self, number: int) -> Retry | None:
        """The request that new ticket ``number`` takes over, the earliest one; None where none waits."""
        if not self._waiting:
            return None
        group_id = next(iter(self._waiting))
        self._taken[number] = Retry(group_id, self._waiting.pop(group_id))
        return self._taken[number]

    def of(self, number: int) -> Retry | None:
        """The request that live ticket ``number`` took over when it was issued, if any."""
        return self._taken.get(number)

    def close(self, number: int) -> None:
        """Forget ticket ``number``, which is no longer live."""
        self._taken.pop(number, None)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON. A rollback takes requests back with the tickets that took them up."""
        return {
            "poisoned": self._poisoned,
            "waiting": self._waiting,
            "taken": {str(number): retry for number, retry in self._taken.items()},
        }

    def restore(self, state: dict[str, Any], drawn: Callable[[int, int], str]) -> None:
        """Go back to what ``state`` gave. An older Leeway wrote (ticket, stage) where this one writes the prompt's id;
        ``drawn`` says which prompt these draw."""

        def prompt_id(asked: str | list[int]) -> str:
            return asked if isinstance(asked, str) else drawn(*asked)

        self._poisoned = {group_id: prompt_id(asked) for group_id, asked in state["poisoned"].items()}
        self._waiting = {group_id: prompt_id(asked) for group_id, asked in state["waiting"].items()}
        self._taken = {int(number): Retry(group, prompt_id(asked)) for number, (group, asked) in state["taken"].items()}
