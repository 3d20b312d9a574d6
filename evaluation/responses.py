"""Graded responses on disk: numbered parts while they come, one Parquet file when all are there.

A part is whole or not there, and a problem's responses are in one part. So what a killed collector leaves is read back
by the ids alone.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..common.errors import DataError
from ..common.files import whole_file
from ..common.types import Ticket

COLUMNS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("response", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
        pa.field("finished", pa.bool_(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("reasoning_open", pa.bool_(), nullable=False),
    ]
)
"""id: of the problem. index: 0 to N-1. response: its text without special tokens. tokens: how many were sampled, the
end token included. finished: it ended by itself. version: of the weights, the oldest where there were several.
reasoning_open: the prompt had opened the reasoning."""


class ResponseStore:
    """``responses.parquet`` in a folder, and ``parts/`` beside it until that is whole."""

    def __init__(self, folder: Path) -> None:
        self.whole, self._parts = folder / "responses.parquet", folder / "parts"
        folder.mkdir(parents=True, exist_ok=True)

    def files(self) -> list[Path]:
        """What there is, oldest first."""
        return [path for path in (self.whole, *sorted(self._parts.glob("*.parquet"))) if path.exists()]

    def counts(self) -> Counter[str]:
        """How many responses of each problem are on disk."""
        return Counter(each for batch in self._batches(["id"]) for each in batch.column("id").to_pylist())

    def lacks(self, tickets: Iterable[Ticket]) -> list[Ticket]:
        """Those whose responses are not on disk."""
        counts = self.counts()
        return [ticket for ticket in tickets if counts[ticket.prompt_id] < ticket.group_size]

    def rows(self, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """Every row that is on disk, once."""
        for batch in self._batches(columns or COLUMNS.names):
            yield from batch.to_pylist()

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write whole problems' rows as the next part, and force it to the disk. A killed command's collector may be
        about to leave while the next one writes: a part has its process's number, and repeated problems count once."""
        self._parts.mkdir(exist_ok=True)
        taken = [int(path.stem.split("-")[0]) for path in self._parts.glob("*.parquet")]
        path = self._parts / f"{max(taken, default=-1) + 1:06d}-{os.getpid()}.parquet"
        _write(path, [pa.RecordBatch.from_pylist(rows, COLUMNS)])

    def join(self) -> Path:
        """Make ``responses.parquet`` of all that is there; the parts go. Memory does not grow with the rows."""
        if self._parts.exists():
            _write(self.whole, self._batches(COLUMNS.names))
            shutil.rmtree(self._parts)
        return self.whole

    def replace(self, batches: Iterator[pa.RecordBatch]) -> None:
        """Put other rows in the place of all."""
        _write(self.whole, batches)

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """In parts' order. Where ``join`` was interrupted, a part repeats what the whole file has: passed over."""
        seen: set[str] = set()
        for path in self.files():
            mine: set[str] = set()
            try:
                for batch in pq.ParquetFile(path).iter_batches(batch_size=4096, columns=list({*columns, "id"})):
                    ids = batch.column("id").to_pylist()
                    new = pa.array([each not in seen for each in ids])
                    mine.update(ids)
                    yield batch.filter(new).select(columns)
            except (pa.ArrowException, OSError, KeyError) as error:
                raise DataError(f"{path}: no responses of ours: {error}") from error
            seen |= mine


def _write(path: Path, batches: Any) -> None:
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, COLUMNS, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
