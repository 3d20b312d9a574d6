"""Makes the client that a connection speaks through: to a server, or to whichever server is the run's at the moment.

All keys of a run have one hash tag, so in a Redis Cluster they lie on one slot, and one server has them all: the master
of that slot. Behind Sentinels it is the master that they name. So the client is the plain one of redis-py in both
cases, with its scripts, transactions and blocking reads, and one thing is added: whenever a connection is opened, it is
asked anew where that server is. A server that has died, was demoted or gave the slot away ends the connection, and the
next try opens one to its successor. (redis-py's ``RedisCluster`` looks for a server at every command, retries by rules
of its own, and asks COMMAND, which a user needs a right for; its ``SentinelConnectionPool`` asks the Sentinels when a
connection is taken from the pool, but a command that is tried again goes to the server of before.)
"""

import copy
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol, TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import parse_cluster_slots
from redis.connection import Connection as PlainConnection
from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import Sentinel

from ..address import Address, Kind
from .asking import NoAnswer, Refusal, Silence, first_answer

errors = redis.exceptions
Node = tuple[str, int]
"""Host and port of a server."""
Slots = dict[tuple[int, int], dict[str, Any]]
"""The servers of each range of slots."""
T = TypeVar("T")


class Shard(NamedTuple):
    """A server that takes writes, and the copies that may take its place."""

    master: str
    """Its URL."""
    replicas: list[str]
    """Their URLs."""


class DiskRefusalError(errors.ResponseError):
    """The server refuses every write, because it cannot save to its disk."""


AWAY = (errors.ConnectionError, errors.TimeoutError, errors.OutOfMemoryError, DiskRefusalError)
"""Errors of a server that is away, frozen, out of memory or without a disk to save to. A command that ends with one was
tried for long."""
ANSWER_S = 30.0
"""Seconds that a role waits for one answer before it asks again on a new connection."""


class Patience(Retry):
    """Tries again for so many seconds, however long each try takes, while the server is away, or refuses every write
    for want of memory or disk.

    All connections of a process share one. When the time of one call is over, no call of another thread is tried again,
    and for as long as one try may take none is tried at all: a role that ends makes several calls more, one after the
    other. The first answer ends that."""

    def __init__(self, seconds: float) -> None:
        backoff = ExponentialWithJitterBackoff(base=0.05, cap=1.0)
        super().__init__(backoff, -1, AWAY)
        self._seconds = seconds
        self._given_up: tuple[Exception, float] | None = None
        """The last error since the time of a call was over, and when that was (monotonic seconds)."""

    def __deepcopy__(self, _: object) -> "Patience":
        return self  # redis-py copies it for each connection

    def call_with_retry(self, do: Any, fail: Any, is_retryable: Any = None, with_failure_count: bool = False) -> Any:
        began = time.monotonic()
        if self._given_up is not None and began - self._given_up[1] < ANSWER_S:
            raise copy.copy(self._given_up[0])  # each thread has its own, because raising one writes its trace into it

        def in_time(error: Exception) -> bool:
            now = time.monotonic()
            if self._given_up is not None or now - began >= self._seconds > 0:
                self._given_up = error, now
            patient = now - began < self._seconds and self._given_up is None
            return patient and (is_retryable is None or is_retryable(error))

        return super().call_with_retry(do, fail, in_time, with_failure_count)

    def answered(self) -> None:
        """Note that the server has answered."""
        self._given_up = None


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

    def _slots(self) -> Slots:
        nodes = list(dict.fromkeys([*self._known, *self._address.nodes]))
        try:
            # In any order: one that the network has cut off from the others would tell the same old story again.
            _, slots = first_answer(random.sample(nodes, len(nodes)), self._slots_by)
        except NoAnswer as error:
            if all(isinstance(why, _OtherKind) for why in error.refusals.values()):
                scheme = self._address.scheme
                raise NotThisKindError(
                    f"{_told(error)}: write {scheme}:// for a server, {scheme}+sentinel:// for a Sentinel"
                ) from None
            raise _all_in_vain(error) from None
        servers = [each for row in slots.values() for each in (row["primary"], *row["replicas"])]
        self._known = [(str(host), int(port)) for host, port in dict.fromkeys(servers)]
        return slots

    def _slots_by(self, node: Node) -> Slots:
        host, port = node
        with client_of(self._address.at(host, port), self._connect_s) as client, _refusals():
            try:
                slots: Slots = parse_cluster_slots(client.execute_command("CLUSTER SLOTS"), current_host=host)
            except errors.ResponseError as error:
                if not any(words in str(error) for words in ("cluster support disabled", "unknown command")):
                    raise
                raise _OtherKind(f"no node of a cluster ({error})") from None
        if not slots:
            raise Refusal("no slot of the cluster is served, as far as it knows")
        return slots


class SentinelFinder:
    """Asks Sentinels which server is the master."""

    def __init__(self, address: Address, connect_s: float) -> None:
        self._address, self._connect_s = address, connect_s
        self._first = address.nodes[0]
        """The Sentinel that has answered last."""
        self._rules: Any = Sentinel([])  # type: ignore[no-untyped-call]

    def master(self) -> Node:
        return self._asked(self._master_by)

    def shards(self) -> list[Shard]:
        replicas = self._asked(self._replicas_by)
        return [Shard(self._address.at(*self.master()), [self._address.at(*node) for node in replicas])]

    def _asked(self, ask: Callable[[Any], T]) -> T:
        def by(node: Node) -> T:
            with client_of(self._address.at_sentinel(*node), self._connect_s) as client, _refusals():
                try:
                    return ask(client)
                except errors.ResponseError as error:
                    if "No such master" in str(error):
                        raise Refusal(self._knows_none) from None
                    if "unknown command" not in str(error):
                        raise
                    raise NotThisKindError(
                        f"what answers there is no Sentinel: write {self._address.scheme}:// or "
                        f"{self._address.scheme}+cluster:// in the address"
                    ) from error

        try:
            self._first, found = first_answer(dict.fromkeys([self._first, *self._address.nodes]), by)
        except NoAnswer as error:
            raise _all_in_vain(error) from None
        return found

    def _master_by(self, sentinel: Any) -> Node:
        state = sentinel.sentinel_masters().get(self._address.master)
        if state is None or not self._rules.check_master_state(state, self._address.master):
            raise Refusal(self._knows_none)
        return state["ip"], state["port"]

    def _replicas_by(self, sentinel: Any) -> list[Node]:
        found: list[Node] = self._rules.filter_slaves(sentinel.sentinel_slaves(self._address.master))
        return found

    @property
    def _knows_none(self) -> str:
        return f"this Sentinel knows no master {self._address.master!r}, or holds it down"


def client_of(url: str, answer_s: float) -> Any:
    """A client that asks each thing once."""
    times = {"socket_timeout": answer_s, "socket_connect_timeout": answer_s}
    return redis.Redis.from_url(url, protocol=2, retry=None, **times)


@contextmanager
def _refusals() -> Iterator[None]:
    """A node that cannot be reached has no answer. One that refuses this user has one: nobody else is asked."""
    try:
        yield
    except errors.AuthenticationError:
        raise
    except errors.TimeoutError as error:
        raise Silence(str(error)) from error
    except errors.ConnectionError as error:
        raise Refusal(str(error)) from error


def _told(error: NoAnswer[Node]) -> str:
    return "; ".join(f"{host}:{port}: {why}" for (host, port), why in sorted(error.refusals.items()))


def _all_in_vain(error: NoAnswer[Node]) -> errors.RedisError:
    """What an installation that has not told its master raises: that it is silent where every node is."""
    silent = all(isinstance(why, Silence) for why in error.refusals.values())
    return (errors.TimeoutError if silent else errors.ConnectionError)(_told(error))


class _OtherKind(Refusal):
    """What answers is no node of a cluster."""


class NotThisKindError(errors.ResponseError):
    """What answers is of another kind than the address says."""


def finder_of(address: Address, key: str, connect_s: float) -> Finder | None:
    """Who knows which server has ``key``; None where the address names the server itself. Each node has ``connect_s``
    seconds to answer, and all of them together little more."""
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

    def _send_ping(self) -> None:
        with suppress(DiskRefusalError):  # a ping is refused as writes are, but whoever only reads is answered
            super()._send_ping()  # type: ignore[misc]

    def read_response(self, *words: Any, **named: Any) -> Any:
        try:
            answer = super().read_response(*words, **named)  # type: ignore[misc]
            if isinstance(self.retry, Patience):  # type: ignore[attr-defined]
                self.retry.answered()  # type: ignore[attr-defined]
            return answer
        except errors.ResponseError as error:
            code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
            if code == "MISCONF":  # which redis-py does not tell from a user's mistake, as it does want of memory
                raise DiskRefusalError(str(error).removeprefix(code).strip(), status_code=code) from error
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
    server was demoted meanwhile."""
    known: dict[str, Any] = parse_url(  # type: ignore[no-untyped-call]
        url if address.kind is Kind.SERVER else address.at(*address.nodes[0])
    )
    known["connection_class"] = _LINKS[address.scheme]
    return redis.ConnectionPool(**options | known, finder=finder, opened=opened, lasting=lasting)
