"""Three-valued logic: True, False, and None for not decided."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

Truth: TypeAlias = bool | None
LeafTest: TypeAlias = Callable[[str, str], Truth]
"""(answer, gold) -> equal, different, or not decided."""


def all_of(truths: Iterable[Truth]) -> Truth:
    """False if one is False, else None if one is not decided, else True. It reads no further than the first False."""
    found: Truth = True
    for truth in truths:
        if truth is False:
            return False
        if truth is None:
            found = None
    return found


def any_of(truths: Iterable[Truth]) -> Truth:
    """True if one is True, else None if one is not decided, else False. It reads no further than the first True."""
    found: Truth = False
    for truth in truths:
        if truth:
            return True
        if truth is None:
            found = None
    return found
