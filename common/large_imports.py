"""The import of torch, transformers or DeepSpeed, which takes seconds."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_import(*, without: str | None = None) -> Iterator[None]:
    """Leave the garbage collector out. What is imported here is hundreds of thousands of objects that come to stay, and
    to look through them again and again takes a fifth of the time.

    ``without`` is a package that is taken where it is there and not needed here: it is not found meanwhile, unless this
    process has it already."""
    collects, hides = gc.isenabled(), without is not None and without not in sys.modules
    gc.disable()
    if hides:
        sys.modules[str(without)] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hides:
            del sys.modules[str(without)]
        if collects:
            gc.enable()
