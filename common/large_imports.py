"""The import of torch, transformers or DeepSpeed, which takes seconds."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_import() -> Iterator[None]:
    """Leave the garbage collector out. What is imported here is hundreds of thousands of objects that come to stay, and
    to look through them again and again takes a fifth of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
