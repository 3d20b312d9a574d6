"""The files that this rank writes for a checkpoint, and whether it sees a file that another rank wrote."""

import time
from pathlib import Path
from typing import Any

import torch


class Files:
    """Wraps DeepSpeed's own reader and writer of files, which it calls its checkpoint engine.

    It notes which files this rank wrote. Where the disk fails, it keeps the error until every rank has come out of
    DeepSpeed's collectives: an error raised between them would leave the other ranks waiting.
    """

    def __init__(self, own: Any) -> None:
        self._own = own
        self.begin()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def begin(self) -> None:
        """Forget what was written before."""
        self._written: list[Path] = []
        self._failure: Exception | None = None

    def save(self, state_dict: Any, path: str) -> None:
        """Write a file, unless one has failed already."""
        if self._failure is not None:
            return
        try:
            self._own.save(state_dict, path)
            self._written.append(Path(path))
        except (OSError, RuntimeError) as error:  # torch wraps the disk's error in a RuntimeError
            self._failure = error

    def load(self, path: str, map_location: Any = None) -> Any:
        """What a file holds. The weights, of which every rank reads all below ZeRO stage 3, stay in the file until
        they are copied, so that a rank does not hold them twice."""
        if not path.endswith("_model_states.pt"):
            return self._own.load(path, map_location=map_location)
        return torch.load(path, map_location=map_location, weights_only=False, mmap=True)

    def end(self) -> list[Path]:
        """The files written since ``begin``. Raises the disk's error if there was one."""
        if self._failure is not None:
            raise self._failure
        return self._written


def seen(path: Path, patience_s: float) -> bool:
    """Whether ``path`` is there, or comes to be within ``patience_s`` seconds."""
    deadline = time.monotonic() + patience_s
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
