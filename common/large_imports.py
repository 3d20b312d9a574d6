"""The import of torch, transformers or DeepSpeed, which takes seconds."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_import(*, without: str | None = None) -> Iterator[None]:
    """Leave the garbage collector out. What is imported here is hundreds of thousands of objects that come to stay, and
    to look through them again and again takes a fifth of the time. What the first of these imports has brought is left
    out for good, also at the end of the process, which would take a second more. A later one may come after code of a
    user's, whose open files are written out at that end.

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
            if not gc.get_freeze_count():
                gc.freeze()
            gc.enable()
