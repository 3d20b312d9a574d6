"""Which problems an evaluation's verdicts belong to, and who gave them: ``verdicts.json`` beside the responses.

Verdicts outlive the file that their golds came from. So the folder keeps fingerprints of every problem's text and gold,
and of the verifiers. From them ``leeway eval regrade`` knows which verdicts still hold, and ``leeway eval compare``
which problems are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.fingerprint import fingerprint
from ..common.prompts import Row
from .folder import read_json, write_json

NAME = "verdicts.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifies a problem, whatever its id and its place in a file."""

    text: str
    """Fingerprint of the messages that the problem asks."""
    gold: str
    """Fingerprint of its ability and of the gold that its responses are compared with."""


def identity_of(row: Row) -> Identity:
    """The identity of a row as it was read."""
    said = [[message["role"], message["content"]] for message in row.messages]
    return Identity(fingerprint(said), fingerprint(row.ability, row.ground_truth))


@dataclass(slots=True)
class Record:
    """Which problems a folder's verdicts belong to, and who gave them."""

    judges: list[str] = field(default_factory=list)
    """``judged_by`` of every verifier that graded here. There are several where it changed between two starts."""
    problems: dict[str, Identity] = field(default_factory=dict)
    """The problems by id."""

    @classmethod
    def read(cls, folder: Path) -> Record:
        """The folder's record, or an empty one where it has none yet."""
        if not (folder / NAME).exists():
            return cls()
        said = read_json(folder / NAME)
        return cls(said["judges"], {own: Identity(*each) for own, each in said["problems"].items()})

    def write(self, folder: Path) -> None:
        """Write the record into the folder."""
        problems = {own: [each.text, each.gold] for own, each in sorted(self.problems.items())}
        write_json(folder / NAME, {"judges": self.judges, "problems": problems})


def note(folder: Path, problems: Iterable[tuple[str, Identity]], by: str) -> list[str]:
    """Note that ``by`` is about to grade responses to ``problems`` here. Returns who else has graded here before."""
    record = Record.read(folder)
    others = [judge for judge in record.judges if judge != by]
    record.judges = [*others, by]
    record.problems |= dict(problems)
    record.write(folder)
    return others


def by_text(problems: Mapping[str, Identity]) -> dict[str, list[str]]:
    """Ids by the fingerprint of the text that they ask; several where one problem is in a file several times."""
    found: dict[str, list[str]] = {}
    for own, each in problems.items():
        found.setdefault(each.text, []).append(own)
    return found


def with_identities(benchmarks: dict[str, Any], record: Record) -> None:
    """Add to ``by_problem`` of each benchmark the fingerprints of its problems."""
    for benchmark, found in benchmarks.items():
        for own, tally in found["by_problem"].items():
            if (each := record.problems.get(f"{benchmark}/{own}")) is not None:
                tally |= {"text": each.text, "gold": each.gold}
