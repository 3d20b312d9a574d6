"""How much work one comparison may cost, counted in steps of about a microsecond, so that none of it can be slow.

Nothing here looks at a clock: a count comes out the same on a busy machine. ``spend`` is called where work is done
that grows with the text (shapes, leaves, products of polynomials, calls of Math-Verify); outside of an ``allowance`` it
costs nothing and forbids nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

QUICK_STEPS = 30_000
"""For a process that must not be killed: what takes more is for one that may be."""
SLOW_STEPS = 3_000_000
"""For a process that may be killed, well within its clock."""
SYMBOLIC_STEPS = 20_000
"""What one question to Math-Verify counts as."""


class OutOfWork(Exception):
    """The allowance is used up. Caches do not keep it, and nobody takes it for a verdict."""


class _Left(threading.local):
    steps: int | None = None


_left = _Left()


@contextmanager
def allowance(steps: int) -> Iterator[None]:
    """Let this thread spend ``steps`` within the block; ``OutOfWork`` is raised in there when it wants more."""
    before, _left.steps = _left.steps, steps
    try:
        yield
    finally:
        _left.steps = before


def spend(steps: int) -> None:
    """Count ``steps``; ``OutOfWork`` where they are not left."""
    if _left.steps is None:
        return
    _left.steps -= steps
    if _left.steps < 0:
        raise OutOfWork
