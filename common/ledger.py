"""The ledger: one JSON line for everything that happens to a ticket, chained so that no line can be changed unseen.

Every line carries ``line`` (its number, from 1) and ``chain`` (sha256 over the line before and this one's content).
Events, with what they carry beside that::

    run        run, seed, steps, stages, max_staleness, overflow, stage_change; of each stage
               from_step, groups_per_step, group_size
    started    incarnation, version                       a learner starts (or starts again)
    rolled_back  to_line                                  everything after that line is undone: a resume
    stage      stage, version, prompts, dropped           tickets of a later stage begin to be issued
    issued     ticket, incarnation, version, stage, prompt, reissued, retry_of? (a poisoned group, TICKET-INCARNATION)
    overdue    ticket, version, worker, seconds           its worker held it for too long: the same ticket again
    refunded   ticket, version, reason, head_staleness?
    batch      step, tickets, max_staleness, overflow      a step takes these groups, checked against this bound
    trained    ticket, step, spans, verdicts, lengths, head_staleness, past_bound (tokens older than the bound)
    step       step, version, tickets, max_staleness, overflow, checksum (sha256 of the published weights)
    control    name, value, previous, version             a live control was turned
    checkpoint step
    end        version                                    the run is complete; nothing is live

Spans in the ledger are per response ``[[version, start, end], …]``.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .appending import Appending, is_out_of_room
from .errors import AuditError, DataError

_GENESIS = "0" * 16


def _chain(previous: str, line: int, body: dict[str, Any]) -> str:
    content = json.dumps([previous, line, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class Ledger:
    """The learner's pen. Appends; never rewrites a line."""

    def __init__(self, path: Path) -> None:
        """Open for appending. A torn last line (the writer was killed) is cut off; it was never acted on."""
        self.path = path
        self.line = 0
        """Lines written so far."""
        self.incarnation = 0
        """Of the learner that started last."""
        self._previous = _GENESIS
        if path.exists():
            self._continue()
        self._file = Appending(path)
        self.on_full: Callable[[OSError], object] | None = None
        """Called where a line finds no room on the disk, and again until it does; raises to give up."""

    def _continue(self) -> None:
        whole = self.path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            with self.path.open("r+b") as file:
                file.truncate(end)
        for body in read(self.path):
            self.line, self._previous = body["line"], body["chain"]
            if body["event"] == "started":
                self.incarnation = body["incarnation"]

    def write(self, event: str, **values: Any) -> None:
        """Append one event. It is in the operating system's hands when this returns; ``sync`` puts it on disk."""
        body = {"event": event, **values}
        line, chain = self.line + 1, _chain(self._previous, self.line + 1, body)
        text = json.dumps({"line": line, **body, "chain": chain}, separators=(",", ":"))
        self._with_room(lambda: self._file.append(text + "\n"))
        self.line, self._previous = line, chain

    def sync(self) -> None:
        """Put everything written so far on disk."""
        self._with_room(self._file.sync)

    def _with_room(self, write: Callable[[], None]) -> None:
        """The ledger is the truth of what happened: where it cannot be written, nothing else may happen."""
        while True:
            try:
                write()
                return
            except OSError as error:
                if self.on_full is None or not is_out_of_room(error):
                    raise
                self.on_full(error)

    def close(self) -> None:
        """Sync and close."""
        if not self._file.closed:
            self._file.sync()
            self._file.close()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The ledger's lines in order, each checked against the chain. ``AuditError`` names the first line that is not
    the one that was written there. A last line without its end is left out: its writer was killed, or is writing it."""
    previous, number = _GENESIS, 0
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: no ledger there ({error.strerror})") from error
    with file:
        for text in file:
            if not text.endswith("\n"):
                return
            number += 1
            body = _parsed(path, number, text)
            line, chain = body.pop("line"), body.pop("chain")
            if line != number:
                what = "is missing" if line > number else "stands twice or out of order"
                raise AuditError(f"{path}:{number}: line {min(line, number)} {what} (found line {line} here)")
            if chain != _chain(previous, number, body):
                raise AuditError(
                    f"{path}:{number}: line {number} was changed after it was written ({body.get('event')})"
                )
            previous = chain
            yield {"line": line, **body, "chain": chain}


def is_complete(folder: Path) -> bool:
    """Whether the ledger of the run in ``folder`` has its end."""
    path = folder / "ledger.jsonl"
    lines = deque(read(path) if path.exists() else (), maxlen=1)
    return bool(lines) and lines[0]["event"] == "end"


def _parsed(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise AuditError(f"{path}:{number}: line {number} is not JSON: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("line"), int) or not isinstance(body.get("chain"), str):
        raise AuditError(f"{path}:{number}: line {number} has no line number and chain")
    return body
