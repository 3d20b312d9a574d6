"""Work in a thread beside the training loop: a publication, or a checkpoint."""

import logging
import threading
from collections.abc import Callable

from ..common.service import Service

log = logging.getLogger(__name__)


class BesideLoop:
    """One piece of work at a time. What it fails with ends the service, and is raised where the loop waits for it."""

    def __init__(self, service: Service, name: str) -> None:
        """``name``: of the thread, for its error in the log."""
        self._service, self._name = service, name
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def ended(self, timeout_s: float | None) -> bool:
        """Wait for the work under way, ``timeout_s`` seconds at most (None: without end); whether none is under way any
        more. Raises what it failed with."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
            self._thread = None
        if self._failure is not None:
            raise self._failure
        return True

    def close(self) -> None:
        """Wait for the work under way, at the end of a learner; it does not wait for room on a full disk any more.
        Its error is left to the log, because another one ends the learner."""
        self._service.stopping.set()
        if self._thread is not None:
            self._thread.join()
            if self._failure is not None:
                log.error("%s failed: %s", self._name, self._failure)

    def _start(self, work: Callable[[], None]) -> None:
        assert self._thread is None, f"one {self._name} at a time"
        # It is no daemon: a process that ends waits for it, because a thread of torch that still runs would abort it.
        self._thread = threading.Thread(target=self._guarded, args=(work,), name=self._name)
        self._thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._failure = error
            self._service.fail(error)  # the loop may wait for what will not come
