"""The sink: reads the metrics stream and writes what a person looks at.

Records with a ``step`` are training steps: one line each in ``metrics.jsonl``. The others (rollout's weight loads,
…) go to ``workers.jsonl``. Both go to TensorBoard where that is installed.
"""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

from .files import write_whole
from .streams import Bus, RedisError

log = logging.getLogger(__name__)

POLL_S = 1.0


class MetricsSink:
    """One per run, in the learner's first rank."""

    def __init__(self, bus: Bus, folder: Path, *, from_step: int) -> None:
        """Write under ``folder``; steps from ``from_step`` on in an existing ``metrics.jsonl`` are cut off, because
        they were rolled back and will be made again."""
        self.bus = bus
        self._steps = _reopened(folder / "metrics.jsonl", from_step)
        self._workers = (folder / "workers.jsonl").open("a", encoding="utf-8")
        self._board = _tensorboard(folder / "tensorboard")
        self._last_id = bus.newest_metric()  # older records belong to an older incarnation
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sink_loop, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is still on the stream, then close the files."""
        self._ended.set()
        self._thread.join()
        self._steps.close()
        self._workers.close()
        if self._board is not None:
            self._board.close()

    def _sink_loop(self) -> None:
        """Consumes metrics; produces files. Dying here loses a view, never the truth."""
        while True:
            ending = self._ended.is_set()
            try:
                records = self.bus.metrics_after(self._last_id, 0.0 if ending else POLL_S)
                if not records and _number(self.bus.newest_metric()) < _number(self._last_id):
                    self._last_id = "0"  # Redis came back empty, and its clock was ahead before
                    records = self.bus.metrics_after(self._last_id)
            except RedisError as error:
                log.warning("metrics are late: %s", error)
                records = []
            for entry_id, record in records:
                self._last_id = entry_id
                if record:
                    self._write(record)
            if ending and not records:
                return

    def _write(self, record: dict[str, Any]) -> None:
        file = self._steps if "step" in record else self._workers
        file.write(json.dumps(record) + "\n")
        file.flush()
        if self._board is not None and "version" in record:
            for key, value in measured(record).items():
                self._board.add_scalar(key, value, record["version"])

    def turned(self, name: str, previous: float | str, value: float | str, version: int, by: str) -> None:
        """A live control was turned: a text in TensorBoard, beside the curves that it may bend."""
        if self._board is not None:
            self._board.add_text(f"control/{name}", f"{previous} → {value}, by the {by}", version)


def measured(record: dict[str, Any]) -> dict[str, float]:
    """What was measured in a record, without what says whose it is and when."""
    return {name: each for name, each in record.items() if isinstance(each, (int, float)) and name not in _NOT_MEASURED}


_NOT_MEASURED = {"step", "version", "stage", "incarnation", "at"}


def _number(entry_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in entry_id.split("-"))


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """The training steps in a run's ``metrics.jsonl``, oldest first; a torn last line is left out."""
    path = folder / "metrics.jsonl"
    steps = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if text.endswith("\n"):
                steps.append(json.loads(text))
    return steps


def _reopened(path: Path, from_step: int) -> Any:
    kept = [record for record in read_steps(path.parent) if record["step"] < from_step]
    write_whole(path, "".join(json.dumps(record) + "\n" for record in kept))
    return path.open("a", encoding="utf-8")


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("TensorBoard is not installed; metrics.jsonl has everything")
        return None
    return SummaryWriter(str(folder))
