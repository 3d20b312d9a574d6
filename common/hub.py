"""Rows of published sets, which the ``datasets`` library loads by their names."""

from collections.abc import Iterator
from typing import Any

from .errors import DataError


def hub_rows(name: str, *, split: str, streaming: bool = False) -> Iterator[tuple[int, Any]]:
    """(number from 1, row) of a set, by its name on the hub or its folder here. ``streaming``: only what is read is
    fetched, and nothing is kept. ``DataError`` if the library is not installed, or cannot load or read the set."""
    try:
        import datasets
    except ImportError as error:
        raise DataError("data.source = 'hub' needs the datasets package: pip install 'leeway-rl[learner]'") from error
    try:
        yield from enumerate(datasets.load_dataset(name, split=split, streaming=streaming), start=1)
    except Exception as error:  # the library raises many kinds of error; the user needs the name and the cause
        raise DataError(f"data.path = {name!r}, split {split!r}: cannot be loaded: {error}") from error
