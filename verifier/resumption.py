"""Goes on after the verdicts that are there. Each is first compared with the row that it judges."""

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol, TypeVar

from ..common.errors import DataError
from ..common.tail import whole_size
from ..common.types import VerdictKind


class _Row(Protocol):
    @property
    def row_id(self) -> str | int: ...

    @property
    def of(self) -> str: ...


R = TypeVar("R", bound=_Row)


def pass_over(
    rows: Iterator[R], verdicts: IO[bytes], source: Path, out: Path, by: str, *, anew: bool = False
) -> tuple[Counter[str], Iterator[R]]:
    """(how many verdicts of each kind are there already, the rows that are still to be graded).

    A verdict counts if it judges the row that stands in its place today, with the same response, golds and ability, and
    if ``by`` names the same verifier with the same configuration. A torn last line is cut off. The first verdict that
    does not count raises a ``DataError`` with the reason; with ``anew`` it is removed instead, with all after it.
    """
    verdicts.truncate(whole_size(out))
    verdicts.seek(0)
    kinds: Counter[str] = Counter()
    end = 0
    for number, line in enumerate(verdicts, start=1):
        row = next(rows, None)
        kind, why = _counts(line, row, source, by)
        if kind is not None:
            kinds[kind] += 1
            end += len(line)
            continue
        if not anew:
            raise DataError(
                f"{out}, line {number}: not a verdict on the row due here: {why}; with --anew this row and those "
                "after it are graded anew, and with another --out this file stays"
            )
        verdicts.seek(0, os.SEEK_END)
        verdicts.truncate(end)
        return kinds, rows if row is None else itertools.chain([row], rows)
    return kinds, rows


def _counts(line: bytes, row: _Row | None, source: Path, by: str) -> tuple[VerdictKind | None, str]:
    """(kind of the verdict in a line, ""), or (None, why it does not judge ``row``)."""
    try:
        fields = json.loads(line)
        kind, graded = VerdictKind(fields["verdict"]), fields["id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, "leeway verify has not written it"
    if row is None:
        return None, f"no row is left in {source}"
    if graded != row.row_id:
        return None, f"it is a verdict on {graded!r}, but expected here is one on {row.row_id!r} of {source}"
    if fields.get("of") != row.of:
        return (
            None,
            f"{source}: row {graded!r} has changed since it was graded (response, gold, ability or finished)",
        )
    if fields.get("by") != by:
        was = fields.get("by")
        return (
            None,
            f"{source}: row {graded!r} was graded by another verifier, or with other settings ({was}; now {by})",
        )
    return kind, ""
