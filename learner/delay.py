"""The delay line of ``flow.inject_lag``: workers get the weights of n training steps ago.

The last n + 1 versions are held in host memory and in the checkpoint, so that after a resume too every group is as old
as ``flow.inject_lag`` says. With n = 0 each version comes out as it goes in, and no older one is held.
"""

from collections import deque
from collections.abc import Callable
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
        """Take the newest version. Returns the version that workers are to sample from, max(0, ``version`` - lag), and
        its weights."""
        self._held.append((version, weights))
        return self._held[0]

    def snapshot(self) -> Callable[[Path], None]:
        """What writes every version that is held now, but the newest, into a folder; the checkpoint has the newest
        anyway. It writes copies, because the next versions are gathered into the same memory."""
        older = [
            (version, {name: tensor.clone() for name, tensor in tensors_of(weights).items()})
            for version, weights in list(self._held)[:-1]
        ]

        def write(folder: Path) -> None:
            for version, tensors in older:
                save_file(tensors, folder / NAME.format(version=version))

        return write

    def load(self, folder: Path, version: int, dtype: str) -> None:
        """Read what was written into the checkpoint of ``version``. The caller pushes the newest version itself."""
        assert self._held.maxlen is not None
        for held in range(max(0, version - self._held.maxlen + 1), version):
            self._held.append((held, flatten(load_file(folder / NAME.format(version=held)), dtype)))
