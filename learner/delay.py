"""The delay line of ``flow.inject_lag``: workers get the weights of n training steps ago.

The last n + 1 versions are held in host memory, and in the checkpoint: after a resume no group is younger than the
regime says. With n = 0 what goes in comes out, and nothing is held.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from safetensors.torch import load_file, save_file

from ..common.tensors import flatten, tensors_of
from ..common.weights import FlatWeights

NAME = "lagged-{version}.safetensors"


class DelayLine:
    """The weights of the last ``lag`` + 1 versions."""

    def __init__(self, lag: int) -> None:
        self._held: deque[tuple[int, FlatWeights]] = deque(maxlen=lag + 1)

    def push(self, version: int, weights: FlatWeights) -> tuple[int, FlatWeights]:
        """Take the newest version; returns what workers are to sample by: version max(0, ``version`` - lag)."""
        self._held.append((version, weights))
        return self._held[0]

    def save(self, folder: Path) -> None:
        """Write all versions but the newest, which the checkpoint has anyway, into ``folder``."""
        for version, weights in list(self._held)[:-1]:
            save_file(tensors_of(weights), folder / NAME.format(version=version))

    def load(self, folder: Path, version: int, dtype: str) -> None:
        """Go back to what ``save`` wrote into the checkpoint of ``version``; the newest is to be pushed."""
        assert self._held.maxlen is not None
        for held in range(max(0, version - self._held.maxlen + 1), version):
            self._held.append((held, flatten(load_file(folder / NAME.format(version=held)), dtype)))
