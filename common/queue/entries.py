"""What stands on the work streams, in our words: jobs, leases, scored groups, and what becomes of them. No I/O."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from ..codec import decode
from ..errors import DecodeError
from ..types import Responses, Scores, Ticket

WEIGHTS = "weights"  # ``where`` of a letter on a manifest that cannot be read
GROUP = "workers"  # consumer group of every work stream
GIVEN_BACK_MS = 1 << 40  # idle time of an entry whose lease is over before its time
VERDICT_MINUTES = 60  # how long the verdicts of a minute are kept
GROUP_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")  # TICKET-INCARNATION
MOST_PENDING = 100_000  # entries of a stream that are looked at together


class WorkStream(StrEnum):
    """The three work streams, by the role that takes from them."""

    PROMPTS = "prompts"
    RESPONSES = "responses"
    SCORED = "scored"


class LetterKind(StrEnum):
    """What a dead letter means for who reads it."""

    GIVEN_UP = "given_up"
    """A worker has failed at the group as often as anybody may: the learner refunds it."""
    DAMAGED = "damaged"
    """Something that cannot be read was dropped; a group, or the weights, is made again."""
    LOST = "lost"
    """The group was lost, damaged or overdue as often as any may be: whoever issued it has given it up."""
    REMOVED = "removed"
    """A control or a key that is not what it has to be; the learner has removed it."""


class HandOver(StrEnum):
    """What became of a hand-over."""

    HANDED = "handed"
    DUPLICATE = "duplicate"
    """Another worker had already written this field; ours is dropped."""
    GONE = "gone"
    """The learner no longer wants the group (refunded, or issued by an older incarnation)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One leased entry of a work stream."""

    stream: WorkStream
    entry_id: str
    group_id: str
    attempt: int
    """1 at the first delivery, one more at every redelivery."""
    parts: Sequence[bytes | None] = field(default=(), repr=False, compare=False)
    """What the taker works from, undecoded, as it stood at the take; empty where it is to be read still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredEntry:
    """What the learner reads: a group that is scored, or one that somebody gave up on."""

    entry_id: str | None
    """On the scored stream; None where the group was given up and only a dead letter tells."""
    group_id: str
    failed: str | None
    """The reason, where the group was given up."""


@dataclass(slots=True)
class Awaited:
    """A group that was issued and whose result is waited for."""

    ticket: Ticket
    failures: int = 0
    """Times that it was lost, damaged or overdue, and made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the learner looks for at every turn of its pump."""

    lost: bool
    """Redis has come back empty."""
    less: bool
    """A connection has been opened since the last look: Redis may be another server, and lack what was written last."""
    superseded_by: int | None
    """The incarnation of a learner that has started since."""
    controls: dict[bytes, bytes]
    """As an operator, or anybody else, has set them: not read yet."""
    retries: dict[str, str]
    """As ``DeskQueue.retries`` gives them."""
    unreadable: tuple[int, int, str] | None
    """(incarnation, version, worker), where a worker could not read the newest weights."""


class Unwanted(StrEnum):
    """Why nobody wants what a worker is making."""

    REFUNDED = "refunded"
    MADE = "made"
    """Another worker has handed it over."""
    ISSUED_AGAIN = "issued again"
    """Its worker held it for longer than its clock allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One group that was taken from a work stream and has not been handed over: a pending entry."""

    stream: WorkStream
    entry_id: str
    group_id: str
    worker: str
    attempt: int
    silent_s: float
    """Since it was taken or renewed, by the server's clock."""


Taken = tuple[str, str, Sequence[bytes | None]]
"""A leased entry: its id, what it says its group is, and what came with it of that group's parts."""
Part = TypeVar("Part", Ticket, Responses, Scores)


def decode_part(cls: type[Part], body: bytes, group_id: str) -> Part:
    """The part of group ``group_id`` in ``body``; ``DecodeError`` where it is another group's."""
    part = decode(cls, body)
    if part.group_id != group_id:
        raise DecodeError(f"{cls.__name__}: of group {part.group_id[:64]}, found under group {group_id}")
    return part


def texts(found: dict[bytes, bytes]) -> dict[str, str]:
    """A hash of Redis as text, whatever bytes stand there."""
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in found.items()}


def whole(text: str | bytes | None) -> int:
    """The whole number in ``text``, which anybody may have written; 0 where there is none."""
    said = text.decode(errors="replace") if isinstance(text, bytes) else text or ""
    return int(said) if re.fullmatch(r"\d{1,18}", said, re.ASCII) else 0


def number(text: str) -> float:
    """The number in ``text``, which anybody may have written; 0 where there is none."""
    return float(text) if re.fullmatch(r"\d{1,18}(\.\d{1,18})?", text, re.ASCII) else 0.0


def as_scored(jobs: Iterable[Job]) -> list[ScoredEntry]:
    """What was taken from the scored stream, as the learner reads it."""
    return [ScoredEntry(entry_id=job.entry_id, group_id=job.group_id, failed=None) for job in jobs]


def group_in(fields: dict[bytes, bytes]) -> str:
    """What the field of a work stream's entry says that names its group."""
    return fields.get(b"g", b"").decode(errors="replace")


def taken(entry: tuple[bytes, dict[bytes, bytes]]) -> Taken:
    """An entry as redis-py gives it, without parts."""
    return entry[0].decode(), group_in(entry[1]), ()


def stream_id(text: str) -> tuple[int, int]:
    """An entry's id (``MILLISECONDS-NUMBER``, or ``0``), to be compared."""
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number or 0)


def block_ms(seconds: float) -> int | None:
    """What BLOCK takes: None does not wait, 0 would do so for ever."""
    return max(1, int(seconds * 1000)) if seconds else None
