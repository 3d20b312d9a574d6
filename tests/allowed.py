"""What a machine may refuse a test, which is skipped there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import pytest

T = TypeVar("T")


@contextmanager
def allowed(given: AbstractContextManager[T]) -> Iterator[T]:
    """Be within ``given``, and skip the test if the machine refuses that by an ``OSError``. An error of what is done
    within is the test's own, whatever its kind."""
    with ExitStack() as stack:
        try:
            value = stack.enter_context(given)
        except OSError as error:
            pytest.skip(str(error))
        yield value
