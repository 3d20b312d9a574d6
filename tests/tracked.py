"""Reads what trackers keep on this machine, by each one's own format."""

import json
import sqlite3
import struct
from pathlib import Path
from typing import Any

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7
WHOLE, FIRST, _, LAST = range(1, 5)


def wandb_records(path: Path) -> list[Any]:
    """The records in a W&B run's file: protocol buffers in the log format of LevelDB, after a header of its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, records, parts = path.read_bytes(), FILE_HEADER, [], b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts = (b"" if kind in (WHOLE, FIRST) else parts) + data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (WHOLE, LAST):
            records.append(Record.FromString(parts))
    return records


def wandb_rows(records: list[Any]) -> list[dict[str, Any]]:
    """The rows of the history, by key."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]


def mlflow_values(database: Path) -> dict[tuple[int, str], list[float]]:
    """By (step, metric), all values that were sent, in their order."""
    with sqlite3.connect(database) as connection:
        found = connection.execute("select step, key, value from metrics order by timestamp").fetchall()
    values: dict[tuple[int, str], list[float]] = {}
    for step, key, value in found:
        values.setdefault((step, key), []).append(value)
    return values


def mlflow_table(database: Path, table: str) -> dict[str, str]:
    """The ``params`` or ``tags`` of the one run in a database."""
    with sqlite3.connect(database) as connection:
        return dict(connection.execute(f"select key, value from {table}").fetchall())


def trackio_rows(folder: Path, project: str, table: str = "metrics") -> list[dict[str, Any]]:
    """The rows of a table of trackio's database."""
    with sqlite3.connect(folder / f"{project}.db") as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"select * from {table} order by id")]
