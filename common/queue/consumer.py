"""One end of a work stream: a consumer of the consumer group ``workers`` takes entries, and renews what it holds."""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import redis

from ..codec import encode
from ..types import Responses, Scores
from . import scripts
from .connection import Connection
from .entries import GROUP, GROUP_ID, HandOver, Job, LetterKind, Taken, Unwanted, WorkStream, block_ms, taken
from .member import Member

T = TypeVar("T")
Made = TypeVar("Made", Responses, Scores)

LARGE = 1 << 17  # bytes of a group that a script copies in the time of a round trip


class Consumer(Member):
    """A member that takes from one work stream. A taken entry is pending until it is acknowledged; one whose consumer
    has been silent for the lease is redelivered to another, and the delivery counter of Redis is the job's attempt."""

    stream: WorkStream
    reads: tuple[str, ...] = ()
    """The parts of a group, of ``PARTS``, that its taker works from."""
    makes = ""
    """The part that it makes of them, where it makes any."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._key = self.keys.prefix + self.stream
        self._brought = self._parts_of("%s")  # what a new entry brings along
        self.reclaimed_at = 0.0  # when ``take`` last looked for the entries of silent workers; monotonic seconds

    def take(self, *, count: int, block_s: float, lease_s: float) -> list[Job]:
        """Lease at most ``count`` entries: first those whose taker has gone silent, then new ones for ``block_s``. At
        0 new ones bring their parts along in the same round trip. A script cannot wait: who waits reads them after."""
        jobs = self._reclaim(count, lease_s)
        if len(jobs) == count:
            return jobs
        if block_s and not jobs:
            return self._jobs(self._read(count, block_s))
        new = self._asked(lambda: scripts.take(self.connection, self._key, count - len(jobs), self._brought))
        return jobs + self._jobs(new or ())

    def _jobs(self, entries: Iterable[Taken], attempts: dict[str, int] | None = None) -> list[Job]:
        """The job of each entry. One that names no group becomes a dead letter and leaves the stream."""
        jobs = []
        for entry_id, group_id, parts in entries:
            if GROUP_ID.fullmatch(group_id):
                attempt = attempts[entry_id] if attempts else 1
                jobs.append(Job(stream=self.stream, entry_id=entry_id, group_id=group_id, attempt=attempt, parts=parts))
            else:
                self.dead_letter(
                    LetterKind.DAMAGED, self.stream, "", f"an entry that names no group: {group_id[:64]!r}"
                )
                self._acknowledge(entry_id)
        return jobs

    def _asked(self, ask: Callable[[], T]) -> T | None:
        """What ``ask`` finds on the stream; None, and the consumer group made anew, where it is gone."""
        try:
            return ask()
        except redis.exceptions.ResponseError as error:
            if not re.search("NOGROUP|UNBLOCKED", str(error)):  # the second: it went away while we waited at it
                raise
            ensure_group(self.connection, self.stream)  # Redis lost its data, or the learner has just started over
            return None

    def _read(self, count: int, block_s: float) -> list[Taken]:
        unread, block = {self._key: ">"}, block_ms(block_s)
        reply: Any = (
            self._asked(lambda: self._redis.xreadgroup(GROUP, self.worker, unread, count=count, block=block)) or ()
        )
        return [taken(entry) for _, entries in reply for entry in entries]

    def _reclaim_is_due(self, lease_s: float) -> bool:
        return time.monotonic() - self.reclaimed_at >= lease_s / 4

    def _reclaim(self, count: int, lease_s: float) -> list[Job]:
        """Claim pending entries whose worker has been silent for the lease, oldest first. By XPENDING and XCLAIM:
        XAUTOCLAIM looks at ten times its count from the oldest on, and would never get past as many live leases."""
        if not self._reclaim_is_due(lease_s):
            return []
        self.reclaimed_at = time.monotonic()
        lease_ms = int(lease_s * 1000)
        silent: Any = self._asked(lambda: self._redis.xpending_range(self._key, GROUP, "-", "+", count, idle=lease_ms))
        if not silent:
            return []
        self.reclaimed_at = 0.0  # there may be more, and they have waited long enough
        attempts = {entry["message_id"].decode(): int(entry["times_delivered"]) + 1 for entry in silent}
        # Only what is idle still: it may have been renewed, handed over or claimed since.
        claimed: Any = (
            self._asked(lambda: self._redis.xclaim(self._key, GROUP, self.worker, lease_ms, list(attempts))) or ()
        )
        return self._jobs([taken(entry) for entry in claimed if entry[1] is not None], attempts)

    def renew(self, jobs: Sequence[Job]) -> set[str]:
        """Renew the leases of ``jobs``; returns the entry ids that are still ours."""
        if not jobs:
            return set()
        ids = [job.entry_id for job in jobs]
        kept = self._asked(lambda: scripts.renew(self.connection, self._key, self.worker, ids))
        return {entry_id.decode() for entry_id in kept or ()}

    def give_back(self, jobs: Sequence[Job], *, failed: bool = False) -> None:
        """End the leases of ``jobs``, where they are still ours: who next looks for silent workers' entries gets them.
        The attempt counts where it has ``failed``: that a worker leaves is not the group's fault."""
        for job in jobs:
            deliveries = job.attempt if failed else job.attempt - 1
            self._asked(partial(scripts.give_back, self.connection, self._key, job, deliveries))
        self.reclaimed_at = 0.0  # we know already that there is something

    def unwanted(self, jobs: Sequence[Job]) -> dict[str, Unwanted]:
        """Of ``jobs``: the entry ids of those whose hand-over would count for nothing, or that somebody else was asked
        for, and why. One whose lease has merely passed to another worker is not among them: the first of both
        counts."""
        if not jobs:
            return {}
        parts = [self.keys.group(job.group_id, part) for job in jobs for part in (self.reads[-1], self.makes)]
        ids = [job.entry_id for job in jobs]
        found = self._asked(lambda: scripts.unwanted(self.connection, self._key, ids, parts)) or [b""] * len(jobs)
        return {job.entry_id: Unwanted(why.decode()) for job, why in zip(jobs, found, strict=True) if why}

    def _parts_of(self, group_id: str) -> list[str]:
        return [self.keys.group(group_id, part) for part in self.reads]

    def _parts(self, job: Job) -> Sequence[bytes | None]:
        """What ``job`` is made from, read where it has not come with it."""
        bodies: Sequence[bytes | None] = job.parts or self._redis.mget(self._parts_of(job.group_id))
        size = sum(len(body) for body in bodies if body is not None)
        self.connection.bytes_in += size
        # The next group will be as large as this one: what is large comes sooner by itself than through a script.
        self._brought = self._parts_of("%s") if size < LARGE else []
        return bodies

    def _acknowledge(self, entry_id: str) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.xack(self._key, GROUP, entry_id)
        pipe.xdel(self._key, entry_id)
        pipe.execute()


class WorkerQueue(Consumer, Generic[Made]):
    """A consumer that makes one part of a group from the part before. Each call here ends the entry."""

    onward: WorkStream
    """Where its groups are announced."""

    def hand_over(self, job: Job, made: Made) -> HandOver:
        """Hand what was ``made`` of the job over to who works on from it."""
        return self.hand_over_and_take(job, made, lease_s=None)[0]

    def hand_over_and_take(self, job: Job, made: Made, *, lease_s: float | None) -> tuple[HandOver, list[Job]]:
        """``hand_over``, and ``take`` one job where there is one, in the same round trip. None takes no job."""
        body = encode(made)
        self.connection.bytes_out += len(body)
        # What it was made from must still be there: a Redis that lost its data may have the ticket again, and not yet
        # the responses that these scores are of.
        made_from = self.keys.group(job.group_id, self.reads[-1])
        outcome, found = scripts.hand_over(
            self.connection,
            job,
            body,
            keys=(self._key, made_from, self.keys.prefix + self.onward, self.keys.group(job.group_id, self.makes)),
            count=int(lease_s is not None and not self._reclaim_is_due(lease_s)),  # who went silent comes first
            parts=self._brought,
        )
        return outcome, self._jobs(found)

    def give_up(self, job: Job, reason: str) -> None:
        """Send the group to the dead letters, where the learner finds it and refunds the ticket as ``poison``."""
        ticket, letters = self.keys.group(job.group_id, "ticket"), self.keys.dead_letters
        scripts.give_up(self.connection, job, reason, ticket=ticket, stream=self._key, letters=letters)

    def drop(self, job: Job) -> None:
        """Acknowledge an entry whose group nobody wants any more."""
        self._acknowledge(job.entry_id)

    def damaged(self, job: Job, reason: str) -> None:
        """Drop an entry whose group cannot be read, and say so: the learner finds it in no stream, issues it anew."""
        self.dead_letter(LetterKind.DAMAGED, job.stream, job.group_id, reason)
        self.drop(job)


def ensure_group(connection: Connection, stream: WorkStream) -> None:
    """Create the consumer group of a work stream where it is missing (XGROUP CREATE)."""
    try:
        connection.redis.xgroup_create(connection.keys.prefix + stream, GROUP, id="0", mkstream=True)
    except redis.exceptions.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
