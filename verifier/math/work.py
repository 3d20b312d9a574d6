"""Limits the work of one comparison, counted in units of about a microsecond, so that none can be slow.

Nothing here looks at a clock, so a count comes out the same on a busy machine. ``spend`` is called where work grows
with the text (shapes, leaves, products of polynomials, calls of Math-Verify). Outside of an ``allowance`` it costs
nothing and forbids nothing.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

QUICK_STEPS = 30_000
"""The allowance in a process that must not be killed. What takes more goes to one that may be killed."""
SLOW_STEPS = 3_000_000
"""The allowance in a process that may be killed, well within its clock."""
SYMBOLIC_STEPS = 20_000
"""The count of one question to Math-Verify."""


class OutOfWork(Exception):
    """The allowance is used up. Caches do not keep it, and nobody takes it for a verdict."""


class _Left(threading.local):
    steps: int | None = None


_left = _Left()


@contextmanager
def allowance(steps: int) -> Iterator[None]:
    """Let this thread spend ``steps`` units within the block. ``OutOfWork`` is raised there when it wants more."""
    before, _left.steps = _left.steps, steps
    try:
        yield
    finally:
        _left.steps = before


def spend(steps: int) -> None:
    """Count ``steps`` units. Raises ``OutOfWork`` if they are not left."""
    if _left.steps is None:
        return
    _left.steps -= steps
    if _left.steps < 0:
        raise OutOfWork
