"""Today's golds of a folder's problems. They are read from what the problems were made from, and matched by what the
problems ask."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.config import Data
from ..common.errors import DataError
from ..common.files import checksum, write_whole
from ..common.prompts import Row, row_of
from ..common.rows import file_rows
from .folder import NOT_THERE, WAY_ON, read_json, write_json
from .prepare import prepared_by, read_by
from .problems import id_of, origin_of
from .record import Identity, Record, by_text, identity_of


@dataclass(frozen=True, slots=True)
class Gold:
    """What a problem's responses are judged by today."""

    own: str
    """Its id today."""
    identity: Identity
    truth: dict[str, Any]
    """The ability and its ground truth, as ``leeway verify`` takes them."""
    where: str
    """The user's file and row that the gold is from."""
    values: dict[str, Any]
    """The row's values."""


@dataclass(slots=True)
class Source:
    """What a folder's problems were made from."""

    folder: Path
    name: str
    """Name of the user's own file or files."""
    problems: dict[str, Gold]
    """The problems by id, as they are today."""
    unusable: list[str]
    """Rows that cannot be used today, and why."""
    noted: dict[str, Any]
    """What ``sample.json`` has."""
    file: Path
    prepared: dict[str, Any] | None
    """What ``benchmarks.json`` has, where ``leeway eval`` has prepared the file."""
    read: dict[str, str] | None = None
    """Fingerprints of the files that have changed and were read again."""

    @classmethod
    def of(cls, folder: Path, noted: dict[str, Any]) -> Source:
        """The source of the problems in ``folder``; files that have changed are read again. ``DataError`` where a file
        is gone or cannot be read."""
        settings = {key: noted[key] for key in ("ability", "comparison") if noted.get(key) is not None}
        own = folder / "problems.jsonl"
        if not own.exists():
            if "problems" not in noted:
                raise DataError(f"{folder} has neither problems.jsonl nor sample.json, which say what was asked")
            path, data = Path(noted["problems"]), Data(path="", columns=noted.get("columns", {}), **settings)
            return cls(folder, str(path), *_golds_of(path, data), noted, path, None)
        prepared = read_json(folder / "benchmarks.json") if (folder / "benchmarks.json").exists() else None
        read = _changed(prepared) if prepared is not None else None
        if read is None or prepared is None:
            return cls(folder, str(own), *_golds_of(own, Data(path="", **settings)), noted, own, prepared)
        again = folder / ".prepared"
        said: list[str] = []
        try:
            prepared_by(prepared["asked"], again, said.append)
            found, unusable = _golds_of(again / "problems.jsonl", Data(path="", **settings))
        finally:
            shutil.rmtree(again, ignore_errors=True)
        return cls(folder, ", ".join(read), found, [*said, *unusable], noted, own, prepared, read)

    def settle(self, golds: dict[str, Gold]) -> None:
        """Note that the folder is as today's files are, if they have the same problems under the same ids. Otherwise
        nothing is noted, so that whoever goes on with the folder is told that the files have changed."""
        if any(own != gold.own for own, gold in golds.items()):
            return
        if self.prepared is not None and self.read is not None:
            lines = []
            for line in self.file.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                today = golds.get(row["id"]) or self.problems.get(row["id"])
                lines.append(row if today is None else today.values | {"responses": row["responses"]})
            if {row["id"] for row in lines} != self.problems.keys():
                return
            write_whole(self.file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines))
            write_json(self.folder / "benchmarks.json", {**self.prepared, "read": self.prepared["read"] | self.read})
        elif golds.keys() != self.problems.keys():
            return
        if self.noted:
            write_json(self.folder / "sample.json", {**self.noted, "sha256 of problems": checksum(self.file)})


def _changed(prepared: dict[str, Any]) -> dict[str, str] | None:
    """Fingerprints of the files that have changed; None where each is as it was, or is gone."""
    then, now = prepared.get("read", {}), read_by(prepared["asked"])
    found = {name: mark for name, mark in now.items() if name in then and mark not in (then[name], NOT_THERE)}
    return found or None


def _golds_of(path: Path, data: Data) -> tuple[dict[str, Gold], list[str]]:
    found: dict[str, Gold] = {}
    unusable: list[str] = []
    for number, values in file_rows(path, data.columns):
        where, _ = origin_of(values, f"{path}:{number}")
        try:
            row = row_of(values, f"{path.name}:{number}", where, data)
            own = id_of(values, row.prompt_id, where)
        except DataError as error:
            unusable.append(str(error))
            continue
        found.setdefault(own, Gold(own, identity_of(row), _truth(row), where, values))
    return found, unusable


def _truth(row: Row) -> dict[str, Any]:
    match row.ability:
        case "code":
            return {"ability": row.ability, "tests": json.loads(row.ground_truth[0])}
        case "reasoning_gym":
            return {"ability": row.ability, **json.loads(row.ground_truth[0])}
        case _:
            return {"ability": row.ability, "answer": list(row.ground_truth)}


def matched(source: Source, record: Record, asked: Iterable[str]) -> dict[str, Gold]:
    """Today's gold of every problem that has responses, by the id that it was ``asked`` under. It is that of the row
    with this id, where the row asks the same, and otherwise that of the row which does. ``DataError`` names a problem
    that is gone or asks something else."""
    alike = by_text({own: gold.identity for own, gold in source.problems.items()})
    found = {}
    for own in asked:
        then, now = record.problems.get(own), source.problems.get(own)
        if now is None or (then is not None and now.identity.text != then.text):
            others = [] if then is None else [source.problems[other] for other in alike.get(then.text, [])]
            if len({other.identity.gold for other in others}) != 1:
                raise DataError(_gone(source, own, now, others))
            now = others[0]
        found[own] = now
    return found


def _gone(source: Source, own: str, now: Gold | None, others: list[Gold]) -> str:
    if others:
        rows = ", ".join(other.where for other in others[:3])
        return f"problem {own!r} has responses, and {rows} ask the same with different golds; give the rows ids"
    if now is not None:
        return (
            f"{now.where}: problem {own!r} asks something else than when its responses were sampled; put its text "
            f"back, or {WAY_ON}"
        )
    why = f" ({source.unusable[0]})" if source.unusable else ""
    return f"problem {own!r} has responses, but is no longer in {source.name}{why}; put it back, or {WAY_ON}"
