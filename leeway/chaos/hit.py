"""What a fault returns."""

from collections.abc import Callable
from dataclasses import dataclass


class NothingThere(Exception):
    """There is nothing to hit at this moment."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What a fault has done."""

    what: str
    lasts_s: float = 0.0
    end: Callable[[], object] | None = None
    """Called ``lasts_s`` later to undo the fault; the text that it returns, if any, is logged."""
