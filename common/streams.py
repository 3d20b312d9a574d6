"""The one module that speaks to Redis: work streams with leases, atomic hand-over, weights, metrics, heartbeats.

A work stream carries group ids. Taking an entry leases it: the entry stays pending under the taker's name, and an
entry whose taker has been silent for the lease is given to another. Handing over is one atomic step (a Lua script):
write the payload if nobody has, announce it on the next stream, acknowledge and delete the entry. So a stream's length
is what is queued or under way there, and every step may be repeated without harm. Only Redis 7.0 commands.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from .address import HELP, public
from .codec import decode, decode_manifest, decode_record, encode, encode_record
from .errors import BrokerError, ConfigError, DecodeError, NoRunError
from .keys import PARTS, Keys
from .reach import why_unreachable
from .refusals import OUT_OF_MEMORY, meaning
from .types import Heartbeat, Manifest, Responses, Scores, Ticket, Verdict, VerdictKind

log = logging.getLogger(__name__)

RedisError = redis.exceptions.RedisError

WEIGHTS = "weights"  # ``where`` of a letter on a manifest that cannot be read
DAMAGED = "damaged "  # before the stream in ``where`` of a letter that is a record alone: the group is made again
GROUP = "workers"  # consumer group of every work stream
_URL_ADVICE = f"not an address; {HELP} In a password write / as %2F, @ as %40, : as %3A, # as %23"
RETRY_S = 60.0  # how long a role outlives a vanished Redis before it gives up
ANSWER_S = 30.0  # how long a role waits for one answer before it asks again on a new connection
VERDICT_MINUTES = 60  # how long the verdicts of a minute are kept
GIVEN_BACK_MS = 1 << 40  # idle time of an entry whose lease is over before its time
_MEMBER = re.compile(rb"[a-z]+/[\x21-\x7e]+")  # ROLE/WORKER
GROUP_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")  # TICKET-INCARNATION
MOST_PENDING = 100_000  # entries of a stream that are looked at together
MOST_CONNECTIONS = 10_000  # of a process: every thread that waits for work holds one; redis-py would stop at 100
REFUSED_S = 5.0  # how long a refused write is told of; while it is tried again it is refused more often than that
METRICS_KEPT = 2_000  # entries; a view, and the sink is seldom a second behind

# KEYS: ticket, work stream. ARGV: ticket bytes, group id.
_ISSUE = """
if redis.call('SETNX', KEYS[1], ARGV[1]) == 1 then
  redis.call('XADD', KEYS[2], '*', 'g', ARGV[2])
  return 1
end
return 0
"""

# KEYS: the part it is made from, this stream, next stream, payload. ARGV: consumer group, entry id, bytes, group id.
_HAND_OVER = """
local outcome = 'gone'
if redis.call('EXISTS', KEYS[1]) == 1 then
  outcome = 'duplicate'
  if redis.call('SETNX', KEYS[4], ARGV[3]) == 1 then
    redis.call('XADD', KEYS[3], '*', 'g', ARGV[4])
    outcome = 'handed'
  end
end
redis.call('XACK', KEYS[2], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[2], ARGV[2])
return outcome
"""

# KEYS: ticket, this stream, dead letters. ARGV: consumer group, entry id, group id, reason, stage, worker. The learner
# reads the dead letters too: no worker needs a right to write where scored groups are announced.
_GIVE_UP = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*',
             'where', ARGV[5], 'g', ARGV[3], 'worker', ARGV[6], 'reason', ARGV[4])
end
redis.call('XACK', KEYS[2], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[2], ARGV[2])
"""

# KEYS: hash of the streak. ARGV: the reward that the whole group got, empty where its responses differ.
_ALIKE = """
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'reward') == ARGV[1] then
  redis.call('HINCRBY', KEYS[1], 'groups', 1)
else
  redis.call('HSET', KEYS[1], 'reward', ARGV[1], 'groups', ARGV[1] ~= '' and 1 or 0)
end
"""

# KEYS: stream. ARGV: consumer group, consumer, entry ids…  Renews only what is still ours: claiming blindly would
# take back an entry that was given to another worker while we were silent.
_RENEW = """
local kept = {}
for i = 3, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    kept[#kept + 1] = ARGV[i]
  end
end
return kept
"""


# KEYS: stream. ARGV: consumer group, consumer, entry id, milliseconds idle, deliveries that count.
_RETURN = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) > 0 then
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[4], 'RETRYCOUNT', ARGV[5], 'JUSTID')
end
"""


# KEYS: hash. ARGV: field, the value it has to have.
_UNSET = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
"""


class WorkStream(StrEnum):
    """The three work streams, by the role that takes from them."""

    PROMPTS = "prompts"
    RESPONSES = "responses"
    SCORED = "scored"


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
    """1 at the first delivery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredEntry:
    """What the learner reads: a group that is scored, or one that somebody gave up on."""

    entry_id: str | None
    """On the scored stream; None where the group was given up and only a dead letter tells."""
    group_id: str
    failed: str | None
    """The reason, where the group was given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the learner looks for at every turn of its pump."""

    lost: bool
    """Redis has come back empty."""
    superseded_by: int | None
    """The incarnation of a learner that has started since."""
    controls: dict[bytes, bytes]
    """As an operator, or anybody else, has set them: not read yet."""
    retries: dict[str, str]
    """As ``Bus.retries`` gives them."""
    unreadable: tuple[int, int, str] | None
    """(incarnation, version, worker), where a worker could not read the newest weights."""


class _Client(redis.Redis):
    """Notes when Redis has refused a command for want of memory: it is tried again, and nobody else hears of it."""

    refused_at = -REFUSED_S

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        try:
            return super().parse_response(connection, command_name, **options)
        except redis.exceptions.OutOfMemoryError:
            self.refused_at = time.monotonic()
            raise


class Bus:
    """One process's connection to one run."""

    def __init__(
        self,
        url: str,
        run: str,
        *,
        worker: str = "desk",
        connect_s: float = 5.0,
        patience_s: float = 0.0,
        retry_s: float = RETRY_S,
    ) -> None:
        """Connect, or raise ``BrokerError`` within about ``connect_s`` seconds, ``patience_s`` later. Afterwards a
        server that is away or out of memory is asked again for ``retry_s``; at 0 it has ``connect_s`` to answer."""
        self.url, self.run, self.worker = url, run, worker
        self.keys = Keys(run)
        self.bytes_out = 0
        """Payload bytes written by this process (groups and weights)."""
        self.bytes_in = 0
        """Payload bytes read by this process."""
        self.last_record: dict[str, Any] = {}
        """What this process has measured last."""
        self._reclaimed_at = 0.0
        self._letter_id = "0"  # the newest dead letter that ``scored`` has told of
        self.manifest_damaged = False
        """Whether ``scored`` has come upon a letter of somebody who could not read a manifest of the weights."""
        self._told: set[bytes] = set()  # entries of the weights stream that a dead letter was written for
        self._check_reachable(connect_s, time.monotonic() + patience_s)
        backoff = ExponentialWithJitterBackoff(base=0.05, cap=1.0)
        try:
            # Any: redis-py's annotations are the union of every protocol and decoding; ours is fixed (RESP2, bytes).
            self._redis: Any = _Client.from_url(
                url,
                protocol=2,
                retry=Retry(backoff, retries=int(retry_s)),
                retry_on_error=[
                    redis.exceptions.ConnectionError,
                    redis.exceptions.TimeoutError,
                    redis.exceptions.OutOfMemoryError,
                ],
                socket_timeout=ANSWER_S if retry_s else connect_s,
                socket_connect_timeout=connect_s,
                health_check_interval=15,
                max_connections=MOST_CONNECTIONS,
            )
        except ValueError:  # its text, and its trace, may hold a piece of the password
            raise BrokerError(f"--redis-url {public(url)!r}: {_URL_ADVICE}") from None
        self._scripts: dict[str, Any] = {}
        self._issue = self._redis.register_script(_ISSUE)
        self._hand_over = self._redis.register_script(_HAND_OVER)
        self._give_up = self._redis.register_script(_GIVE_UP)
        self._renew = self._redis.register_script(_RENEW)
        self._return = self._redis.register_script(_RETURN)
        self._alike = self._redis.register_script(_ALIKE)

    def _check_reachable(self, connect_s: float, until: float) -> None:
        try:
            self._ping(connect_s)
        except redis.exceptions.NoPermissionError:
            return  # it answers; what this user may do shows when it is done
        except ValueError:
            raise BrokerError(f"no Redis at {public(self.url)}: {_URL_ADVICE}") from None
        except redis.exceptions.AuthenticationError as error:
            raise BrokerError(f"the Redis at {public(self.url)} {refused_or_lost(error)} ({error})") from error
        except (redis.exceptions.RedisError, OSError) as error:
            if time.monotonic() < until:
                log.warning("no Redis at %s yet: %s", public(self.url), error)
                time.sleep(1.0)
                self._check_reachable(connect_s, until)
                return
            raise BrokerError(self._why_not(error, connect_s)) from error

    def _why_not(self, error: Exception, connect_s: float) -> str:
        at = public(self.url)
        if (known := meaning(error)) is not None:
            return f"the Redis at {at} {known} ({error})"
        if (found := why_unreachable(self.url, error)) is not None:
            return found
        if isinstance(error, redis.exceptions.TimeoutError):
            return (
                f"the Redis at {at} does not answer within {connect_s:g} s: it is frozen or overloaded, or the network "
                "to it is gone"
            )
        return f"no Redis at {at}: {error}; start one, or name another with --redis-url"

    def _ping(self, connect_s: float) -> None:
        probe = redis.Redis.from_url(
            self.url, protocol=2, socket_timeout=connect_s, socket_connect_timeout=connect_s, retry=None
        )
        try:
            probe.ping()
        finally:
            probe.close()

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()

    # --- the run ------------------------------------------------------------------------------------------------------

    def script(self, text: str) -> Any:
        """A Lua script, to be called with ``keys`` and ``args``."""
        if text not in self._scripts:
            self._scripts[text] = self._redis.register_script(text)
        return self._scripts[text]

    def store_config(self, text: str) -> None:
        """Keep the run's resolved configuration where every role finds it."""
        self._redis.set(self.keys.config, text)

    def load_config(self) -> str:
        """The run's configuration text; ``NoRunError`` where this Redis does not hold the run."""
        text = self._redis.get(self.keys.config)
        if text is None:
            raise NoRunError(f"run {self.run!r} is not known to the Redis at {public(self.url)}")
        return text.decode(errors="replace")

    def now(self) -> float:
        """Unix time by the server's clock, in seconds. Whatever is compared across hosts goes by it: theirs differ."""
        seconds, microseconds = self._redis.time()
        return float(seconds) + microseconds / 1e6

    def has_run(self) -> bool:
        """Whether this Redis holds the run's configuration."""
        return bool(self._redis.exists(self.keys.config))

    def raise_incarnation(self, at_least: int) -> int:
        """A new fencing number, above every earlier one this Redis or the caller's checkpoint knows."""
        self.remove_foreign()
        number = int(self._redis.incr(self.keys.incarnation))
        if number < at_least:  # Redis came back empty; the checkpoint remembers
            number = at_least
            self._redis.set(self.keys.incarnation, number)
        return number

    def remove_foreign(self) -> None:
        """Remove what cannot be ours: a key of another type than ours has, an incarnation that is no number. Every
        command on such a key fails, in every role, for as long as it is there; what is missing is put back."""
        kinds = self.keys.types()
        pipe = self._redis.pipeline(transaction=False)
        for key in kinds:
            pipe.type(key)
        pipe.mget(self.keys.incarnation)
        *found, (number,) = pipe.execute()
        foreign = {
            key: f"a {kind.decode()} where a {ours} is due"
            for (key, ours), kind in zip(kinds.items(), found, strict=True)
            if kind.decode() not in (ours, "none")
        }
        if number is not None and _whole(number) < 1:
            foreign[self.keys.incarnation] = f"{number[:64]!r} where a number is due"
        for key, why in foreign.items():
            log.error("%s holds %s: removed", key, why)
            self._redis.unlink(key)
        for key, why in foreign.items():
            self.dead_letter(key.removeprefix(self.keys.prefix), "", f"{why}: removed")

    def ensure_groups(self) -> None:
        """Create the consumer groups that are missing."""
        for stream in WorkStream:
            self._ensure_group(stream)

    def _ensure_group(self, stream: WorkStream) -> None:
        try:
            self._redis.xgroup_create(self._stream(stream), GROUP, id="0", mkstream=True)
        except redis.exceptions.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def clear_work(self) -> int:
        """Forget every group on the work streams; returns how many. For a learner that starts: it issues anew."""
        group_ids: set[str] = set()
        for stream in WorkStream:
            for _, fields in self._redis.xrange(self._stream(stream)):
                group_ids.add(fields.get(b"g", b"").decode(errors="replace"))
        # Given up, and on no stream any more: who died before it refunded them left their payloads.
        given_up = {letter["g"] for letter in self.dead_letters() if GROUP_ID.fullmatch(letter["g"])} - group_ids
        pipe = self._redis.pipeline(transaction=True)
        for group_id in group_ids | given_up:
            pipe.delete(*self.keys.parts(group_id))
        for stream in WorkStream:
            pipe.delete(self._stream(stream))
        pipe.execute()
        self.ensure_groups()
        newest = self._redis.xrevrange(self.keys.dead_letters, count=1)
        self._letter_id = newest[0][0].decode() if newest else "0"  # older ones tell of groups that are gone
        return len(group_ids)

    # --- work ---------------------------------------------------------------------------------------------------------

    def issue(self, *tickets: Ticket) -> None:
        """Put groups' tickets on the prompts stream, in one round trip; repeating it changes nothing."""
        if not tickets:
            return
        pipe = self._redis.pipeline(transaction=False)
        for ticket in tickets:
            body = encode(ticket)
            self.bytes_out += len(body)
            keys = [self.keys.group(ticket.group_id, "ticket"), self.keys.prompts]
            self._issue(keys=keys, args=[body, ticket.group_id], client=pipe)
        try:
            pipe.execute()
        except redis.exceptions.NoScriptError:  # the server was started anew between loading the script and calling it
            self.issue(*tickets)

    def take(self, stream: WorkStream, *, count: int, block_s: float, lease_s: float) -> list[Job]:
        """Lease at most ``count`` entries: first those whose taker has gone silent, then new ones for ``block_s`` (0:
        without waiting)."""
        jobs = self._reclaim(stream, count, lease_s)
        if len(jobs) == count:
            return jobs
        entries = self._read(stream, count - len(jobs), 0.0 if jobs else block_s)
        fresh = [
            Job(stream=stream, entry_id=entry_id, group_id=group_id, attempt=1)
            for entry_id, fields in entries
            if (group_id := self._group_of(stream, entry_id, fields)) is not None
        ]
        return jobs + fresh

    def _group_of(self, stream: WorkStream, entry_id: str, fields: dict[bytes, bytes]) -> str | None:
        """The group an entry names; an entry that names none becomes a dead letter and leaves the stream."""
        group_id = fields.get(b"g", b"").decode(errors="replace")
        if GROUP_ID.fullmatch(group_id):
            return group_id
        self.dead_letter(stream.value, "", f"an entry that names no group: {group_id[:64]!r}")
        self._acknowledge(stream, entry_id)
        return None

    def _read(self, stream: WorkStream, count: int, block_s: float) -> list[tuple[str, dict[bytes, bytes]]]:
        unread, block_ms = {self._stream(stream): ">"}, _block_ms(block_s)
        try:
            reply = self._redis.xreadgroup(GROUP, self.worker, unread, count=count, block=block_ms)
        except redis.exceptions.ResponseError as error:
            if not re.match("NOGROUP|UNBLOCKED", str(error)):  # the second: it went away while we waited at it
                raise
            self._ensure_group(stream)  # Redis lost its data, or the learner has just started over
            return []
        return [(entry_id.decode(), fields) for _, entries in reply for entry_id, fields in entries]

    def _reclaim(self, stream: WorkStream, count: int, lease_s: float) -> list[Job]:
        """Claim pending entries whose worker has been silent for the lease, oldest first. By XPENDING and XCLAIM:
        XAUTOCLAIM looks at ten times its count from the oldest on, and would never get past as many live leases."""
        now = time.monotonic()
        if now - self._reclaimed_at < lease_s / 4:
            return []
        self._reclaimed_at = now
        key, lease_ms = self._stream(stream), int(lease_s * 1000)
        try:
            silent = self._redis.xpending_range(key, GROUP, "-", "+", count, idle=lease_ms)
            attempts = {entry["message_id"]: int(entry["times_delivered"]) + 1 for entry in silent}
            # Only what is idle still: it may have been renewed, handed over or claimed since.
            claimed = self._redis.xclaim(key, GROUP, self.worker, lease_ms, list(attempts)) if attempts else []
        except redis.exceptions.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._ensure_group(stream)  # Redis lost its data, or the learner has just started over
            return []
        if silent:
            self._reclaimed_at = 0.0  # there may be more, and they have waited long enough
        jobs = []
        for entry_id, fields in claimed:
            group_id = None if fields is None else self._group_of(stream, entry_id.decode(), fields)
            if group_id is not None:
                jobs.append(
                    Job(stream=stream, entry_id=entry_id.decode(), group_id=group_id, attempt=attempts[entry_id])
                )
        return jobs

    def renew(self, jobs: Sequence[Job]) -> set[str]:
        """Renew the leases of ``jobs`` (one stream); returns the entry ids that are still ours."""
        if not jobs:
            return set()
        ids = [job.entry_id for job in jobs]
        try:
            kept = self._renew(keys=[self._stream(jobs[0].stream)], args=[GROUP, self.worker, *ids])
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
                known: list[str | int] = [GROUP, self.worker, job.entry_id, GIVEN_BACK_MS, job.attempt - 1]
                self._return(keys=[self._stream(job.stream)], args=known)
            except redis.exceptions.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
        self._reclaimed_at = 0.0  # we know already that there is something

    def ticket(self, group_id: str) -> Ticket | None:
        """The group's ticket; None where the learner no longer wants the group. ``DecodeError`` if it is broken."""
        (body,) = self._parts(group_id, "ticket")
        return None if body is None else decode_part(Ticket, body, group_id)

    def holds(self, group_id: str) -> bool:
        """Whether the group's ticket is here: somebody has issued it."""
        return bool(self._redis.exists(self.keys.group(group_id, "ticket")))

    def responses(self, group_id: str) -> tuple[Ticket, Responses] | None:
        """The group's ticket and responses, or None where it is no longer wanted."""
        ticket, responses = self._parts(group_id, "ticket", "responses")
        if ticket is None or responses is None:
            return None
        return decode_part(Ticket, ticket, group_id), decode_part(Responses, responses, group_id)

    def scored_group(self, group_id: str) -> tuple[Ticket, Responses, Scores] | None:
        """All three parts of a scored group, or None where it is no longer there."""
        ticket, responses, scores = self._parts(group_id, "ticket", "responses", "scores")
        if ticket is None or responses is None or scores is None:
            return None
        return (
            decode_part(Ticket, ticket, group_id),
            decode_part(Responses, responses, group_id),
            decode_part(Scores, scores, group_id),
        )

    def scored_payloads(self, group_ids: Sequence[str]) -> list[tuple[bytes | None, bytes | None]]:
        """The undecoded responses and scores of several groups in one round trip, for the learner, which decodes each
        on its own (one that is broken must not hold up the others) and knows its own tickets."""
        pipe = self._redis.pipeline(transaction=False)
        for group_id in group_ids:
            pipe.mget(self.keys.group(group_id, "responses"), self.keys.group(group_id, "scores"))
        bodies = [tuple(found) for found in pipe.execute()]
        self.bytes_in += sum(len(body or b"") for found in bodies for body in found)
        return bodies

    def _parts(self, group_id: str, *names: str) -> list[bytes | None]:
        bodies = self._redis.mget([self.keys.group(group_id, name) for name in names])
        self.bytes_in += sum(len(body) for body in bodies if body is not None)
        return bodies

    def hand_over_responses(self, job: Job, responses: Responses) -> HandOver:
        """Rollout's hand-over to the verifiers."""
        return self._pass_on(job, "responses", encode(responses), WorkStream.RESPONSES)

    def hand_over_scores(self, job: Job, scores: Scores) -> HandOver:
        """The verifier's hand-over to the learner."""
        return self._pass_on(job, "scores", encode(scores), WorkStream.SCORED)

    def _pass_on(self, job: Job, part: str, body: bytes, onward: WorkStream) -> HandOver:
        self.bytes_out += len(body)
        # What it was made from must still be there: a Redis that lost its data may have the ticket again, and not yet
        # the responses that these scores are of.
        made_from = self.keys.group(job.group_id, PARTS[PARTS.index(part) - 1])
        payload = self.keys.group(job.group_id, part)
        outcome = self._hand_over(
            keys=[made_from, self._stream(job.stream), self._stream(onward), payload],
            args=[GROUP, job.entry_id, body, job.group_id],
        )
        return HandOver(outcome.decode())

    def give_up(self, job: Job, reason: str) -> None:
        """Send the group to the dead letters, where the learner finds it and refunds the ticket as ``poison``."""
        self._give_up(
            keys=[self.keys.group(job.group_id, "ticket"), self._stream(job.stream), self.keys.dead_letters],
            args=[GROUP, job.entry_id, job.group_id, reason[:2000], job.stream.value, self.worker],
        )

    def drop(self, job: Job) -> None:
        """Acknowledge an entry whose group nobody wants any more."""
        self._acknowledge(job.stream, job.entry_id)

    def damaged(self, job: Job, reason: str) -> None:
        """Drop an entry whose group cannot be read, and say so: the learner finds it in no stream, issues it anew."""
        self.dead_letter(DAMAGED + job.stream.value, job.group_id, reason)
        self.drop(job)

    def _acknowledge(self, stream: WorkStream, entry_id: str) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.xack(self._stream(stream), GROUP, entry_id)
        pipe.xdel(self._stream(stream), entry_id)
        pipe.execute()

    # --- the learner's end --------------------------------------------------------------------------------------------

    def scored(self, *, count: int, block_s: float) -> list[ScoredEntry]:
        """Newly scored or given-up groups, waited for as in ``take``. The scored ones stay pending until ``settle``."""
        entries = self._read(WorkStream.SCORED, count, block_s)
        scored = [
            ScoredEntry(entry_id=entry_id, group_id=group_id, failed=None)
            for entry_id, fields in entries
            if (group_id := self._group_of(WorkStream.SCORED, entry_id, fields)) is not None
        ]
        return scored + self._given_up(count)

    def _given_up(self, count: int) -> list[ScoredEntry]:
        found = []
        for _, entries in self._redis.xread({self.keys.dead_letters: self._letter_id}, count=count) or ():
            for entry_id, fields in entries:
                self._letter_id = entry_id.decode()
                text = {key: value.decode(errors="replace") for key, value in fields.items()}
                self.manifest_damaged |= text.get(b"where") == WEIGHTS
                by_worker = text.get(b"where") in (WorkStream.PROMPTS, WorkStream.RESPONSES)
                if by_worker and GROUP_ID.fullmatch(text.get(b"g", "")):
                    found.append(ScoredEntry(entry_id=None, group_id=text[b"g"], failed=text.get(b"reason", "")))
        return found

    def turn_away(self, entry: ScoredEntry) -> None:
        """Acknowledge an entry and leave its group's payload as it is: it is another entry's, or to be made again."""
        if entry.entry_id is not None:
            self._acknowledge(WorkStream.SCORED, entry.entry_id)

    def settle(self, entries: Iterable[ScoredEntry]) -> None:
        """Acknowledge groups that a checkpoint covers (or that are refunded) and forget their payloads."""
        settled = list(entries)
        if not settled:
            return
        pipe = self._redis.pipeline(transaction=True)
        entry_ids = [entry.entry_id for entry in settled if entry.entry_id is not None]
        if entry_ids:
            pipe.xack(self.keys.scored, GROUP, *entry_ids)
            pipe.xdel(self.keys.scored, *entry_ids)
        pipe.unlink(*[key for entry in settled for key in self.keys.parts(entry.group_id)])
        pipe.execute()

    def asked(self, incarnation: int) -> Asked:
        """Whether Redis still has what the learner of ``incarnation`` put there, and what others ask of it, in one
        round trip."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.mget(self.keys.incarnation, self.keys.config)
        pipe.hgetall(self.keys.controls)
        pipe.hgetall(self.keys.retries)
        pipe.get(self.keys.unreadable)
        (number, config), controls, retries, told = pipe.execute()
        found = re.fullmatch(rb"(\d{1,18})\|(\d{1,18})\|(.*)", told or b"")
        return Asked(
            lost=config is None or _whole(number) < incarnation,
            superseded_by=_whole(number) if _whole(number) > incarnation else None,
            controls=controls,
            retries=_texts(retries),
            unreadable=found and (int(found[1]), int(found[2]), found[3].decode(errors="replace")),
        )

    def restore_run(self, config: str, incarnation: int, controls: dict[str, str]) -> None:
        """Give a Redis that came back empty what it held beside groups and weights. What an operator has turned since
        then stays."""
        self.store_config(config)
        if _whole(self._redis.get(self.keys.incarnation)) < incarnation:
            self._redis.set(self.keys.incarnation, incarnation)
        for name, value in controls.items():
            self._redis.hsetnx(self.keys.controls, name, value)
        self.ensure_groups()
        self._letter_id = "0"

    def astray(self, group_ids: Sequence[str]) -> tuple[list[str], list[str]]:
        """Of ``group_ids``: those whose ticket is gone from here, and those that no work stream names any more. Entries
        pass from stream to stream in one step, so a group that is under way always stands in one."""
        if not group_ids:
            return [], []
        pipe = self._redis.pipeline(transaction=True)
        for stream in WorkStream:
            pipe.xrange(self._stream(stream))
        for group_id in group_ids:
            pipe.exists(self.keys.group(group_id, "ticket"))
        answers = pipe.execute()
        streams, there = answers[: len(WorkStream)], answers[len(WorkStream) :]
        named = {fields.get(b"g", b"").decode(errors="replace") for entries in streams for _, fields in entries}
        gone = [group_id for group_id, found in zip(group_ids, there, strict=True) if not found]
        unnamed = [group_id for group_id in group_ids if group_id not in named]
        return gone, [group_id for group_id in unnamed if group_id not in gone]

    def begin_future_leases(self) -> None:
        """Have leases that were given while the server's clock was ahead begin now: their holders may be dead, and
        nobody would get the work before the clock is there again. Redis says 0 of how long such an entry has been idle;
        one that was given this very millisecond says so too, and is not harmed."""
        for stream in (WorkStream.PROMPTS, WorkStream.RESPONSES):
            try:
                pending = self._redis.xpending_range(self._stream(stream), GROUP, "-", "+", MOST_PENDING)
            except redis.exceptions.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                continue
            for entry in pending:
                if entry["time_since_delivered"] == 0:
                    self._renew(keys=[self._stream(stream)], args=[GROUP, entry["consumer"], entry["message_id"]])

    def unread(self, known: set[str]) -> list[ScoredEntry]:
        """Scored entries that are leased to this learner and not among ``known`` (entry ids): the answer that named
        them was lost with its connection."""
        if self.under_way(WorkStream.SCORED).get(self.worker, 0) <= len(known):
            return []
        reply = self._redis.xreadgroup(GROUP, self.worker, {self.keys.scored: "0"})
        entries = [(entry_id.decode(), fields) for _, entries in reply for entry_id, fields in entries]
        return [
            ScoredEntry(entry_id=entry_id, group_id=group_id, failed=None)
            for entry_id, fields in entries
            if entry_id not in known and (group_id := self._group_of(WorkStream.SCORED, entry_id, fields)) is not None
        ]

    def withdraw(self, group_ids: Sequence[str]) -> None:
        """Forget groups that nobody wants any more and that have not come back: whoever takes one drops it."""
        if group_ids:
            self._redis.unlink(*[key for group_id in group_ids for key in self.keys.parts(group_id)])

    # --- weights ------------------------------------------------------------------------------------------------------

    def publish_manifest(self, manifest: Manifest) -> None:
        """Announce a version whose payload is already whole."""
        self._redis.xadd(self.keys.weights, {"m": encode(manifest)})

    def manifests(self) -> list[Manifest]:
        """Every manifest still on the stream, oldest first. Broken ones are passed over, with a dead letter; they leave
        the stream when the learner next deletes a version."""
        return [manifest for _, manifest in self._manifest_entries()[0]]

    def _manifest_entries(self) -> tuple[list[tuple[bytes, Manifest]], list[bytes]]:
        """(entry id, manifest) of the good ones, entry ids of the broken ones."""
        found, broken = [], []
        for entry_id, fields in self._redis.xrange(self.keys.weights):
            try:
                found.append((entry_id, decode_manifest(fields.get(b"m", b""))))
            except DecodeError as error:
                broken.append(entry_id)
                if entry_id not in self._told:
                    self.dead_letter(WEIGHTS, "", str(error))
        self._told = set(broken)
        return found, broken

    def wait_for_manifest(self, after: tuple[int, int], timeout_s: float) -> bool:
        """Wait until the newest manifest is later than ``after`` = (incarnation, version).

        The incarnation comes first: a learner that went back to a checkpoint publishes smaller versions again.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            entries, _ = self._manifest_entries()
            # The highest, not the last: a superseded learner's late manifest may stand behind a newer one.
            if max(((found.incarnation, found.version) for _, found in entries), default=after) > after:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            last_id = entries[-1][0] if entries else b"0"
            self._redis.xread({self.keys.weights: last_id}, count=1, block=max(1, int(min(left, 5.0) * 1000)))

    def put_chunk(self, version: int, incarnation: int, index: int, data: bytes) -> None:
        """Store one piece of a version's payload."""
        self.bytes_out += len(data)
        self._redis.set(self.keys.weight_chunk(version, incarnation, index), data)

    def get_chunk(self, version: int, incarnation: int, index: int) -> bytes | None:
        """One piece of a version's payload, or None where it is gone."""
        data = self._redis.get(self.keys.weight_chunk(version, incarnation, index))
        self.bytes_in += len(data or b"")
        return data

    def delete_version(self, manifest: Manifest) -> None:
        """Forget a version: its manifest first, so that nobody starts on a payload that is going."""
        entries, broken = self._manifest_entries()
        stamp = (manifest.version, manifest.incarnation)
        for entry_id in [*broken, *(each for each, found in entries if (found.version, found.incarnation) == stamp)]:
            self._redis.xdel(self.keys.weights, entry_id)
        for index in range(manifest.chunks):
            self._redis.delete(self.keys.weight_chunk(manifest.version, manifest.incarnation, index))

    def tell_unreadable(self, version: int, incarnation: int) -> None:
        """Say that the newest version cannot be read: the learner then writes it again, whole."""
        self._redis.set(self.keys.unreadable, f"{incarnation}|{version}|{self.worker}")

    def forget_unreadable(self) -> None:
        """The learner has seen to it."""
        self._redis.delete(self.keys.unreadable)

    def lease_version(self, worker: str, version: int, seconds: float) -> None:
        """Keep a version from being deleted while ``worker`` loads it."""
        self._redis.zadd(self.keys.weight_leases, {f"{version}|{worker}": self.now() + seconds})

    def release_version(self, worker: str, version: int) -> None:
        """End that lease."""
        self._redis.zrem(self.keys.weight_leases, f"{version}|{worker}")

    def leased_versions(self) -> set[int]:
        """Versions that somebody is loading."""
        now = self.now()
        self._redis.zremrangebyscore(self.keys.weight_leases, 0, now)
        members = self._redis.zrangebyscore(self.keys.weight_leases, now, "+inf")
        return {_whole(member.split(b"|")[0]) for member in members}

    # --- what the roles say of themselves -----------------------------------------------------------------------------

    def beat(self, heartbeat: Heartbeat, ttl_s: float) -> float:
        """Say that this worker lives; the word holds for ``ttl_s``. Returns ``now()``."""
        key, now = self.keys.heartbeat(heartbeat.role, heartbeat.worker), self.now()
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(key, encode(heartbeat), px=int(ttl_s * 1000))
        pipe.zadd(self.keys.workers, {f"{heartbeat.role}/{heartbeat.worker}": now + ttl_s})
        pipe.execute()
        return now

    def leave(self, role: str, worker: str) -> None:
        """Say goodbye, so that nobody waits for the heartbeat to expire."""
        self._redis.delete(self.keys.heartbeat(role, worker))
        self._redis.zrem(self.keys.workers, f"{role}/{worker}")

    def workers(self) -> tuple[list[Heartbeat], dict[str, float]]:
        """Living workers' heartbeats, and the lost ones (``role/worker``) with the unix time they were last due."""
        alive, lost = [], {}
        found = self._redis.zrange(self.keys.workers, 0, -1, withscores=True)
        due = {member.decode(): at for member, at in found if _MEMBER.fullmatch(member) and isfinite(at)}
        keys = [self.keys.heartbeat(*member.split("/", 1)) for member in due]
        for member, body in zip(due, self._redis.mget(keys) if keys else [], strict=True):
            try:
                if body is not None:
                    alive.append(decode(Heartbeat, body))
                    continue
            except DecodeError as error:
                log.warning("a heartbeat of %s that cannot be read: %s", member, error)
            lost[member] = due[member]
        return alive, lost

    def set_state(self, **values: str | int | float) -> None:
        """The learner's word on the run, for the desk."""
        self._redis.hset(self.keys.state, mapping={key: str(value) for key, value in values.items()})

    def state(self) -> dict[str, str]:
        """What the learner last said of the run; empty before its first word."""
        return _texts(self._redis.hgetall(self.keys.state))

    def depths(self) -> dict[str, int]:
        """Entries queued or under way on each work stream, and the dead letters."""
        pipe = self._redis.pipeline(transaction=False)
        for stream in WorkStream:
            pipe.xlen(self._stream(stream))
        pipe.xlen(self.keys.dead_letters)
        return dict(zip([*(stream.value for stream in WorkStream), "dead_letters"], pipe.execute(), strict=True))

    def trouble(self) -> str:
        """Why Redis takes no writes, in a sentence; empty where it does, or where we may not know."""
        try:
            memory, disk = self._redis.info("memory"), self._redis.info("persistence")
        except redis.exceptions.NoPermissionError:
            return ""
        most = int(memory["maxmemory"])
        used = int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0))
        if most and used >= most and not memory["maxmemory_policy"].startswith("allkeys"):  # those make room themselves
            return f"Redis {OUT_OF_MEMORY}; {used >> 20} of {most >> 20} MiB are used"
        if "err" in (disk.get("aof_last_write_status"), disk.get("aof_last_bgrewrite_status")):
            return "Redis cannot write its append-only file: look at its disk"
        try:
            self._redis.unlink(self.keys.prefix + "nothing")  # a write that changes nothing, and is refused like others
        except redis.exceptions.NoPermissionError:
            return ""
        except redis.exceptions.ResponseError as error:
            return f"Redis {refused_or_lost(error)} ({error})"
        return ""

    @property
    def refused(self) -> bool:
        """Whether Redis has just refused what this process writes, for want of memory. A large payload may be refused
        where whoever looks at the memory finds some free."""
        return time.monotonic() - self._redis.refused_at < REFUSED_S

    def under_way(self, stream: WorkStream) -> dict[str, int]:
        """Leased entries of a work stream, by worker."""
        try:
            summary = self._redis.xpending(self._stream(stream), GROUP)
        except redis.exceptions.ResponseError:
            return {}
        return {row["name"].decode(errors="replace"): int(row["pending"]) for row in summary["consumers"] or ()}

    def set_control(self, name: str, value: str) -> None:
        """Turn a live control; the learner takes it up at its next admission."""
        self._redis.hset(self.keys.controls, name, value)

    def controls(self) -> dict[str, str]:
        """Live controls as last set by an operator."""
        return _texts(self._redis.hgetall(self.keys.controls))

    def refuse_control(self, name: bytes, value: bytes, reason: str) -> None:
        """Remove a control that cannot be taken up, unless it has been turned since, and keep a record of it."""
        self.script(_UNSET)(keys=[self.keys.controls], args=[name, value])
        self.dead_letter("controls", "", reason)

    def emit(self, record: dict[str, Any]) -> None:
        """Send a record of measurements to the sink."""
        self.last_record = record
        self._redis.xadd(self.keys.metrics, {"m": encode_record(record)}, maxlen=METRICS_KEPT, approximate=True)

    def newest_metric(self) -> str:
        """The id of the newest record, ``0`` where there is none."""
        newest = self._redis.xrevrange(self.keys.metrics, count=1)
        return newest[0][0].decode() if newest else "0"

    def metrics_after(self, last_id: str, block_s: float = 0.0) -> list[tuple[str, dict[str, Any]]]:
        """At most 1000 records after ``last_id`` (``0``: from the first), oldest first; a broken one is empty."""
        reply = self._redis.xread({self.keys.metrics: last_id}, count=1000, block=_block_ms(block_s))
        found = []
        for _, entries in reply or ():
            for entry_id, fields in entries:
                try:
                    found.append((entry_id.decode(), decode_record(fields.get(b"m", b""))))
                except DecodeError as error:
                    self.dead_letter("metrics", "", str(error))
                    found.append((entry_id.decode(), {}))
        return found

    def tally(self, verdicts: Sequence[Verdict]) -> None:
        """Count the verdicts of one graded group, for the alarms of ``leeway status``."""
        key = self.keys.verdicts(int(self.now() // 60))
        pipe = self._redis.pipeline(transaction=False)
        for kind, number in Counter(verdict.kind.value for verdict in verdicts).items():
            pipe.hincrby(key, kind, number)
        errors = [verdict.reason for verdict in verdicts if verdict.kind is VerdictKind.ERROR]
        if errors:
            pipe.hset(key, "why", errors[-1][:200])
        pipe.expire(key, 60 * (VERDICT_MINUTES + 1))
        pipe.execute()
        if not errors:
            rewards = {verdict.reward for verdict in verdicts}
            self._alike(keys=[self.keys.alike], args=[f"{rewards.pop():g}" if len(rewards) == 1 else ""])

    def tallies(self) -> list[dict[str, str]]:
        """How often each verdict was given, minute by minute, the current minute first; ``why`` is the last error."""
        now = int(self.now() // 60)
        pipe = self._redis.pipeline(transaction=False)
        for ago in range(VERDICT_MINUTES):
            pipe.hgetall(self.keys.verdicts(now - ago))
        return [
            {kind: text for kind, text in _texts(minute).items() if kind == "why" or _whole(text.encode())}
            for minute in pipe.execute()
        ]

    def alike(self) -> tuple[int, str]:
        """(groups in a row whose every response had one and the same reward, that reward)."""
        groups, reward = self._redis.hmget(self.keys.alike, "groups", "reward")
        return _whole(groups), (reward or b"").decode(errors="replace")

    def dead_letter(self, where: str, group_id: str, reason: str) -> None:
        """Keep the record of something that could not be used."""
        fields = {"where": where, "g": group_id, "worker": self.worker, "reason": reason[:2000]}
        self._redis.xadd(self.keys.dead_letters, fields, maxlen=10_000, approximate=True)

    def dead_letters(self) -> list[dict[str, str]]:
        """Every dead letter: ``where`` (the stream), ``g`` (the group), ``worker`` (who found it), ``reason``; oldest
        first."""
        return [
            {"id": entry_id.decode(), "where": "", "g": "", "worker": "", "reason": ""} | _texts(fields)
            for entry_id, fields in self._redis.xrange(self.keys.dead_letters)
        ]

    def retry(self, group_ids: Iterable[str]) -> list[str]:
        """Ask the learner for the prompts of poisoned groups again; returns those that were not asked for before."""
        return [group_id for group_id in group_ids if self._redis.hsetnx(self.keys.retries, group_id, "")]

    def retried(self, group_id: str, ticket: int) -> None:
        """The prompt of poisoned group ``group_id`` is asked again by ``ticket``."""
        self._redis.hset(self.keys.retries, group_id, str(ticket))

    def retries(self) -> dict[str, str]:
        """Groups whose prompts an operator asked for again, and the ticket that took each over, empty before that."""
        return _texts(self._redis.hgetall(self.keys.retries))

    def payload_sizes(self, group_id: str) -> dict[str, int]:
        """Bytes of what Redis still holds of a group: ticket, responses, scores."""
        pipe = self._redis.pipeline(transaction=False)
        for key in self.keys.parts(group_id):
            pipe.strlen(key)
        return {part: size for part, size in zip(PARTS, pipe.execute(), strict=True) if size}

    def clean(self) -> dict[str, int]:
        """Remove every key of this run and of no other; how many of each kind. SCAN finds what no stream names any
        more (a payload whose manifest never came); the run id has no character that means something to MATCH."""
        removed: Counter[str] = Counter()
        batch: list[bytes] = []
        for key in self._redis.scan_iter(match=self.keys.prefix + "*", count=1000):
            removed[key.decode(errors="replace").removeprefix(self.keys.prefix).split(":")[0]] += 1
            batch.append(key)
            if len(batch) == 500:
                self._redis.unlink(*batch)
                batch.clear()
        if batch:
            self._redis.unlink(*batch)
        return dict(sorted(removed.items()))

    def _stream(self, stream: WorkStream) -> str:
        return self.keys.prefix + stream.value


def _texts(found: dict[bytes, bytes]) -> dict[str, str]:
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in found.items()}


def _whole(text: bytes | None) -> int:
    """The whole number in ``text``; 0 where there is none."""
    return int(text) if text is not None and re.fullmatch(rb"\d{1,18}", text) else 0


def _block_ms(seconds: float) -> int | None:
    """What BLOCK takes: None does not wait, 0 would do so for ever."""
    return max(1, int(seconds * 1000)) if seconds else None


def is_silent(error: RedisError) -> bool:
    """Whether Redis took too long, as opposed to being gone or refusing."""
    return isinstance(error, redis.exceptions.TimeoutError)


def is_foreign(error: RedisError) -> bool:
    """Whether a key was of another type than ours has."""
    return "WRONGTYPE" in str(error)


def refused_or_lost(error: RedisError) -> str:
    """What an error that ended the work says of Redis."""
    return meaning(error) or ("does not answer" if is_silent(error) else "was lost and did not come back")


def runs_at(url: str, connect_s: float = 5.0) -> dict[str, float]:
    """The runs that the Redis at ``url`` holds, as far as we may see them, with the time of the learner's last word: 0
    before the first."""
    probe, found = Bus(url, "any", connect_s=connect_s, retry_s=0.0), dict[str, float]()
    try:
        for key in probe._redis.scan_iter(match="leeway:{*}:config", count=1000):
            run = key.decode(errors="replace").partition("{")[2].partition("}")[0]
            try:
                said_at = probe._redis.hgetall(Keys(run).state).get(b"at", b"0")
                found[run] = float(said_at) if re.fullmatch(rb"\d{1,18}(\.\d{1,18})?", said_at) else 0.0
            except (redis.exceptions.NoPermissionError, ConfigError):  # another user's run, or nobody's
                continue
    finally:
        probe.close()
    return found


Part = TypeVar("Part", Ticket, Responses, Scores)


def decode_part(cls: type[Part], body: bytes, group_id: str) -> Part:
    """The part of group ``group_id`` in ``body``; ``DecodeError`` where it is another group's."""
    part = decode(cls, body)
    if part.group_id != group_id:
        raise DecodeError(f"{cls.__name__}: of group {part.group_id[:64]}, found under group {group_id}")
    return part
