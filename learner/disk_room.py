"""Waiting for room on a full disk. A learner that died of a full disk would go back to its newest checkpoint, only to
find the disk still full."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..common.activity import Activity, Doing
from ..common.errors import DataError
from ..common.service import Service
from ..common.wording import words
from .checkpoint import is_full
from .ranks import NoRoom, broadcast_plan

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S = 2.0  # how often a learner that waits for room on the disk tries again
TELL_S = 300.0  # how often it says so in its log


class DiskRoom:
    """Lets rank 0 wait while a disk is full. Meanwhile it tells the other ranks to wait as well."""

    def __init__(self, service: Service) -> None:
        self._service, self._told_at = service, -TELL_S

    def until_written(self, folder: Path | None, write: Callable[[], T]) -> T:
        """Call ``write`` and return its result. Where the disk under ``folder`` is full for any rank, wait until there
        is room and call it again. ``DataError`` where the learner is asked to stop meanwhile."""
        while True:
            try:
                return write()
            except (OSError, RuntimeError) as error:  # torch wraps the disk's error in a RuntimeError
                full = _full(folder, error)
                broadcast_plan({"do": "wait"})
                try:
                    self.wait(full, error)
                except DataError:
                    broadcast_plan({"do": "stop"})
                    raise

    def until_written_beside(self, folder: Path | None, write: Callable[[], T]) -> T:
        """``until_written`` for a thread beside the training loop, for whose word the other ranks do not wait."""
        while True:
            try:
                written = write()
            except (OSError, RuntimeError) as error:
                self.hinder(_full(folder, error), error)
            else:
                self._service.hindered(None)
                return written

    def hinder(self, folder: Path, error: Exception) -> None:
        """``wait``, for a thread beside the training loop. It says so by ``service.hindered``, which stays set."""
        self._service.hindered(_waiting(folder))
        self._sleep(folder, error)

    def wait(self, folder: Path, error: Exception) -> None:
        """Wait ``RETRY_S`` before the next try. ``DataError`` where the learner is asked to stop meanwhile."""
        self._service.doing(_waiting(folder))
        self._sleep(folder, error)

    def _sleep(self, folder: Path, error: Exception) -> None:
        if time.monotonic() - self._told_at >= TELL_S:
            self._told_at = time.monotonic()
            log.error("%s: %s", words(_waiting(folder)), error)
        if self._service.stopping.wait(RETRY_S):
            raise DataError(f"the disk under {folder} is full: {error}") from error


def _waiting(folder: Path) -> Doing:
    return Doing(Activity.WAITING_FOR_DISK, path=str(folder))


def _full(folder: Path | None, error: Exception) -> Path:
    """The folder whose disk has no room, for any rank. Raises ``error`` where that is not the reason."""
    if folder is None or not (isinstance(error, NoRoom) or is_full(folder)):
        raise error
    return folder
