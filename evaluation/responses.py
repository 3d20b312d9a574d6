"""Graded responses on disk: numbered parts while they come in, and one Parquet file once all are there.

A part is whole or not there, and all responses of a problem are in one part. So the ids alone say what a killed
collector has left to do.
"""

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
        pa.field("reward", pa.float64()),
        pa.field("conversation", pa.string()),
    ]
)
"""id: the problem's id. index: 0 to N-1. response: its text without special tokens; of several turns the last one's,
which is what was graded. tokens: how many were sampled, end tokens included. finished: whether it ended by itself.
version: of the weights, the oldest where there were several. reasoning_open: whether the prompt had opened the
reasoning. reward: null where there is none (``error``), and in folders of older builds, where the verdict says it.
conversation: null without an environment; with one all that was said, as JSON: a list of objects with ``by``
(``policy`` or ``environment``) and ``text``."""
LATER = frozenset({"reward", "conversation"})
"""Columns that folders of older builds lack."""


class ResponseStore:
    """``responses.parquet`` in a folder, and ``parts/`` beside it until that file is complete."""

    def __init__(self, folder: Path) -> None:
        self.whole, self._parts = folder / "responses.parquet", folder / "parts"
        folder.mkdir(parents=True, exist_ok=True)

    def files(self) -> list[Path]:
        """The files that are there, oldest first."""
        return [path for path in (self.whole, *sorted(self._parts.glob("*.parquet"))) if path.exists()]

    def counts(self) -> Counter[str]:
        """How many responses of each problem are on disk."""
        return Counter(each for batch in self._batches(["id"]) for each in batch.column("id").to_pylist())

    def lacks(self, tickets: Iterable[Ticket]) -> list[Ticket]:
        """The tickets whose responses are not on disk."""
        counts = self.counts()
        return [ticket for ticket in tickets if counts[ticket.prompt_id] < ticket.group_size]

    def rows(self, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """Every row that is on disk, once."""
        for batch in self._batches(columns or COLUMNS.names):
            yield from batch.to_pylist()

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write the rows of whole problems as the next part, and force it to disk. A killed command's collector may
        still be ending while the next one writes, so a part's name has its process id, and repeated problems count
        once."""
        self._parts.mkdir(exist_ok=True)
        taken = [int(path.stem.split("-")[0]) for path in self._parts.glob("*.parquet")]
        path = self._parts / f"{max(taken, default=-1) + 1:06d}-{os.getpid()}.parquet"
        _write(path, [pa.RecordBatch.from_pylist(rows, COLUMNS)])

    def join(self) -> Path:
        """Join everything into ``responses.parquet``, delete the parts, and return its path. Memory does not grow with
        the rows."""
        if self._parts.exists():
            _write(self.whole, self._batches(COLUMNS.names))
            shutil.rmtree(self._parts)
        return self.whole

    def replace(self, batches: Iterator[pa.RecordBatch]) -> None:
        """Replace all rows by those of ``batches``."""
        _write(self.whole, batches)

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows in the order of the parts. Where ``join`` was interrupted, a part repeats rows of the whole file,
        which are left out. ``DataError`` where a file was not written by Leeway."""
        seen: set[str] = set()
        for path in self.files():
            mine: set[str] = set()
            try:
                file = pq.ParquetFile(path)
                lacking = (LATER - {*file.schema_arrow.names}) & {*columns}
                there = {*columns, "id"} - lacking
                for batch in file.iter_batches(batch_size=4096, columns=list(there)):
                    for name in lacking:
                        field = COLUMNS.field(name)
                        batch = batch.append_column(field, pa.nulls(len(batch), field.type))
                    ids = batch.column("id").to_pylist()
                    new = pa.array([each not in seen for each in ids])
                    mine.update(ids)
                    yield batch.filter(new).select(columns)
            except (pa.ArrowException, OSError, KeyError) as error:
                raise DataError(f"{path} does not hold responses of Leeway: {error}") from error
            seen |= mine


def _write(path: Path, batches: Any) -> None:
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, COLUMNS, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
