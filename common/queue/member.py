"""What every user of a run may do: read its configuration and state, and say that it lives and what it measures."""

import re
from typing import Any

from ..address import public
from ..codec import ONE_BUILD, SCHEMA, encode, encode_record
from ..errors import ConfigError, NoRunError
from ..types import Heartbeat
from .connection import Connection, View
from .entries import texts

METRICS_KEPT = 2_000  # entries; a view, and the sink is seldom a second behind
_STORED = re.compile(r"(?:# messages of schema (\d+)\n)?(.*)", re.DOTALL)
_FIRST_NOTED = 9
"""The schema of builds that stored a configuration without noting it, at most."""


class Member(View):
    """A process in a run. Who may do more is a subclass, one for each user of ``leeway acl``."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.run, self.worker = connection.run, connection.worker
        self.last_record: dict[str, Any] = {}
        """What this process has measured last."""

    def close(self) -> None:
        """Give the connections back."""
        self.connection.close()

    def now(self) -> float:
        """Unix time by the server's clock, in seconds, as ``Connection.now``."""
        return self.connection.now()

    def load_config(self) -> str:
        """The run's configuration text; ``NoRunError`` where this Redis does not hold the run."""
        return self._stored()[1]

    def schema(self) -> int:
        """The schema of the build that stored the run's configuration."""
        return self._stored()[0]

    def refuse_other_build(self) -> None:
        """``ConfigError`` if the run's messages have another schema than this build's, which could read none of
        them."""
        if (schema := self.schema()) != SCHEMA:
            raise ConfigError(
                f"run {self.run!r} has messages of schema {schema}, and this build speaks {SCHEMA}; {ONE_BUILD}"
            )

    def _stored(self) -> tuple[int, str]:
        """``schema``, and the configuration's text."""
        text: bytes | None = self._redis.get(self.keys.config)
        if text is None:
            raise NoRunError(f"run {self.run!r} is not known to the Redis at {public(self.connection.url)}")
        found = _STORED.fullmatch(text.decode(errors="replace"))
        assert found is not None, "any text matches"
        return int(found[1] or _FIRST_NOTED), found[2]

    def has_run(self) -> bool:
        """Whether this Redis holds the run's configuration."""
        return bool(self._redis.exists(self.keys.config))

    def state(self) -> dict[str, str]:
        """What the learner last said of the run; empty before its first word."""
        return texts(self._redis.hgetall(self.keys.state))

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

    def emit(self, record: dict[str, Any]) -> None:
        """Send a record of measurements to the sink."""
        self.last_record = record
        self._redis.xadd(self.keys.metrics, {"m": encode_record(record)}, maxlen=METRICS_KEPT, approximate=True)


class RunRecord(View):
    """The run's configuration, and the learner's word on how it stands."""

    def store_config(self, text: str) -> None:
        """Keep the run's resolved configuration where every role finds it, with the schema of this build's messages."""
        self._redis.set(self.keys.config, f"# messages of schema {SCHEMA}\n{text}")

    def set_state(self, **values: str | int | float) -> None:
        """The learner's word on the run, for the desk."""
        self._redis.hset(self.keys.state, mapping={key: str(value) for key, value in values.items()})
