"""Publishing beside the next training step: rank 0's flat buffers, and the thread that encodes and writes."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from ..common.config.serving import Weights
from ..common.service import Service
from ..common.tensors import infos_of
from ..common.types import Manifest
from ..common.weights import FlatWeights, Stamp, WeightPublisher, checksum, flat_bytes
from .beside import BesideLoop
from .disk_room import DiskRoom


class FlatBuffers:
    """The buffers that versions are gathered into, used in turn. Beside those that the delay line holds there are two:
    the newest version, and the one that its delta is against."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], dtype: str, lag: int) -> None:
        """``shapes``: of every weight by name. ``dtype``: ``weights.dtype``. ``lag``: ``flow.inject_lag``."""
        self._infos, self._count = infos_of(shapes, dtype), lag + 2
        self._buffers: dict[int, np.ndarray] = {}

    def at(self, version: int) -> FlatWeights:
        """Where to gather ``version``. What was gathered there before is not needed any more once the version before
        this one is published."""
        number = version % self._count
        if number not in self._buffers:
            # From pinned memory the device copies at full speed, and no page is pinned anew for each version.
            size, pinned = flat_bytes(self._infos), torch.cuda.is_available()
            self._buffers[number] = torch.empty(size, dtype=torch.uint8, pin_memory=pinned).numpy()
        return FlatWeights(self._infos, self._buffers[number])


class Publication(BesideLoop):
    """Publishes one version at a time in a thread of its own. It makes no collective call, since only rank 0 digests,
    encodes and writes."""

    def __init__(
        self,
        service: Service,
        publisher: WeightPublisher,
        disk: DiskRoom,
        weights: Weights,
        stands: Callable[[Manifest, str], None],
    ) -> None:
        """``stands`` is called in the thread once the manifest stands, with the manifest and the checksum of the newest
        version."""
        super().__init__(service, "publication")
        self._publisher, self._disk = publisher, disk
        self._folder, self._threads, self._stands = weights.shared, weights.threads, stands
        self.seconds = 0.0
        """How long the last publication took."""

    def begin(self, due: tuple[int, FlatWeights], newest: tuple[int, FlatWeights]) -> None:
        """Begin to publish ``due``, the version that workers are to have when ``newest`` is trained (the same one,
        unless there is a lag). The one before has ended. Neither buffer may be written until this one has."""
        self._start(partial(self._publish, due, newest))

    def repair(self, unreadable: Stamp | None) -> bool:
        """``WeightPublisher.repair``, for the intake's thread, which waits while the disk is full."""
        return self._disk.until_written_beside(self._folder, lambda: self._publisher.repair(unreadable))

    def _publish(self, due: tuple[int, FlatWeights], newest: tuple[int, FlatWeights]) -> None:
        started = time.monotonic()
        manifest = self._disk.until_written_beside(self._folder, lambda: self._publisher.publish(*due))
        self.seconds = time.monotonic() - started
        same = due[0] == newest[0]
        self._stands(manifest, manifest.checksum if same else checksum(newest[1].buffer, self._threads))
