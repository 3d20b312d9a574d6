"""What a Redis server is, and what a user may do there, asked before a run is in it. Nothing is changed."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

from .connection import View
from .entries import GROUP
from .overview import Overview

ASKED = 5
"""How often the time is asked; the fastest answer counts."""
_FORMS = {
    "zadd": "K 0 x",
    "xadd": "K * f v",
    "xrange": "K - +",
    "xrevrange": "K + -",
    "xread": "STREAMS K 0",
    "xreadgroup": f"GROUP {GROUP} doctor STREAMS K >",
    "xclaim": f"K {GROUP} doctor 0 0-0",
    "xpending": f"K {GROUP}",
    "xack": f"K {GROUP} 0-0",
    "xgroup|create": f"CREATE K {GROUP} $",
    "xdel": "K 0-0",
    "zrange": "K 0 -1",
    "zrangebyscore": "K 0 1",
    "zremrangebyscore": "K 0 1",
    "hincrby": "K f 1",
    "incrby": "K 1",
    "expire": "K 1",
    "evalsha": f"{'0' * 40} 1 K",
    "script|load": "LOAD return",
    "script|exists": f"EXISTS {'0' * 40}",
    "scan": "0",
    "cluster|slots": "SLOTS",
    "select": "0",
    **dict.fromkeys(("ping", "time", "info"), ""),
    **dict.fromkeys(("set", "setnx", "zrem", "hget", "hdel", "hmget"), "K x"),
    **dict.fromkeys(("hset", "hsetnx"), "K f v"),
}
"""The words after a command, with K for the key; of others the key alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What a server says of itself."""

    name: str
    version: str
    """Its own release; empty where it does not say."""
    serves: tuple[int, int]
    """The release of Redis whose commands it has."""
    primary: bool
    memory: int
    """Most bytes that it may take; 0: no limit, or it does not say."""
    used: int
    policy: str
    """What it does when its memory is full; empty where it does not say."""
    machine: int
    """Bytes of memory of its machine; 0 where it does not say."""
    append_only: bool | None
    """None where it does not say."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A command that a user may not use with a key, or that the server does not have."""

    command: str
    key: str
    why: str


class Probe(View):
    """Asks a server what it is."""

    def clock(self) -> tuple[float, float]:
        """(seconds that the server's clock is ahead of this machine's, seconds that an answer takes)."""
        found = []
        for _ in range(ASKED):
            started, asked_at = time.monotonic(), time.time()
            there = self.connection.now()
            took = time.monotonic() - started
            found.append((took, there - (asked_at + took / 2)))
        took, ahead = min(found)
        return ahead, took

    def trouble(self) -> str:
        """Why the server takes no writes, in a sentence; empty where it does, or where this user may not know."""
        return Overview(self.connection).trouble()

    def server(self) -> Server | None:
        """What the server says of itself; None where this user may not ask, or the server has no INFO. A managed
        service may leave any field out."""
        try:
            said = self._redis.info()
        except redis.exceptions.ResponseError:
            return None
        release = str(said.get("redis_version", ""))
        first, second, *_ = [int(word) if word.isdecimal() else 0 for word in f"{release}.0".split(".")]
        name = str(said.get("server_name", "redis"))
        return Server(
            name=name.capitalize(),
            version=str(said.get(f"{name}_version", release)),
            serves=(first, second),
            primary=said.get("role", "master") == "master",
            memory=int(said.get("maxmemory", 0)),
            used=int(said.get("used_memory", 0)),
            policy=str(said.get("maxmemory_policy", "")),
            machine=int(said.get("total_system_memory", 0)),
            append_only=bool(int(said["aof_enabled"])) if "aof_enabled" in said else None,
        )

    def refused(self, rights: Iterable[tuple[str, str]]) -> list[Refused]:
        """The commands of ``rights`` that this user may not use. Each is a command, as an ACL names it, and a key.

        They are queued in a transaction that is never executed. The server checks a user's rights when it queues a
        command, so the answer is its own, and nothing is read or written."""
        found = []
        link = self._redis.connection_pool.get_connection()
        try:
            link.send_command("MULTI")
            link.read_response()
            for command, key in rights:
                form = _FORMS.get(command, "K")
                words = [key if word == "K" else word for word in form.split()]
                link.send_command(command.partition("|")[0].upper(), *words)
                error = _error(link)
                assert "wrong number of arguments" not in str(error), f"our own form of {command} is wrong"
                # A full or read-only server refuses too, which says nothing about rights.
                if isinstance(error, redis.exceptions.NoPermissionError) or "unknown command" in str(error):
                    found.append(Refused(command, key, str(error)))
        finally:
            link.disconnect()  # which discards what was queued
            self._redis.connection_pool.release(link)
        return found


def _error(link: Any) -> redis.exceptions.ResponseError | None:
    """The error that the server answers; None where it takes the command."""
    try:
        link.read_response()
    except redis.exceptions.ResponseError as error:
        return error
    return None
