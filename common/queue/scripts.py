"""The steps that must not be torn apart: Lua scripts, each a typed function. Redis runs one as a single step."""

from collections.abc import Sequence
from typing import Any

from .connection import Connection
from .entries import GIVEN_BACK_MS, GROUP, HandOver, Job, LetterKind

# KEYS: ticket, work stream. ARGV: ticket bytes, group id.
_ISSUE = """
if redis.call('SETNX', KEYS[1], ARGV[1]) == 1 then
  redis.call('XADD', KEYS[2], '*', 'g', ARGV[2])
  return 1
end
return 0
"""


def issue(connection: Connection, pipe: Any, keys: tuple[str, str], body: bytes, group_id: str) -> None:
    """Write the ticket ``body`` and announce its group, unless the ticket is there. ``keys``: ticket, work stream. The
    call goes with the pipeline ``pipe``."""
    connection.script(_ISSUE)(keys=keys, args=[body, group_id], client=pipe)


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


def hand_over(
    connection: Connection, job: Job, body: bytes, *, made_from: str, stream: str, onward: str, payload: str
) -> HandOver:
    """Write ``body`` under ``payload`` if nobody has and ``made_from`` is still there, announce the group ``onward``,
    and acknowledge and delete the entry of ``stream``."""
    outcome = connection.script(_HAND_OVER)(
        keys=[made_from, stream, onward, payload], args=[GROUP, job.entry_id, body, job.group_id]
    )
    return HandOver(outcome.decode())


# KEYS: ticket, this stream, dead letters. ARGV: consumer group, entry id, group id, reason, stage, worker, kind. The
# learner reads the dead letters too: no worker needs a right to write where scored groups are announced.
_GIVE_UP = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*',
             'kind', ARGV[7], 'where', ARGV[5], 'g', ARGV[3], 'worker', ARGV[6], 'reason', ARGV[4])
end
redis.call('XACK', KEYS[2], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[2], ARGV[2])
"""


def give_up(connection: Connection, job: Job, reason: str, *, ticket: str, stream: str, letters: str) -> None:
    """Write a dead letter on a group that is still wanted, and acknowledge and delete the entry of ``stream``."""
    about = [job.group_id, reason[:2000], job.stream.value, connection.worker, LetterKind.GIVEN_UP.value]
    connection.script(_GIVE_UP)(keys=[ticket, stream, letters], args=[GROUP, job.entry_id, *about])


# KEYS: hash of the streak. ARGV: the reward that the whole group got, empty where its responses differ.
_ALIKE = """
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'reward') == ARGV[1] then
  redis.call('HINCRBY', KEYS[1], 'groups', 1)
else
  redis.call('HSET', KEYS[1], 'reward', ARGV[1], 'groups', ARGV[1] ~= '' and 1 or 0)
end
"""


def count_alike(connection: Connection, streak: str, reward: str) -> None:
    """One more group whose responses all got ``reward``; empty where they differ."""
    connection.script(_ALIKE)(keys=[streak], args=[reward])


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


def renew(connection: Connection, stream: str, consumer: str | bytes, ids: Sequence[str | bytes]) -> list[bytes]:
    """Begin the leases of ``consumer`` anew; the ids of those entries that are still pending under its name."""
    kept: list[bytes] = connection.script(_RENEW)(keys=[stream], args=[GROUP, consumer, *ids])
    return kept


# KEYS: stream. ARGV: consumer group, consumer, entry id, milliseconds idle, deliveries that count.
_RETURN = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) > 0 then
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[4], 'RETRYCOUNT', ARGV[5], 'JUSTID')
end
"""


def give_back(connection: Connection, stream: str, job: Job) -> None:
    """End the lease of ``job``, where it is still ours, as if it had not been delivered this time."""
    known: list[str | int] = [GROUP, connection.worker, job.entry_id, GIVEN_BACK_MS, job.attempt - 1]
    connection.script(_RETURN)(keys=[stream], args=known)


# KEYS: hash. ARGV: field, the value it has to have.
_UNSET = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
"""


def unset(connection: Connection, key: str, field: bytes, value: bytes) -> None:
    """Delete a field of a hash that still has this value."""
    connection.script(_UNSET)(keys=[key], args=[field, value])


# KEYS: stream. ARGV: consumer group, entry id, group id. In one step: a group that was handed over, or given up, in the
# meantime is not announced again.
_ANNOUNCE_AGAIN = """
if redis.call('XDEL', KEYS[1], ARGV[2]) == 0 then
  return 0
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XADD', KEYS[1], '*', 'g', ARGV[3])
return 1
"""


def announce_again(connection: Connection, stream: str, entry_id: str, group_id: str) -> bool:
    """Put a new entry for the group in the place of one that is still on the stream."""
    return bool(connection.script(_ANNOUNCE_AGAIN)(keys=[stream], args=[GROUP, entry_id, group_id]))


# KEYS: stream, and for each entry the part it is made from and the part that is made. ARGV: consumer group, entry ids…
# The pending list first: where Redis came back empty it raises, and nothing is said of what was lost with it.
_UNWANTED = """
local found = {}
for i = 2, #ARGV do
  local pending = #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  local why = ''
  if redis.call('EXISTS', KEYS[2 * i - 2]) == 0 then
    why = 'refunded'
  elseif redis.call('EXISTS', KEYS[2 * i - 1]) == 1 then
    why = 'made'
  elseif pending == 0 then
    why = 'issued again'
  end
  found[i - 1] = why
end
return found
"""


def unwanted(connection: Connection, stream: str, ids: Sequence[str], parts: Sequence[str]) -> list[bytes]:
    """For each entry why nobody wants it, empty where somebody does. ``parts``: for each the key of the part that it is
    made from, and of the part that is made."""
    found: list[bytes] = connection.script(_UNWANTED)(keys=[stream, *parts], args=[GROUP, *ids])
    return found
