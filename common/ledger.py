"""The ledger: one JSON line for everything that happens to a ticket, chained so that no line can be changed unseen.

Every line carries ``line`` (its number, from 1) and ``chain`` (sha256 over the line before and this one's content).
Events, with what they carry beside that::

    run        format?, leeway?, run, seed, steps, stages, max_staleness, overflow, stage_change; for each stage
               from_step, groups_per_step, group_size; of a fork also its lineage (``lineage.py``) and the
               books that it begins with: version, next_ticket, live, stages_open, dropped
    started    incarnation, version, leeway?, format?,    a learner starts (or starts again), of this version of
               rewards_digest?, environment_digest?,      Leeway, in this ``FORMAT``; the digests are of the code of
               loss_digest?                               the run's own rewards, environment and loss
    rolled_back  to_line                                  everything after that line is undone: a resume
    stage      stage, version, ticket, prompts, dropped   tickets of a later stage begin to be issued: from this one
                                                          on, it goes through its prompts anew
    sampling   version, ticket, prompts, dropped, rarer, digest
                                                          from this ticket on, prompts are drawn by what was solved:
                                                          without those of the ids ``dropped``, and ``rarer`` of them
                                                          in some passes alone; the digest is of all that holds now
    issued     ticket, incarnation, version, stage, prompt, reissued, retry_of? (a poisoned group, TICKET-INCARNATION)
    overdue    ticket, version, worker, seconds           its worker held it for too long: the same ticket again
    refunded   ticket, version, reason (one of ``REFUNDS``), head_staleness?
    beside     ticket, version                            graded, without a signal: it holds no place from here on, and
                                                          is trained beside the groups that have one
    batch      step, tickets, max_staleness, overflow      a step takes these groups, checked against this bound
    trained    ticket, step, spans, verdicts, rewards? (where the verdicts do not say them), lengths,
               observed? (where an environment wrote tokens), head_staleness, past_bound (tokens older than the bound)
    step       step, version, tickets, max_staleness, overflow
    published  version, checksum (digest of the digests of its shards); tickets are issued again from here on
    control    name, value, previous, version, by, why? (of a turn that ``auto`` made)      a live control was turned
    checkpoint step                                       it is safe on disk; later steps may have been made meanwhile
    end        version, hours?                            the run is complete; nothing is live. Where its train.hours
                                                          ended it before its last step: those that it has spent

Spans in the ledger are per response ``[[version, start, end], …]``.

The ledger of a long run has millions of lines. To go on with it, or to see whether it is complete, only its last lines
are read. Only the audit and the report read all of it, a line at a time.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from .. import __version__
from .appending import Appending, is_out_of_room
from .errors import AuditError, DataError
from .json_text import line_of_ours
from .tail import lines_backwards, whole_lines, whole_size

Refund = Literal["zero_advantage", "poison", "expired", "stage_ended", "run_ended"]
"""Why a ticket is refunded: its group has no signal; it cannot be generated or graded; it is older than the bound; its
stage or the run is over."""
REFUNDS: tuple[Refund, ...] = get_args(Refund)

FORMAT = 1
"""The format of a run's folder: its ledger, its checkpoints and its configuration. It is raised where what an earlier
release left cannot be read, or not be gone on with."""
_GENESIS = "0" * 16


def _chain(previous: str, line: int, body: dict[str, Any]) -> str:
    content = json.dumps([previous, line, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class Ledger:
    """The learner's pen. It appends lines and never rewrites one. Several threads may write."""

    def __init__(self, path: Path) -> None:
        """Open for appending. A torn last line (the writer was killed) is cut off, since nobody has acted on it. Only
        the last two lines are checked against the chain; the audit checks all."""
        self.path = path
        self.line = 0
        """Lines written so far."""
        self.incarnation = 0
        """The incarnation of the learner that started last."""
        self._previous = _GENESIS
        self._lock = threading.Lock()
        if path.exists():
            self._continue()
        self._file = Appending(path)
        self.on_full: Callable[[OSError], object] | None = None
        """Called when a line finds no room on the disk, again and again until it does. It raises to give up."""

    def _continue(self) -> None:
        whole = whole_size(self.path)
        if whole < self.path.stat().st_size:
            os.truncate(self.path, whole)
        newest = last(self.path)
        if newest is not None:
            self.line, self._previous = newest["line"], newest["chain"]
            self.incarnation = _incarnation(self.path)

    def write(self, event: str, **values: Any) -> None:
        """Append one event. The operating system has it when this returns; ``sync`` forces it to the disk."""
        body = {"event": event, **values}
        with self._lock:  # a line's number, its chain and its place in the file are one step
            line, chain = self.line + 1, _chain(self._previous, self.line + 1, body)
            text = json.dumps({"line": line, **body, "chain": chain}, separators=(",", ":"))
            self._with_room(lambda: self._file.append(text + "\n"))
            self.line, self._previous = line, chain

    def sync(self) -> None:
        """Force everything written so far to the disk."""
        self._with_room(self._file.sync)

    def _with_room(self, write: Callable[[], None]) -> None:
        """Do ``write``, and wait for room on a full disk: while the ledger cannot be written, nothing else may
        happen."""
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
    """The ledger's lines in order, each checked against the chain. ``AuditError`` names the first line that was
    changed, moved or removed. A last line without its end is left out: its writer was killed, or is writing it."""
    previous = _GENESIS
    for number, text in _texts(path):
        where = f"{path}:{number}: line {number}"
        body = _parsed(where, text)
        line, chain = body.pop("line"), body.pop("chain")
        if line != number:
            what = "is missing" if line > number else "stands twice or out of order"
            raise AuditError(f"{path}:{number}: line {min(line, number)} {what} (found line {line} here)")
        if chain != _chain(previous, number, body):
            raise AuditError(f"{where} was changed after it was written ({body.get('event')})")
        previous = chain
        yield {"line": line, **body, "chain": chain}


def published_checksum(path: Path, version: int | None = None) -> str:
    """The checksum of the newest version that the ledger says is published, or of ``version``. ``DataError`` if it is
    not there."""
    lines = [line for line in read(path) if line["event"] == "published" and version in (None, line["version"])]
    if not lines:
        raise DataError(f"{path} has no checksum of {'any version' if version is None else f'version {version}'}")
    checksum: str = lines[-1]["checksum"]
    return checksum


def last(path: Path) -> dict[str, Any] | None:
    """The ledger's last whole line, checked against the one before it; None if there is none. ``AuditError`` if it is
    not the line that was written there."""
    try:
        texts = list(islice(lines_backwards(path), 2))
    except OSError as error:
        raise DataError(f"{path}: no ledger there ({error.strerror})") from error
    if not texts:
        return None
    where = f"{path}: its last line"
    found = _parsed(where, texts[0])
    before: dict[str, Any] = {"line": 0, "chain": _GENESIS}
    if len(texts) == 2:
        before = _parsed(f"{path}: its last line but one", texts[1])
    body = {name: value for name, value in found.items() if name not in ("line", "chain")}
    if found["line"] != before["line"] + 1 or found["chain"] != _chain(before["chain"], found["line"], body):
        raise AuditError(f"{where} ({found['line']}) is not the one that was written there; leeway audit tells more")
    return found


def _incarnation(path: Path) -> int:
    """The incarnation of the learner that started last; 0 if none has. Lines near the end have it, so little is
    read."""
    for text in lines_backwards(path):
        if b'"incarnation"' in text and isinstance(number := _parsed(str(path), text).get("incarnation"), int):
            return number
    return 0


def is_complete(folder: Path) -> bool:
    """Whether the ledger of the run in ``folder`` is complete: it has the event ``end``."""
    path = folder / "ledger.jsonl"
    newest = last(path) if path.exists() else None
    return newest is not None and newest.get("event") == "end"


def why_other_format(made: dict[str, Any]) -> str | None:
    """Why what ``made`` (a ledger's first line, its event ``started``, a checkpoint's list) is of is not for this
    version of Leeway, and what to do; None where it is."""
    written = made.get("format", 1)  # the first builds did not write it
    if written == FORMAT:
        return None
    by = f"Leeway {made.get('leeway', 'of an older version')} wrote it, in format {written}"
    return (
        f"{by}; this is Leeway {__version__}, which reads format {FORMAT}: go on with it, audit it and export it with "
        "that version, or start a new run from an export"
    )


def refuse_other_format(folder: Path) -> None:
    """``DataError`` where the run in ``folder`` was begun in another format, as its ledger's first line says. Its
    configuration may have keys that are not known here, so this is asked before it is read."""
    path = folder / "ledger.jsonl"
    first = next(_texts(path), None) if path.exists() else None
    if first is not None and (why := why_other_format(_parsed(f"{path}: its first line", first[1]))) is not None:
        raise DataError(f"{path}: {why}")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a reader of a ledger must know in advance of its later lines."""

    lines: int
    """Whole lines at the time of the survey. The writer may add more."""
    rollbacks: list[tuple[int, int]]
    """(line of the rollback, line that the run went back to) of every resume, in order."""


def survey(path: Path) -> Survey:
    """Look through a ledger for its rollbacks, without parsing or checking any other line."""
    lines, rollbacks = 0, []
    for lines, text in _texts(path):
        if b'"rolled_back"' in text:
            try:
                body = line_of_ours(text)
                if body["event"] == "rolled_back":
                    rollbacks.append((lines, int(body["to_line"])))
            except (ValueError, KeyError, TypeError):
                continue  # a reader of the line will name the error
    return Survey(lines, rollbacks)


def read_standing(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that no resume has undone, in order and checked as ``read`` checks them."""
    found = survey(path)
    undone, back_to = list[tuple[int, int]](), found.lines
    for line, to_line in reversed(found.rollbacks):
        if to_line < back_to:  # a later rollback to an earlier line has undone this one
            undone.append((to_line + 1, min(line, back_to)))
            back_to = to_line
    for body in islice(read(path), found.lines):
        while undone and undone[-1][1] < body["line"]:
            undone.pop()
        if not undone or body["line"] < undone[-1][0]:
            yield body


def _texts(path: Path) -> Iterator[tuple[int, bytes]]:
    """The ledger's whole lines with their numbers."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: no ledger there ({error.strerror})") from error
    with file:
        yield from enumerate(whole_lines(file), start=1)


def _parsed(where: str, text: bytes) -> dict[str, Any]:
    try:
        body = line_of_ours(text)
    except ValueError as error:
        raise AuditError(f"{where} is not JSON: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("line"), int) or not isinstance(body.get("chain"), str):
        raise AuditError(f"{where} has no line number and chain")
    return body
