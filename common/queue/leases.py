"""Who holds what on the work streams, for the learner, which keeps the groups' clocks."""

import redis

from . import scripts
from .connection import RedisError, View
from .entries import GROUP, GROUP_ID, MOST_PENDING, Lease, WorkStream, group_in

_TAKEN = (WorkStream.PROMPTS, WorkStream.RESPONSES)


class WorkerLeases(View):
    """The pending entries (XPENDING) of prompts and responses, whoever their consumer is."""

    def held(self) -> tuple[float, list[Lease]]:
        """(server's time as ``Connection.now``, every lease of prompts and responses), in one round trip."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.time()
        for stream in _TAKEN:
            pipe.xpending_range(self.keys.prefix + stream, GROUP, "-", "+", MOST_PENDING)
            pipe.xrange(self.keys.prefix + stream)
        (seconds, microseconds), *answers = pipe.execute(raise_on_error=False)
        found = []
        for stream, pending, entries in zip(_TAKEN, answers[::2], answers[1::2], strict=True):
            if isinstance(pending, RedisError) or isinstance(entries, RedisError):
                continue  # no such stream, or no consumer group yet: nobody holds anything
            named = {entry_id: group_in(fields) for entry_id, fields in entries}
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

    def announce_again(self, lease: Lease) -> bool:
        """Take a group from whoever holds it and give it to the next who asks; False where it was handed over before.
        The payload stays: whichever result comes first counts, and no other."""
        stream = self.keys.prefix + lease.stream
        return scripts.announce_again(self.connection, stream, lease.entry_id, lease.group_id)

    def begin_future(self) -> None:
        """Have leases that were given while the server's clock was ahead begin now: their holders may be dead, and
        nobody would get the work before the clock is there again. Redis says 0 of how long such an entry has been idle;
        one that was given this very millisecond says so too, and is not harmed."""
        for stream in _TAKEN:
            try:
                pending = self._redis.xpending_range(self.keys.prefix + stream, GROUP, "-", "+", MOST_PENDING)
            except redis.exceptions.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                continue
            for entry in pending:
                if entry["time_since_delivered"] == 0:
                    scripts.renew(self.connection, self.keys.prefix + stream, entry["consumer"], [entry["message_id"]])
