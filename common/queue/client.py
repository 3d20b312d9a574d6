"""Makes the client that a connection speaks through: to a server, or to whichever server is the run's at the moment.

All keys of a run have one hash tag, so in a Redis Cluster they lie on one slot, and one server has them all: the master
of that slot. Behind Sentinels it is the master that they name. So the client is the plain one of redis-py in both
cases, with its scripts, transactions and blocking reads, and one thing is added: whenever a connection is opened, it is
asked anew where that server is. A server that has died, was demoted or gave the slot away ends the connection, and the
next try opens one to its successor. (redis-py's ``RedisCluster`` looks for a server at every command, retries by rules
of its own, and asks COMMAND, which a user needs a right for; its ``SentinelConnectionPool`` asks the Sentinels when a
connection is taken from the pool, but a command that is tried again goes to the server of before.)
"""

import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import redis
from redis.cluster import parse_cluster_slots
from redis.connection import Connection as PlainConnection
from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from ..address import Address, Kind

errors = redis.exceptions
Node = tuple[str, int]
"""Host and port of a server."""


class Shard(NamedTuple):
    """A server that takes writes, and the copies that may take its place."""

    master: str
    """Its URL."""
    replicas: list[str]
    """Their URLs."""


class Patience(Retry):
    """Tries again for so many seconds, however long each try takes."""

    def __init__(self, backoff: Any, seconds: float) -> None:
        super().__init__(backoff, retries=-1)
        self._seconds = seconds

    def call_with_retry(self, do: Any, fail: Any, is_retryable: Any = None, with_failure_count: bool = False) -> Any:
        until = time.monotonic() + self._seconds

        def in_time(error: Exception) -> bool:
            return time.monotonic() < until and (is_retryable is None or is_retryable(error))

        return super().call_with_retry(do, fail, in_time, with_failure_count)


class Finder(Protocol):
    """Knows which server is the run's."""

    def master(self) -> Node:
        """Where the run's server is now. ``ConnectionError`` of redis-py where nobody can tell."""

    def shards(self) -> list[Shard]:
        """All servers of the installation."""


class ClusterFinder:
    """Asks the nodes of a cluster which of them is the master of the run's slot (CLUSTER SLOTS)."""

    def __init__(self, address: Address, key: str, connect_s: float) -> None:
        self._address, self._slot, self._connect_s = address, key_slot(key.encode()), connect_s
        self._known: list[Node] = []
        """Every node that was told of: those that are named in the address may leave."""

    def master(self) -> Node:
        for (first, last), servers in self._slots().items():
            if first <= self._slot <= last:
                found: Node = servers["primary"]
                return found
        raise errors.ConnectionError(f"no node of the cluster serves slot {self._slot}, which is the run's")

    def shards(self) -> list[Shard]:
        found = {servers["primary"]: servers["replicas"] for servers in self._slots().values()}
        at = self._address.at
        return [Shard(at(*master), [at(*replica) for replica in found[master]]) for master in sorted(found)]

    def _slots(self) -> dict[tuple[int, int], dict[str, Any]]:
        said, wrong = dict[Node, str](), 0
        nodes = list(dict.fromkeys([*self._known, *self._address.nodes]))
        # In any order: one that the network has cut off from the others would tell the same old story again.
        for host, port in random.sample(nodes, len(nodes)):
            times = {"socket_timeout": self._connect_s, "socket_connect_timeout": self._connect_s}
            try:
                with redis.Redis.from_url(self._address.at(host, port), protocol=2, retry=None, **times) as node:
                    slots = parse_cluster_slots(node.execute_command("CLUSTER SLOTS"), current_host=host)
            except errors.AuthenticationError:
                raise
            except (errors.ConnectionError, errors.TimeoutError) as error:
                said[host, port] = str(error)
                continue
            except errors.ResponseError as error:
                if not any(words in str(error) for words in ("cluster support disabled", "unknown command")):
                    raise
                said[host, port], wrong = f"no node of a cluster ({error})", wrong + 1
                continue
            if slots:
                servers = [each for row in slots.values() for each in (row["primary"], *row["replicas"])]
                self._known = [(str(host), int(port)) for host, port in dict.fromkeys(servers)]
                return slots
            said[host, port] = "no slot of the cluster is served, as far as it knows"
        told = "; ".join(f"{host}:{port}: {why}" for (host, port), why in said.items())
        if wrong == len(nodes):
            scheme = self._address.scheme
            raise NotThisKindError(f"{told}: write {scheme}:// for a server, {scheme}+sentinel:// for a Sentinel")
        raise errors.ConnectionError(told)


_CLIENT = re.compile(r"<redis\.client\..{0,2000}?,host=([^,)]{1,255}),port=(\d{1,5}).{0,2000}?\)>\)>\)>")
"""A client as redis-py names it in its errors."""


class SentinelFinder:
    """Asks Sentinels which server is the master."""

    def __init__(self, address: Address, connect_s: float) -> None:
        self._address, self._turn = address, threading.Lock()
        times = {"socket_timeout": connect_s, "socket_connect_timeout": connect_s, "protocol": 2, "retry": None}
        self._sentinel: Any = Sentinel([])  # type: ignore[no-untyped-call]
        self._sentinel.sentinels = [redis.Redis.from_url(address.at_sentinel(*node), **times) for node in address.nodes]

    def master(self) -> Node:
        found: Node = self._asked(self._sentinel.discover_master)
        return found

    def shards(self) -> list[Shard]:
        replicas = self._asked(self._sentinel.discover_slaves)
        return [Shard(self._address.at(*self.master()), [self._address.at(*node) for node in replicas])]

    def _asked(self, ask: Callable[[str], Any]) -> Any:
        with self._turn:  # it puts the Sentinel that answered first into the first place, which is not safe to threads
            try:
                return ask(self._address.master)
            except MasterNotFoundError as error:
                told = _CLIENT.sub(r"\1:\2", str(error))
                raise errors.ConnectionError(
                    f"the Sentinels know no master {self._address.master!r}, hold it down, or do not answer ({told})"
                ) from error
            except errors.ResponseError as error:
                if "unknown command" not in str(error):
                    raise
                raise NotThisKindError(
                    f"what answers there is no Sentinel: write {self._address.scheme}:// or "
                    f"{self._address.scheme}+cluster:// in the address"
                ) from error


class NotThisKindError(errors.ResponseError):
    """What answers is of another kind than the address says."""


def finder_of(address: Address, key: str, connect_s: float) -> Finder | None:
    """Who knows which server has ``key``; None where the address names the server itself. Asking takes at most
    ``connect_s`` seconds a node."""
    if address.kind is Kind.CLUSTER:
        return ClusterFinder(address, key, connect_s)
    return SentinelFinder(address, connect_s) if address.kind is Kind.SENTINEL else None


class _Link:
    """What a connection does beside: it finds its server when it is opened, and ends where that is the wrong one."""

    def __init__(self, *, finder: Finder | None, opened: Callable[[], object], lasting: bool, **options: Any) -> None:
        super().__init__(**options)
        self._finder, self._opened = finder, opened
        self._wrong = set[str]()
        if lasting or finder is not None:
            # A server that was demoted says so. By a name that is looked up again its successor may be found, too.
            self._wrong |= {"READONLY", "MASTERDOWN", "NOREPLICAS"}
        if finder is not None:
            self._wrong |= {"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"}

    def _connect(self) -> Any:
        if self._finder is not None:
            self.host, self.port = self._finder.master()
        found = super()._connect()  # type: ignore[misc]
        self._opened()
        return found

    def read_response(self, *words: Any, **named: Any) -> Any:
        try:
            return super().read_response(*words, **named)  # type: ignore[misc]
        except errors.ResponseError as error:
            code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
            if code not in self._wrong:
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise errors.ConnectionError(f"{code} {str(error).removeprefix(code).strip()}") from error


class _PlainLink(_Link, PlainConnection):
    pass


class _TlsLink(_Link, SSLConnection):
    pass


class _SocketLink(_Link, UnixDomainSocketConnection):
    pass


_LINKS = {"redis": _PlainLink, "rediss": _TlsLink, "unix": _SocketLink}


def pool_of(
    address: Address,
    url: str,
    finder: Finder | None,
    *,
    opened: Callable[[], object] = lambda: None,
    lasting: bool = False,
    **options: Any,
) -> redis.ConnectionPool:
    """Connections to the run's server. ``opened`` is called for each that is opened. ``lasting``: they go on where the
    server was demoted meanwhile. ``ValueError`` or ``TypeError`` for an option that redis-py does not know."""
    known: dict[str, Any] = parse_url(  # type: ignore[no-untyped-call]
        url if address.kind is Kind.SERVER else address.at(*address.nodes[0])
    )
    known["connection_class"] = _LINKS[address.scheme]
    pool = redis.ConnectionPool(**options | known, finder=finder, opened=opened, lasting=lasting)
    pool.connection_class(**pool.connection_kwargs)  # which opens nothing, and takes no option that it does not know
    return pool
