"""A dataset, which a data step leaves: the rows it kept, the rows it dropped with the reason, and the counts.

A dataset is a folder with ``kept.parquet``, ``dropped.parquet`` and ``step.json``. ``step.json`` is written last, so a
dataset that has it is whole. It says what the dataset was made from; if that has changed, the dataset is made again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..common.errors import DataError
from ..common.files import unfinished, write_whole

BATCH = 4096
"""Rows that are in memory at once; also the rows of a Parquet row group."""

MESSAGES = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))
WORKING = pa.schema(
    [
        ("source", pa.string()),  # the recipe's name for it
        ("file", pa.string()),
        ("row", pa.int64()),  # in the file, from 1
        ("subset", pa.string()),
        ("ability", pa.string()),
        ("messages", MESSAGES),  # the prompt
        ("problem", pa.string()),  # what of the prompt makes two rows alike
        ("ground_truth", pa.string()),  # JSON: a list of golds, or the tests
        ("solution", pa.string()),  # written out (math), or a JSON list of programs (code)
        ("question_type", pa.string()),
        ("valid", pa.bool_()),  # what the source says of it
        ("difficulty", pa.string()),  # JSON: model → failures
    ]
)
DROPPED = pa.schema([*WORKING, ("reason", pa.string()), ("detail", pa.string())])
FILES = ("step.json", unfinished(Path("step.json")).name, "kept.parquet", "dropped.parquet")
"""The files of a dataset, whole or killed in its making, in the order in which they are deleted. The first one says
that it is whole."""
SHOWN_CHARS = 2000
"""How many characters of an unreadable row are kept beside the reason."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a row is dropped."""

    reason: str
    """The reason that is counted: the same words for every row of its kind."""
    detail: str = ""
    """What concerns this row alone: the matched problem, the two answers, the failing test."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A row that gets a model's failures written into it. It may be kept or dropped."""

    model: str
    failures: int
    drop: Drop | None = None


Judgement: TypeAlias = "Drop | Rated | None"


def drop_of(judgement: Judgement) -> Drop | None:
    """Why the row is dropped; None if it is kept."""
    return judgement.drop if isinstance(judgement, Rated) else judgement


@dataclass(slots=True)
class Count:
    """The rows of one source in one data step: ``rows_in`` is the sum of ``kept`` and all of ``dropped``."""

    rows_in: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Funnel:
    """One data step's counts by source, and its notes."""

    sources: dict[str, Count] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, source: str, judgement: Judgement) -> None:
        """Count one row of ``source``."""
        count = self.sources.setdefault(source, Count())
        count.rows_in += 1
        drop = drop_of(judgement)
        if drop is None:
            count.kept += 1
        else:
            count.dropped[drop.reason] += 1

    def total(self) -> Count:
        """The counts of all sources together."""
        counts = self.sources.values()
        dropped = sum((count.dropped for count in counts), Counter())
        return Count(sum(count.rows_in for count in counts), sum(count.kept for count in counts), dropped)

    def as_json(self) -> dict[str, Any]:
        """The counts as plain values, with the reasons in order."""
        sources = {
            name: asdict(count) | {"dropped": dict(sorted(count.dropped.items()))}
            for name, count in self.sources.items()
        }
        return {"sources": sources, "notes": self.notes}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Funnel:
        """The funnel that ``as_json`` made ``values`` of."""
        counts = {
            name: Count(count["rows_in"], count["kept"], Counter(count["dropped"]))
            for name, count in values["sources"].items()
        }
        return cls(counts, list(values["notes"]))


class DatasetWriter:
    """Writes the kept and dropped rows of one data step, batch by batch. Use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        _clear(folder)
        self.folder, self.funnel = folder, Funnel()
        self._kept = pq.ParquetWriter(folder / "kept.parquet", WORKING, compression="zstd")
        self._dropped = pq.ParquetWriter(folder / "dropped.parquet", DROPPED, compression="zstd")

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()
        self._dropped.close()

    def write(self, batch: pa.RecordBatch, judgements: Sequence[Judgement]) -> None:
        """Write rows of the schema ``WORKING`` by their judgements, one for each row, in order."""
        for source, judgement in zip(batch.column("source").to_pylist(), judgements, strict=True):
            self.funnel.add(source, judgement)
        batch = _with_ratings(batch, judgements)
        drops = [drop_of(judgement) for judgement in judgements]
        leaves = pa.array([drop is not None for drop in drops], pa.bool_())
        if kept := batch.filter(pc.invert(leaves)):
            self._kept.write_batch(kept)
        if dropped := batch.filter(leaves):
            whys = [drop for drop in drops if drop is not None]
            columns = [*dropped.columns, pa.array([why.reason for why in whys]), pa.array([why.detail for why in whys])]
            self._dropped.write_batch(pa.RecordBatch.from_arrays(columns, schema=DROPPED))


def _with_ratings(batch: pa.RecordBatch, judgements: Sequence[Judgement]) -> pa.RecordBatch:
    """The rows with their new ratings written in."""
    if not any(isinstance(judgement, Rated) for judgement in judgements):
        return batch
    place = WORKING.get_field_index("difficulty")
    texts = batch.column(place).to_pylist()
    for number, judgement in enumerate(judgements):
        if isinstance(judgement, Rated):
            ratings = json.loads(texts[number] or "{}") | {judgement.model: judgement.failures}
            texts[number] = json.dumps(ratings, sort_keys=True)
    columns = [*batch.columns[:place], pa.array(texts, pa.string()), *batch.columns[place + 1 :]]
    return pa.RecordBatch.from_arrays(columns, schema=WORKING)


def _clear(folder: Path) -> None:
    """Make room for a dataset. A dataset that is there is deleted; ``DataError`` if the folder holds anything else."""
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted({path.name for path in folder.iterdir()} - set(FILES))
    if others:
        raise DataError(
            f"{folder}: not a dataset of leeway data, it holds {others[0]}; name a folder that is empty or new"
        )
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


class Dataset:
    """The kept rows of a data step. They can be read any number of times."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "kept.parquet"
        try:
            self._metadata = pq.read_metadata(self.file)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{folder}: no dataset of leeway data (kept.parquet): {error}") from error

    def __len__(self) -> int:
        return self._metadata.num_rows

    def batches(self, *columns: str) -> Iterator[pa.RecordBatch]:
        """The rows, ``BATCH`` at a time, with all columns unless some are named."""
        with pq.ParquetFile(self.file) as file:
            yield from file.iter_batches(batch_size=BATCH, columns=list(columns) or None)

    def rows(self, *columns: str) -> Iterator[list[dict[str, Any]]]:
        """The same as ``batches``, but as Python values."""
        for batch in self.batches(*columns):
            yield batch.to_pylist()

    def each(self, *columns: str) -> Iterator[dict[str, Any]]:
        """The same, row by row."""
        for rows in self.rows(*columns):
            yield from rows


def divide(dataset: Dataset, folder: Path, judgements: Iterator[list[Judgement]]) -> Funnel:
    """Write the dataset ``folder`` from another one and a judgement for each of its rows. Returns the counts.

    A missing or surplus judgement is a defect of ours (``strict``): no row goes missing between two data steps.
    """
    with DatasetWriter(folder) as writer:
        for batch, judged in zip(dataset.batches(), judgements, strict=True):
            writer.write(batch, judged)
    return writer.funnel


def finished(folder: Path, key: str) -> Funnel | None:
    """The counts of the dataset in ``folder`` if it is whole and was made under the same ``key``, else None."""
    try:
        said = json.loads((folder / "step.json").read_text())
        return Funnel.of(said["funnel"]) if said["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def finish(folder: Path, key: str, funnel: Funnel) -> None:
    """Mark the dataset in ``folder`` as whole, with its key and its counts."""
    write_whole(
        folder / "step.json", json.dumps({"key": key, "funnel": funnel.as_json()}, indent=1, ensure_ascii=False)
    )
