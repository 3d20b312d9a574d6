"""The metrics sink: it reads the metrics stream and writes the files that people look at.

Records with a ``step`` are training steps and make one line each in ``metrics.jsonl``. The others (rollout's weight
loads, …) go to ``workers.jsonl``. Both go to TensorBoard if that is installed.
"""

import json
import logging
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from .appending import Appending
from .files import write_whole
from .json_text import line_of_ours
from .queue.connection import RedisError
from .queue.entries import LetterKind, stream_id
from .queue.learner import LearnerQueue
from .queue.member import METRICS_KEPT
from .tail import whole_lines
from .wording import counted

log = logging.getLogger(__name__)

POLL_S = 1.0
LATE_S = 5.0
"""Seconds until Redis is asked again after it could not be."""
MOST_UNWRITTEN = 20_000
"""Most records that are kept while the disk is full. Beyond that the oldest are dropped and counted."""


class MetricsSink:
    """The sink of a run, in the learner's first rank."""

    def __init__(self, queue: LearnerQueue, folder: Path, *, from_step: int) -> None:
        """Write under ``folder``. Steps from ``from_step`` on in an existing ``metrics.jsonl`` are cut off, because
        they were rolled back and will be made again."""
        self.queue = queue
        self._steps = _reopened(folder / "metrics.jsonl", from_step)
        self._workers = Appending(folder / "workers.jsonl")
        self._folder = folder
        self._board = _tensorboard(folder / "tensorboard")
        self._has_board = self._board is not None
        self._unwritten: deque[dict[str, Any]] = deque()
        """Records that have been read but found no room on the disk yet, oldest first."""
        self._told = ""
        """What ``leeway status`` says of the unwritten records."""
        self._lost = 0
        """Records that were dropped because too many were unwritten."""
        queue.record.set_state(unwritten="")  # an earlier learner may have left its message
        self._read = dict.fromkeys(queue.metrics.ids())  # those that are there belong to an older incarnation
        """Ids of the records that were read last. A Redis that comes back with less has them once more."""
        self._last_id = next(reversed(self._read), "0")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sink_loop, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is still on the stream, then close the files."""
        self._ended.set()
        self._thread.join()
        self._steps.close()
        self._workers.close()
        self._leave_board()

    def _sink_loop(self) -> None:
        """Consumes metrics and produces files. If it dies, only this view is lost; the ledger is the truth."""
        while True:
            ending = self._ended.is_set()
            try:
                records = self.queue.metrics.after(self._last_id, 0.0 if ending else POLL_S)
                if not records and stream_id(self.queue.metrics.newest_id()) < stream_id(self._last_id):
                    # Redis came back empty, and its clock was ahead before; or it came back without the newest.
                    records = self.queue.metrics.after("0")
                for entry_id, record in records:
                    self._last_id = entry_id
                    if entry_id not in self._read:
                        self._read[entry_id] = None
                        self._take(record)
                while len(self._read) > 2 * METRICS_KEPT:  # the stream is trimmed to about as many as are kept
                    del self._read[next(iter(self._read))]
                self._write_all()
            except RedisError as error:
                log.warning("metrics are late: %s", error)
                records = []
                self._ended.wait(LATE_S)  # Redis may refuse at once
            if ending and not records:
                if self._unwritten:
                    lost = counted(len(self._unwritten), "record of measurements is", "records of measurements are")
                    log.error("%s lost: %s", lost, self._told)
                return

    def _take(self, record: dict[str, Any]) -> None:
        if not record:
            return
        if any(type(record.get(name, 0)) is not int for name in ("step", "version")):
            self.queue.dead_letter(
                LetterKind.DAMAGED, "metrics", "", "a record whose step or version is no whole number"
            )
            return
        self._unwritten.append(record)
        if len(self._unwritten) > MOST_UNWRITTEN:
            self._unwritten.popleft()
            self._lost += 1

    def _write_all(self) -> None:
        """Write what is unwritten. If there is no room, say so once and keep it for the next time."""
        try:
            while self._unwritten:
                self._write(self._unwritten[0])
                self._unwritten.popleft()
        except OSError as error:
            told = f"the measurements cannot be written: {self._folder}: {error.strerror}; they wait in memory"
            if told != self._told:
                log.error("%s", told)
                self._told = told
                self.queue.record.set_state(unwritten=told)
            return
        if self._told:
            lost = counted(self._lost, "record was", "records were")
            log.warning("the measurements are written again; %s lost", lost)
            self._told, self._lost = "", 0
            self.queue.record.set_state(unwritten="")

    def _write(self, record: dict[str, Any]) -> None:
        file = self._steps if "step" in record else self._workers
        file.append(json.dumps(record) + "\n")
        if self._has_board and "version" in record:
            self._show(record)

    def _show(self, record: dict[str, Any]) -> None:
        """Give a record to TensorBoard. If its thread met a full disk some records ago, a new file is begun, which
        TensorBoard reads with the others. ``metrics.jsonl`` lacks nothing."""
        try:
            if self._board is None:
                self._board = _tensorboard(self._folder / "tensorboard")
            for key, value in measured(record).items():
                self._board.add_scalar(key, value, record["version"])
        except OSError as error:
            log.error("TensorBoard lacks the records before version %d: %s", record["version"], error)
            self._leave_board()

    def _leave_board(self) -> None:
        if self._board is not None:
            with suppress(OSError):
                self._board.close()
        self._board = None

    def turned(self, name: str, previous: float | str, value: float | str, version: int, by: str) -> None:
        """Note in TensorBoard that a live control was turned, beside the curves that it may bend."""
        board = self._board
        if board is not None:
            with suppress(OSError):  # the next record meets the same full disk and reports it
                board.add_text(f"control/{name}", f"{previous} → {value}, by the {by}", version)


def measured(record: dict[str, Any]) -> dict[str, float]:
    """The measurements in a record, without the keys that say whose it is and when it was made."""
    return {name: each for name, each in record.items() if isinstance(each, (int, float)) and name not in _NOT_MEASURED}


_NOT_MEASURED = {"step", "version", "stage", "incarnation", "at"}


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """The training steps in a run's ``metrics.jsonl``, oldest first; a torn last line is left out."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    with path.open("rb") as file:
        return [line_of_ours(text) for text in whole_lines(file)]


def _reopened(path: Path, from_step: int) -> Appending:
    kept = [record for record in read_steps(path.parent) if record["step"] < from_step]
    write_whole(path, "".join(json.dumps(record) + "\n" for record in kept))
    return Appending(path)


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("TensorBoard is not installed; metrics.jsonl has everything")
        return None
    return SummaryWriter(str(folder))
