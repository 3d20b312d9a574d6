"""How a run stands, for whoever looks at it: the desk from outside, and the learner's own watch."""

import logging
import re
from contextlib import nullcontext
from math import isfinite

import redis

from ..activity import Activity, Doing
from ..codec import decode
from ..errors import DecodeError, OtherSchemaError
from ..refusals import OUT_OF_MEMORY, meaning
from ..types import Heartbeat
from ..wording import byte_size
from .client import client_of
from .connection import View, refused_or_lost
from .entries import GROUP, VERDICT_MINUTES, WorkStream, texts, whole

log = logging.getLogger(__name__)

ANSWER_ONCE_S = 5.0  # how long one question about a server's disk may take
_MEMBER = re.compile(rb"[a-z]+/[\x21-\x7e]+")  # ROLE/WORKER


class Overview(View):
    """Workers, depths of the streams, pending entries, verdicts, controls, and whether Redis takes writes."""

    def workers(self) -> tuple[list[Heartbeat], dict[str, float]]:
        """Living workers' heartbeats, and the lost ones (``role/worker``) with the unix time they were last due."""
        found = self._redis.zrange(self.keys.workers, 0, -1, withscores=True)
        due = {member.decode(): at for member, at in found if _MEMBER.fullmatch(member) and isfinite(at)}
        keys = [self.keys.heartbeat(*member.split("/", 1)) for member in due]
        bodies = self._redis.mget(keys) if keys else []
        beats = {member: _heartbeat(member, body, due[member]) for member, body in zip(due, bodies, strict=True)}
        lost = {member: due[member] for member, beat in beats.items() if beat is None}
        return [beat for beat in beats.values() if beat is not None], lost

    def depths(self) -> dict[str, int]:
        """Entries queued or under way on each work stream, and the dead letters."""
        pipe = self._redis.pipeline(transaction=False)
        for stream in WorkStream:
            pipe.xlen(self.keys.prefix + stream)
        pipe.xlen(self.keys.dead_letters)
        return dict(zip([*(stream.value for stream in WorkStream), "dead_letters"], pipe.execute(), strict=True))

    def under_way(self, stream: WorkStream) -> dict[str, int]:
        """Leased entries of a work stream, by worker."""
        try:
            summary = self._redis.xpending(self.keys.prefix + stream, GROUP)
        except redis.exceptions.ResponseError:
            return {}
        return {row["name"].decode(errors="replace"): int(row["pending"]) for row in summary["consumers"] or ()}

    def controls(self) -> dict[str, str]:
        """Live controls as last set by an operator."""
        return texts(self._redis.hgetall(self.keys.controls))

    def tallies(self) -> list[dict[str, str]]:
        """How often each verdict was given, minute by minute, the current minute first; ``why`` is the last error."""
        now = int(self.connection.now() // 60)
        pipe = self._redis.pipeline(transaction=False)
        for ago in range(VERDICT_MINUTES):
            pipe.hgetall(self.keys.verdicts(now - ago))
        return [
            {kind: text for kind, text in texts(minute).items() if kind == "why" or whole(text)}
            for minute in pipe.execute()
        ]

    def alike(self) -> tuple[int, str]:
        """(groups in a row whose every response had one and the same reward, that reward)."""
        groups, reward = self._redis.hmget(self.keys.alike, "groups", "reward")
        return whole(groups), (reward or b"").decode(errors="replace")

    def trouble(self) -> str:
        """Why Redis takes no writes, in a sentence; empty where it does, or where we may not know."""
        try:
            memory, disk = self._redis.info("memory"), self._redis.info("persistence")
        except redis.exceptions.ResponseError:  # this user may not ask, or a managed service does not tell
            memory, disk = {}, {}
        most = int(memory.get("maxmemory", 0))
        used = int(memory.get("used_memory", 0)) - int(memory.get("mem_not_counted_for_evict", 0))
        evicts = str(memory.get("maxmemory_policy", "")).startswith("allkeys")  # and so makes room by itself
        if most and used >= most and not evicts:
            return f"Redis {OUT_OF_MEMORY}; {byte_size(used)} of {byte_size(most)} are used"
        if "err" in (disk.get("aof_last_write_status"), disk.get("aof_last_bgrewrite_status")):
            return "Redis cannot write its append-only file: make room on its disk, and the run goes on by itself"
        unsaved = disk.get("rdb_last_bgsave_status") == "err"
        redis_once = client_of(self.connection.server, ANSWER_ONCE_S) if unsaved else nullcontext(self._redis)
        try:
            with redis_once as asked:  # ours would ask a full disk again and again
                asked.unlink(self.keys.prefix + "nothing")  # changes nothing, and is refused like any other write
        except redis.exceptions.NoPermissionError:
            return ""
        except redis.exceptions.ResponseError as error:
            return f"Redis {refused_or_lost(error)} ({error})"
        except redis.exceptions.ConnectionError as error:
            if meaning(error) is None:
                raise
            return f"Redis {refused_or_lost(error)} ({error})"
        return ""


def _heartbeat(member: str, body: bytes | None, due: float) -> Heartbeat | None:
    """The word of ``member`` that holds until ``due``; None where there is none, or none that can be read. A worker of
    another build lives, and beside its name nothing is known of it."""
    try:
        return None if body is None else decode(Heartbeat, body)
    except OtherSchemaError:
        role, _, worker = member.partition("/")
        return Heartbeat(
            role=role,
            worker=worker,
            version=-1,
            doing=Doing(Activity.UNKNOWN),
            since=due,
            done=0,
            tokens=0,
            busy_s=0.0,
            started=due,
        )
    except DecodeError as error:
        log.warning("a heartbeat of %s that cannot be read: %s", member, error)
        return None
