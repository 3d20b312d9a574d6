"""Reads published sets row by row: from files, the hub, an installed package, or a generator of problems."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.errors import DataError
from ..common.gym import gym_rows
from ..common.rows import Columns, file_rows


def rows_of_file(path: Path, columns: Columns | None = None) -> Iterator[tuple[str, Any]]:
    """(file and row, values) of each row of a file, as ``file_rows`` gives them."""
    for number, values in file_rows(path, columns):
        yield f"{path}:{number}", values


def rows_of_hub(name: str, split: str, files: list[str]) -> Iterator[tuple[str, Any]]:
    """(set and row, values) of each row of a published set, by its name on the hub, or of the ``files`` in its
    repository. ``DataError`` where the set cannot be read."""
    try:
        import datasets
    except ImportError as error:
        raise DataError("sets of the hub need the datasets package: pip install 'leeway-rl[evaluation]'") from error
    looked = f"hub set {name}, " + (f"files {files[0]} to {files[-1]}" if files else f"split {split}")
    try:
        if files:  # datasets no longer runs loading scripts
            found = [f"hf://datasets/{name}/{file}" for file in files]
            rows = datasets.load_dataset("json", data_files=found, split="train", streaming=True)
        else:
            rows = datasets.load_dataset(name, split=split)
        for number, values in enumerate(rows, start=1):
            yield f"{name} row {number}", values
    except Exception as error:  # the library raises many kinds of error; the user needs the name and the cause
        why = " ".join(str(error).split())[:300]
        raise DataError(f"{looked}: cannot be read: {why}; a copy of your own can be given as NAME=PATH") from error


def file_of_package(module: str, file: str) -> Path | None:
    """A file that a package carries; None where the package is not installed. The package is not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / file
    return path if path.exists() else None


def rows_of_reasoning_gym(generator: str, size: int, seed: int) -> Iterator[tuple[str, Any]]:
    """(generator and number, values) of ``size`` problems that a generator of reasoning-gym makes by its defaults. The
    values are training rows."""
    for number, values in gym_rows(generator, seed=seed, size=size, options={}):
        yield f"{generator} problem {number}", values
