"""Who holds what on the work streams, for whoever keeps the groups' clocks; and whether what is held is still wanted.

A part of ``streams``, apart from it so that both can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from .keys import PARTS
from .streams import GROUP, GROUP_ID, MOST_PENDING, Bus, Job, RedisError, WorkStream

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


class Unwanted(StrEnum):
    """Why nobody wants what a worker is making."""

    REFUNDED = "refunded"
    MADE = "made"
    """Another worker has handed it over."""
    ISSUED_AGAIN = "issued again"
    """Its worker held it for longer than its clock allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One group that was taken from a work stream and has not been handed over."""

    stream: WorkStream
    entry_id: str
    group_id: str
    worker: str
    attempt: int
    silent_s: float
    """Since it was taken or renewed, by the server's clock."""


def leases(bus: Bus) -> tuple[float, list[Lease]]:
    """(``bus.now()``, every lease of prompts and responses), in one round trip."""
    pipe = bus._redis.pipeline(transaction=True)
    pipe.time()
    for stream in (WorkStream.PROMPTS, WorkStream.RESPONSES):
        pipe.xpending_range(bus._stream(stream), GROUP, "-", "+", MOST_PENDING)
        pipe.xrange(bus._stream(stream))
    (seconds, microseconds), *answers = pipe.execute(raise_on_error=False)
    found = []
    for stream, pending, entries in zip(
        (WorkStream.PROMPTS, WorkStream.RESPONSES), answers[::2], answers[1::2], strict=True
    ):
        if isinstance(pending, RedisError) or isinstance(entries, RedisError):
            continue  # no such stream, or no consumer group yet: nobody holds anything
        named = {entry_id: fields.get(b"g", b"").decode(errors="replace") for entry_id, fields in entries}
        found += [
            Lease(
                stream=stream,
                entry_id=lease["message_id"].decode(),
                group_id=named[lease["message_id"]],
                worker=lease["consumer"].decode(errors="replace"),
                attempt=int(lease["times_delivered"]),
                silent_s=lease["time_since_delivered"] / 1000,
            )
            for lease in pending
            if GROUP_ID.fullmatch(named.get(lease["message_id"], ""))
        ]
    return seconds + microseconds / 1e6, found


def announce_again(bus: Bus, lease: Lease) -> bool:
    """Take a group from whoever holds it and give it to the next who asks; False where it was handed over before. The
    payload stays: whichever result comes first counts, and no other."""
    words = [GROUP, lease.entry_id, lease.group_id]
    return bool(bus.script(_ANNOUNCE_AGAIN)(keys=[bus._stream(lease.stream)], args=words))


def unwanted(bus: Bus, jobs: Sequence[Job]) -> dict[str, Unwanted]:
    """Of ``jobs`` (one stream): the entry ids of those whose hand-over would count for nothing, or that somebody else
    was asked for, and why. One whose lease has merely passed to another worker is not among them: the first of both
    counts."""
    if not jobs:
        return {}
    made = PARTS[1] if jobs[0].stream is WorkStream.PROMPTS else PARTS[2]
    made_from = PARTS[PARTS.index(made) - 1]
    parts = [bus.keys.group(job.group_id, part) for job in jobs for part in (made_from, made)]
    try:
        found = bus.script(_UNWANTED)(
            keys=[bus._stream(jobs[0].stream), *parts], args=[GROUP, *(job.entry_id for job in jobs)]
        )
    except RedisError as error:
        if "NOGROUP" not in str(error):
            raise
        return {}
    return {job.entry_id: Unwanted(why.decode()) for job, why in zip(jobs, found, strict=True) if why}
