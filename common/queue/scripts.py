"""The steps that must not be torn apart: Lua scripts, each a typed function. Redis runs one as a single step."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from .connection import Connection
from .entries import GIVEN_BACK_MS, GROUP, VERDICT_MINUTES, HandOver, Job, LetterKind, Taken

MOST_CARRIED = 1 << 20  # bytes that one call carries, that of the last group aside: the server serves nobody else

# KEYS: work stream, tickets... ARGV: of each ticket its bytes and group id.
_ISSUE = """
for i = 2, #KEYS do
  if redis.call('SETNX', KEYS[i], ARGV[2 * i - 3]) == 1 then
    redis.call('XADD', KEYS[1], '*', 'g', ARGV[2 * i - 2])
  end
end
"""


def issue(connection: Connection, stream: str, tickets: Sequence[tuple[str, bytes, str]]) -> None:
    """Write each of ``tickets``, (key, bytes, group id), and announce its group on ``stream``, unless it is there. Many
    take a round trip for every ``MOST_CARRIED`` bytes."""
    keys: list[str] = []
    args: list[str | bytes] = []
    for number, (key, body, group_id) in enumerate(tickets, 1):
        keys.append(key)
        args += [body, group_id]
        if number == len(tickets) or sum(map(len, args)) > MOST_CARRIED:
            connection.script(_ISSUE, keys=[stream, *keys], args=args)
            keys, args = [], []


# A function of the scripts below. KEYS[1]: stream. ARGV[1]: consumer group, [2]: consumer, [first]: count, then bytes
# that are enough, and for each part its key with %s for the group. Returns entry id, group id, part, part, ... of each
# in one list (nested ones take redis-py twice as long to read), or ``err`` where there is no consumer group.
_TAKING = """
local function take(first)
  local taken, carried = {}, 0
  for _ = 1, ARGV[first] do
    local reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', KEYS[1], '>')
    if not reply then break end
    if reply.err then return reply end
    local id, fields = unpack(reply[1][2][1])
    local group = ''
    for i = 1, #fields, 2 do
      if fields[i] == 'g' then group = fields[i + 1] end
    end
    taken[#taken + 1] = id
    taken[#taken + 1] = group
    for i = first + 2, #ARGV do
      local part = string.match(group, '^%d+%-%d+$') and redis.call('MGET', string.format(ARGV[i], group))[1]
      taken[#taken + 1] = part
      carried = carried + (part and #part or 0)
    end
    if carried >= tonumber(ARGV[first + 1]) then break end
  end
  return taken
end
"""

# KEYS: stream. ARGV: consumer group, consumer, as above.
_TAKE = f"{_TAKING} return take(3)"


def take(connection: Connection, stream: str, count: int, parts: Sequence[str]) -> list[Taken]:
    """Lease new entries of ``stream`` to this connection's worker, with the parts of their groups under the keys
    ``parts`` (``%s`` for the group id). At most ``count``, and none after ``MOST_CARRIED`` bytes."""
    args = [GROUP, connection.worker, count, MOST_CARRIED, *parts]
    return _taken(connection.script(_TAKE, keys=[stream], args=args), len(parts))


def _taken(found: list[Any], parts: int) -> list[Taken]:
    return [
        (found[at].decode(), found[at + 1].decode(errors="replace"), found[at + 2 : at + 2 + parts])
        for at in range(0, len(found), 2 + parts)
    ]


# KEYS: this stream, the part it is made from, next stream, payload. ARGV: consumer group, consumer, entry id, bytes,
# group id, as above. What is handed over stays handed over where there is no consumer group to take from.
_HAND_OVER = f"""
{_TAKING}
local outcome = 'gone'
if redis.call('EXISTS', KEYS[2]) == 1 then
  outcome = 'duplicate'
  if redis.call('SETNX', KEYS[4], ARGV[4]) == 1 then
    redis.call('XADD', KEYS[3], '*', 'g', ARGV[5])
    outcome = 'handed'
  end
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
return {{outcome, unpack(take(6))}}
"""


def hand_over(
    connection: Connection,
    job: Job,
    body: bytes,
    *,
    keys: tuple[str, str, str, str],
    count: int,
    parts: Sequence[str],
) -> tuple[HandOver, list[Taken]]:
    """Write ``body`` as the group's payload if nobody has and what it was made from is still there, announce the group,
    acknowledge and delete its entry; and ``take`` from the same stream. ``keys``: stream, the part that it was made
    from, next stream, payload."""
    args = [GROUP, connection.worker, job.entry_id, body, job.group_id, count, MOST_CARRIED, *parts]
    outcome, *found = connection.script(_HAND_OVER, keys=keys, args=args)
    return HandOver(outcome.decode()), _taken(found, len(parts))


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
    connection.script(_GIVE_UP, keys=[ticket, stream, letters], args=[GROUP, job.entry_id, *about])


# KEYS: hash of a minute with %d for the minute, hash of the streak. ARGV: seconds that the first is kept, whether there
# were errors, why, the reward that the whole group got (empty where its responses differ), and kind, number, ...
_TALLY = """
local minute = string.format(KEYS[1], redis.call('TIME')[1] / 60)
for i = 5, #ARGV, 2 do
  redis.call('HINCRBY', minute, ARGV[i], ARGV[i + 1])
end
if ARGV[2] == '1' then
  redis.call('HSET', minute, 'why', ARGV[3])
elseif ARGV[4] ~= '' and redis.call('HGET', KEYS[2], 'reward') == ARGV[4] then
  redis.call('HINCRBY', KEYS[2], 'groups', 1)
else
  redis.call('HSET', KEYS[2], 'reward', ARGV[4], 'groups', ARGV[4] ~= '' and 1 or 0)
end
redis.call('EXPIRE', minute, ARGV[1])
"""


def tally(connection: Connection, kinds: Counter[str], *, why: str | None, alike: str) -> None:
    """Count the verdicts of one group in the hash of this minute, by the server's clock, and whether all its responses
    got the reward ``alike`` (empty where they differ), as the groups before it. ``why``: its last error, if any."""
    keys = [connection.keys.verdicts("%d"), connection.keys.alike]
    numbers = [word for each in kinds.items() for word in each]
    connection.script(
        _TALLY, keys=keys, args=[60 * (VERDICT_MINUTES + 1), int(why is not None), why or "", alike, *numbers]
    )


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
    kept: list[bytes] = connection.script(_RENEW, keys=[stream], args=[GROUP, consumer, *ids])
    return kept


# KEYS: stream. ARGV: consumer group, consumer, entry id, milliseconds idle, deliveries that count.
_RETURN = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) > 0 then
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[4], 'RETRYCOUNT', ARGV[5], 'JUSTID')
end
"""


def give_back(connection: Connection, stream: str, job: Job, deliveries: int) -> None:
    """End the lease of ``job``, where it is still ours, as if it had been delivered so many times."""
    known: list[str | int] = [GROUP, connection.worker, job.entry_id, GIVEN_BACK_MS, deliveries]
    connection.script(_RETURN, keys=[stream], args=known)


# KEYS: hash. ARGV: field, the value it has to have.
_UNSET = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
"""


def unset(connection: Connection, key: str, field: bytes, value: bytes) -> None:
    """Delete a field of a hash that still has this value."""
    connection.script(_UNSET, keys=[key], args=[field, value])


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
    return bool(connection.script(_ANNOUNCE_AGAIN, keys=[stream], args=[GROUP, entry_id, group_id]))


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
    found: list[bytes] = connection.script(_UNWANTED, keys=[stream, *parts], args=[GROUP, *ids])
    return found
