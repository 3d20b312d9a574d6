"""Writes this rank's part of each checkpoint, beside the training steps where ``train.async_checkpoint`` is set.

::

    step 19 ──▶ snapshot ──▶ step 20 ──▶ step 21 …
                    └──▶ write, force to disk, rename ──▶ ledger, acknowledge

Every rank has a writer, and they go together. Nothing counts before the checkpoint is safe on disk: a learner that dies
earlier goes back to the one before. One checkpoint is written at a time; the next waits for it, because a skipped one
would make a death cost more than ``train.checkpoint_every`` steps.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.config import Train
from ..common.service import Service
from . import checkpoint, keeping
from .beside import BesideLoop
from .disk_room import DiskRoom
from .ranks import Channel, NoRoom, rank, together

if TYPE_CHECKING:
    from .policy import Policy

log = logging.getLogger(__name__)


class CheckpointWriter(BesideLoop):
    """One rank's writer."""

    def __init__(
        self,
        policy: "Policy",
        service: Service,
        folder: Path,
        train: Train,
        in_use: Callable[[], Collection[Path]] = tuple,
    ) -> None:
        """``folder``: where the run's checkpoints are. ``in_use``: those that somebody still reads and that are not
        removed yet. An error while one is written beside the steps ends ``service``."""
        super().__init__(service, "checkpoint")
        self._policy, self._folder, self._train = policy, folder, train
        self._in_use, self._disk = in_use, DiskRoom(service)

    def save(
        self,
        step: int,
        state: dict[str, Any] | None = None,
        write_more: Callable[[Path], object] = lambda _: None,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        """Take a snapshot after ``step`` training steps and have it written, as soon as there is room for it.
        Collective. ``state`` and ``write_more``: rank 0's, as ``checkpoint.write`` takes them. ``then`` is called once
        the checkpoint is safe on disk, by the thread that has written it."""
        self.wait()
        beside = self._train.async_checkpoint
        snapshot = checkpoint.take(self._policy, step, copied=beside)

        def write() -> None:
            began = time.monotonic()
            self._until_written(snapshot, state or {}, write_more)
            then()
            log.info("checkpoint of step %d written in %.1f s", step, time.monotonic() - began)

        if beside:
            self._start(write)
        else:
            write()

    def wait(self) -> None:
        """Wait until nothing is being written. Raises the error that ended the writing."""
        self.ended(None)

    def _until_written(
        self, snapshot: checkpoint.Snapshot, state: dict[str, Any], write_more: Callable[[Path], object]
    ) -> None:
        while True:
            try:
                keep = self._train.keep_checkpoints
                checkpoint.write(snapshot, self._folder, state, keep, write_more, self._spared)
            except NoRoom as error:
                waiting = partial(self._disk.hinder, self._folder, error)
                together(waiting if rank() == 0 else lambda: None, Channel.CHECKPOINT)
            else:
                self._service.hindered(None)
                return

    def _spared(self, checkpoints: Sequence[Path]) -> Collection[Path]:
        if self._train.keep_best is None:
            return self._in_use()
        known = [
            (path, checkpoint.step_of(path), keeping.incarnation_of(path / checkpoint.STATE)) for path in checkpoints
        ]
        return {*self._in_use(), *keeping.spared(self._folder.parent, self._train.keep_best, known)}
