"""A process's connection to the Redis of one run: whether it can be reached, its clock, and what its errors mean."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import redis

from .. import asleep
from ..address import Kind, known, public
from ..errors import BrokerError
from ..keys import Keys
from ..reach import why_unreachable
from ..refusals import code_of, meaning
from .client import ANSWER_S, NotThisKindError, Patience, Shard, finder_of, pool_of
from .client import AWAY as AWAY
from .entries import LetterKind

log = logging.getLogger(__name__)

RedisError = redis.exceptions.RedisError

RETRY_S = 60.0  # how long a Redis that has vanished is asked again, before the run's broker.retry_s is known
MOST_CONNECTIONS = 10_000  # of a process: every thread that waits for work holds one; redis-py would stop at 100
_OF_PIPELINE = ") of pipeline caused error: "
_READABLE = {"MISCONF", "NOREPLICAS"}  # refusals, for a full disk or so, that keep nobody from reading and may pass
REFUSED_S = 5.0  # how long a refused write is told of; while it is tried again it is refused more often than that


class _Client(redis.Redis):
    """Notes when Redis has refused a command for want of memory: it is tried again, and nobody else hears of it."""

    refused_at = -REFUSED_S

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        try:
            return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        except redis.exceptions.OutOfMemoryError:
            self.refused_at = time.monotonic()
            raise


class Connection:
    """One process's connection to one run. The classes for its role say what is done over it."""

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
        server that is away, or refuses every write for want of memory or disk, is asked again for ``retry_s``; at 0 it
        has ``connect_s`` to answer."""
        self.url, self.run, self.worker = url, run, worker
        self.keys = Keys(run)
        self.bytes_out = 0
        """Payload bytes written by this process (groups and weights)."""
        self.bytes_in = 0
        """Payload bytes read by this process."""
        self.opened = 0
        """Connections that were opened. Another one may have found another server, or one that has lost something."""
        self._address = known(url)
        self._finder = finder_of(self._address, self.keys.prefix, connect_s)
        times: dict[str, Any] = {"socket_timeout": connect_s, "socket_connect_timeout": connect_s}
        probe = _Client.from_pool(pool_of(self._address, url, self._finder, protocol=2, retry=None, **times))
        with probe:
            self._check_reachable(probe, connect_s, time.monotonic() + patience_s, writes=retry_s > 0)
        # Any: redis-py's annotations are the union of every protocol and decoding; ours is fixed (RESP2, bytes).
        self.redis: Any = _Client.from_pool(
            pool_of(
                self._address,
                url,
                self._finder,
                opened=self._note_opened,
                lasting=retry_s > 0,
                protocol=2,
                retry=Patience(retry_s),
                socket_timeout=ANSWER_S if retry_s else connect_s,
                socket_connect_timeout=connect_s,
                health_check_interval=15,
                max_connections=MOST_CONNECTIONS,
            )
        )
        self._scripts: dict[str, Any] = {}

    def retry_for(self, seconds: float) -> None:
        """From now on ask a server that is away or refuses every write again for so long."""
        self.redis.set_retry(Patience(seconds))

    def _note_opened(self) -> None:
        self.opened += 1

    @property
    def in_cluster(self) -> bool:
        """Whether the address is that of a Redis Cluster."""
        return self._address.kind is Kind.CLUSTER

    @property
    def server(self) -> str:
        """The URL of the server that has the run now."""
        return self.url if self._finder is None else self._address.at(*self._finder.master())

    def shards(self) -> list[Shard]:
        """Every server at the address, those that may take another's place included."""
        return [Shard(self.url, [])] if self._finder is None else self._finder.shards()

    def _check_reachable(self, probe: Any, connect_s: float, until: float, *, writes: bool) -> None:
        try:
            probe.ping()
            if writes and self._finder is None:  # a wrong server is told at once, where later it may come right
                probe.unlink(self.keys.prefix + "nothing")
        except redis.exceptions.NoPermissionError:
            return  # it answers; what this user may do shows when it is done
        except NotThisKindError as error:
            raise BrokerError(f"--redis-url {public(self.url)}: {error}") from None
        except redis.exceptions.AuthenticationError as error:
            raise BrokerError(f"the Redis at {public(self.url)} {refused_or_lost(error)} ({error})") from error
        except (redis.exceptions.RedisError, OSError) as error:
            if code_of(error) in _READABLE:
                return
            if time.monotonic() < until:
                log.warning("no Redis at %s yet: %s", public(self.url), error)
                time.sleep(1.0)
                self._check_reachable(probe, connect_s, until, writes=writes)
                return
            raise BrokerError(self._why_not(error, connect_s)) from error

    def _why_not(self, error: Exception, connect_s: float) -> str:
        at = public(self.url)
        if (known := meaning(error)) is not None:
            return f"the Redis at {at} {known} ({error})"
        silent = f"the Redis at {at} does not answer within {connect_s:g} s"
        timed_out = isinstance(error, redis.exceptions.TimeoutError)
        if timed_out and (stopped := asleep.told("its", asleep.stopped_servers(self._address.nodes))):
            return f"{silent}: {stopped}"
        if (found := why_unreachable(self.url, error)) is not None:
            return found
        if timed_out:
            return f"{silent}: it is frozen or overloaded, or the network to it is gone"
        return f"no Redis at {at}: {error}; start one, or name another with --redis-url"

    def close(self) -> None:
        """Give the connections back."""
        self.redis.close()

    def script(self, text: str, *, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """What the Lua script ``text`` answers."""
        if text not in self._scripts:
            self._scripts[text] = self.redis.register_script(text)
        return self._scripts[text](keys=keys, args=args)

    def now(self) -> float:
        """Unix time by the server's clock, in seconds. Whatever is compared across hosts goes by it: theirs differ."""
        seconds, microseconds = self.redis.time()
        return float(seconds) + float(microseconds) / 1e6

    @property
    def refused(self) -> bool:
        """Whether Redis has just refused what this process writes, for want of memory. A large payload may be refused
        where whoever looks at the memory finds some free."""
        return bool(time.monotonic() - self.redis.refused_at < REFUSED_S)


class View:
    """One user's part of a run, or one that several users share: what may be said over a connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.keys, self._redis = connection, connection.keys, connection.redis

    def dead_letter(self, kind: LetterKind, where: str, group_id: str, reason: str) -> None:
        """Keep the record of something that could not be used. ``where``: its stream, or its key."""
        fields = {
            "kind": kind,
            "where": where,
            "g": group_id,
            "worker": self.connection.worker,
            "reason": reason[:2000],
        }
        self._redis.xadd(self.keys.dead_letters, fields, maxlen=10_000, approximate=True)


def is_silent(error: RedisError) -> bool:
    """Whether Redis took too long, as opposed to being gone or refusing."""
    return isinstance(error, redis.exceptions.TimeoutError)


def is_foreign(error: RedisError) -> bool:
    """Whether a key was of another type than ours has."""
    return "WRONGTYPE" in str(error)


def refused_or_lost(error: RedisError) -> str:
    """What an error that ended the work says of Redis."""
    return meaning(error) or ("does not answer" if is_silent(error) else "was lost and did not come back")


def why_lost(error: RedisError) -> str:
    """The same in a sentence, with the error's own words. redis-py quotes the command of a pipeline, payload and all:
    that is left out."""
    return f"Redis {refused_or_lost(error)}: {str(error).rpartition(_OF_PIPELINE)[2]}"
