"""What a fault gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class NothingThere(Exception):
    """Nothing to hit at this moment."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What a fault has done."""

    what: str
    lasts_s: float = 0.0
    end: Callable[[], object] | None = None
    """Undoes it, ``lasts_s`` later; a text that it gives is logged."""
