"""One end of a work stream: a consumer of the consumer group ``workers`` takes entries, and renews what it holds."""

import re
import time
from collections.abc import Sequence

import redis

from ..keys import PARTS
from . import scripts
from .connection import Connection
from .entries import GROUP, GROUP_ID, HandOver, Job, LetterKind, Unwanted, WorkStream, block_ms, group_in
from .member import Member


class Consumer(Member):
    """A member that takes from one work stream. A taken entry is pending until it is acknowledged; one whose consumer
    has been silent for the lease is redelivered to another, and the delivery counter of Redis is the job's attempt."""

    stream: WorkStream

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._key = self.keys.prefix + self.stream
        self.reclaimed_at = 0.0  # when ``take`` last looked for the entries of silent workers; monotonic seconds

    def take(self, *, count: int, block_s: float, lease_s: float) -> list[Job]:
        """Lease at most ``count`` entries: first those whose taker has gone silent, then new ones for ``block_s`` (0:
        without waiting)."""
        jobs = self._reclaim(count, lease_s)
        if len(jobs) == count:
            return jobs
        entries = self._read(count - len(jobs), 0.0 if jobs else block_s)
        fresh = [
            Job(stream=self.stream, entry_id=entry_id, group_id=group_id, attempt=1)
            for entry_id, fields in entries
            if (group_id := self._group_of(entry_id, fields)) is not None
        ]
        return jobs + fresh

    def _group_of(self, entry_id: str, fields: dict[bytes, bytes]) -> str | None:
        """The group an entry names; an entry that names none becomes a dead letter and leaves the stream."""
        group_id = group_in(fields)
        if GROUP_ID.fullmatch(group_id):
            return group_id
        self.dead_letter(LetterKind.DAMAGED, self.stream, "", f"an entry that names no group: {group_id[:64]!r}")
        self._acknowledge(entry_id)
        return None

    def _read(self, count: int, block_s: float) -> list[tuple[str, dict[bytes, bytes]]]:
        unread = {self._key: ">"}
        try:
            reply = self._redis.xreadgroup(GROUP, self.worker, unread, count=count, block=block_ms(block_s))
        except redis.exceptions.ResponseError as error:
            if not re.match("NOGROUP|UNBLOCKED", str(error)):  # the second: it went away while we waited at it
                raise
            ensure_group(self.connection, self.stream)  # Redis lost its data, or the learner has just started over
            return []
        return [(entry_id.decode(), fields) for _, entries in reply for entry_id, fields in entries]

    def _reclaim(self, count: int, lease_s: float) -> list[Job]:
        """Claim pending entries whose worker has been silent for the lease, oldest first. By XPENDING and XCLAIM:
        XAUTOCLAIM looks at ten times its count from the oldest on, and would never get past as many live leases."""
        now = time.monotonic()
        if now - self.reclaimed_at < lease_s / 4:
            return []
        self.reclaimed_at = now
        lease_ms = int(lease_s * 1000)
        try:
            silent = self._redis.xpending_range(self._key, GROUP, "-", "+", count, idle=lease_ms)
            attempts = {entry["message_id"]: int(entry["times_delivered"]) + 1 for entry in silent}
            # Only what is idle still: it may have been renewed, handed over or claimed since.
            claimed = self._redis.xclaim(self._key, GROUP, self.worker, lease_ms, list(attempts)) if attempts else []
        except redis.exceptions.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            ensure_group(self.connection, self.stream)  # Redis lost its data, or the learner has just started over
            return []
        if silent:
            self.reclaimed_at = 0.0  # there may be more, and they have waited long enough
        jobs = []
        for entry_id, fields in claimed:
            group_id = None if fields is None else self._group_of(entry_id.decode(), fields)
            if group_id is not None:
                jobs.append(
                    Job(stream=self.stream, entry_id=entry_id.decode(), group_id=group_id, attempt=attempts[entry_id])
                )
        return jobs

    def renew(self, jobs: Sequence[Job]) -> set[str]:
        """Renew the leases of ``jobs``; returns the entry ids that are still ours."""
        if not jobs:
            return set()
        ids = [job.entry_id for job in jobs]
        try:
            kept = scripts.renew(self.connection, self._key, self.worker, ids)
        except redis.exceptions.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            return set()
        return {entry_id.decode() for entry_id in kept}

    def give_back(self, jobs: Sequence[Job]) -> None:
        """End the leases of ``jobs``, where they are still ours: who next looks for silent workers' entries gets them.
        The attempt does not count: a worker that leaves is not the group's fault."""
        for job in jobs:
            try:
                scripts.give_back(self.connection, self._key, job)
            except redis.exceptions.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
        self.reclaimed_at = 0.0  # we know already that there is something

    def unwanted(self, jobs: Sequence[Job]) -> dict[str, Unwanted]:
        """Of ``jobs``: the entry ids of those whose hand-over would count for nothing, or that somebody else was asked
        for, and why. One whose lease has merely passed to another worker is not among them: the first of both
        counts."""
        if not jobs:
            return {}
        made = PARTS[1] if self.stream is WorkStream.PROMPTS else PARTS[2]
        made_from = PARTS[PARTS.index(made) - 1]
        parts = [self.keys.group(job.group_id, part) for job in jobs for part in (made_from, made)]
        try:
            found = scripts.unwanted(self.connection, self._key, [job.entry_id for job in jobs], parts)
        except redis.exceptions.RedisError as error:
            if "NOGROUP" not in str(error):
                raise
            return {}
        return {job.entry_id: Unwanted(why.decode()) for job, why in zip(jobs, found, strict=True) if why}

    def _parts(self, group_id: str, *names: str) -> list[bytes | None]:
        bodies: list[bytes | None] = self._redis.mget([self.keys.group(group_id, name) for name in names])
        self.connection.bytes_in += sum(len(body) for body in bodies if body is not None)
        return bodies

    def _acknowledge(self, entry_id: str) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.xack(self._key, GROUP, entry_id)
        pipe.xdel(self._key, entry_id)
        pipe.execute()


class WorkerQueue(Consumer):
    """A consumer that makes one part of a group from the part before. Each call here ends the entry."""

    def _pass_on(self, job: Job, part: str, body: bytes, onward: WorkStream) -> HandOver:
        self.connection.bytes_out += len(body)
        return scripts.hand_over(
            self.connection,
            job,
            body,
            # What it was made from must still be there: a Redis that lost its data may have the ticket again, and not
            # yet the responses that these scores are of.
            made_from=self.keys.group(job.group_id, PARTS[PARTS.index(part) - 1]),
            stream=self._key,
            onward=self.keys.prefix + onward,
            payload=self.keys.group(job.group_id, part),
        )

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
